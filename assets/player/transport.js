// The bar of the clock: play and pause, one frame back and on, the place in the clip, speed, loop, and what keys do.

const SPEEDS = [0.25, 0.5, 0.75, 1, 1.5, 2];

class Transport {
  constructor(player) {
    this.player = player;
    this.box = make("div", "bdp-bar bdp-transport");
    this.playing = tool("bdp-tool bdp-play", "pause", "Pause", () => player.play(!player.clock.playing));
    this.scrubber = make("input", "bdp-scrubber");
    this.place = make("output", "bdp-place");
    this.speed = make("select", "bdp-select bdp-speed");
    this.looping = tool("bdp-tool bdp-loop", "loop", "Play again and again", () => player.repeat(!player.clock.loop));
    Object.assign(this.scrubber, { type: "range", min: 0, step: 1, value: 0 });
    title(this.scrubber, "Frame");
    title(this.speed, "Playback speed");
    offer(this.speed, SPEEDS.map((speed) => [speed, `${speed}×`]), 1);
    press(this.looping, true);
    this.scrubber.addEventListener("input", () => player.seek(Number(this.scrubber.value)));
    this.speed.addEventListener("change", () => player.setSpeed(Number(this.speed.value)));
    this.box.append(
      tool("bdp-tool", "back", "One frame back", () => player.step(-1)), this.playing,
      tool("bdp-tool", "on", "One frame on", () => player.step(1)), this.scrubber, this.place, this.speed,
      this.looping, player.keys.button,
    );
  }

  tellPlaying(on) {
    this.playing.replaceChildren(icon(on ? "pause" : "play"));
    title(this.playing, on ? "Pause" : "Play");
  }

  tellFrame(frame, count) {
    this.scrubber.value = frame;
    this.place.textContent = `${frame + 1} / ${count}`;
  }

  // Nothing can be played before there is a clip.
  allow(on) {
    for (const one of this.box.querySelectorAll("button:not(.bdp-keys), input, select")) one.disabled = !on;
  }
}
