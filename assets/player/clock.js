// Playback: where it is follows from when it began, never from counting ticks, so nothing adds up to a drift.

class Clock {
  constructor() {
    Object.assign(this, { fps: 8, count: 1, speed: 1, loop: true, playing: false, from: 0, since: 0 });
  }

  position(now) {
    // The time of an animation frame may lie a little before the event that came ahead of it.
    const passed = this.playing ? Math.max(0, now - this.since) / 1000 : 0;
    const at = this.from + passed * this.fps * this.speed;
    return this.loop ? at % this.count : Math.min(at, this.count);
  }

  frame(now) {
    return Math.min(Math.floor(this.position(now)), this.count - 1);
  }

  ended(now) {
    return this.playing && !this.loop && this.position(now) >= this.count;
  }

  // Go on from where it is now, with other settings.
  change(now, settings) {
    const from = this.position(now);
    Object.assign(this, settings);
    this.from = from < this.count ? from : this.count - 1;
    this.since = now;
  }
}
