// The player: 1 to 12 clips in one clock, side by side, laid over each other, as differences or as flicker.
//
// It runs inside Gradio and in a plain file opened from disk: it fetches nothing but the sheets that the data names.
// The clips of a task stand in a row (class `is-row` of its element); those of a comparison in a grid, of which a narrow
// screen shows one at a time.

const NARROW = 480; // below this width one clip of a grid is shown at a time
const SMALLEST = 200; // a clip is not shown smaller than this where it can have a row of its own
const PAIRED = 760; // below this width a row shows two clips beside each other
const GAP = 14;

class Player {
  constructor(root, options) {
    Object.assign(this, { root, options, tiles: [], frame: 0, view: "clips", gain: 4, chosen: null, at: 0 });
    Object.assign(this, { focused: false, narrow: false, crisp: false, dirty: true, scale: 0, data: { tiles: [] } });
    this.inRow = root.classList.contains("is-row");
    this.picked = { left: null, right: null, reference: null };
    this.wipe = { left: null, right: null };
    this.reference = null;
    this.clock = new Clock();
    this.camera = new Camera();
    this.stop = new AbortController();
    this.build();
    this.listen();
  }

  build() {
    const { root } = this;
    root.replaceChildren();
    root.classList.toggle("follows-system", !root.closest(".gradio-container"));
    root.classList.toggle("has-choice", Boolean(this.options.onChoose));
    root.tabIndex = 0;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Clips in one clock. Space plays and pauses, the arrow keys go from frame to frame.");
    this.grid = make("div", "bdp-grid");
    this.empty = make("p", "bdp-nothing");
    this.over = new Wipe(this);
    this.keys = new Keys(this);
    this.views = new Views(this);
    this.pager = new Pager(this);
    this.transport = new Transport(this);
    this.readout = new Readout(this.options.onFilm);
    // The transport stays in sight over the clips and never over what stands above them.
    const deck = make("div", "bdp-deck");
    deck.append(this.empty, this.grid, this.over.box, this.pager.box, this.transport.box);
    root.append(this.views.bar, this.views.settings, deck, this.keys.help, this.readout.box);
  }

  listen() {
    const { signal } = this.stop;
    document.addEventListener("keydown", (event) => this.keys.hear(event), { signal });
    stillness.addEventListener("change", () => stillness.matches && this.play(false), { signal });
    // In a turn of its own: an observer that changes what it observes is an error to the browser.
    this.watcher = new ResizeObserver(() => requestAnimationFrame(() => this.arrange()));
    this.watcher.observe(this.root);
  }

  start(data) {
    this.play(!stillness.matches);
    this.update(data);
    const tick = (now) => {
      if (!this.root.isConnected) return this.destroy();
      this.tick(now);
      return requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  destroy() {
    this.stop.abort();
    this.watcher.disconnect();
    for (const tile of this.tiles) tile.remove();
    this.tiles = [];
  }

  // The clock

  tick(now) {
    if (this.clock.ended(now)) this.pauseAt(this.clock.count - 1);
    const frame = this.clock.frame(now);
    if (this.dirty || frame !== this.frame) this.drawAll(frame);
  }

  play(on) {
    const now = performance.now();
    const atEnd = on && !this.clock.loop && this.frame === this.clock.count - 1;
    this.clock.change(now, { playing: on });
    // It goes on from the frame one sees, and stays on it.
    this.clock.from = atEnd ? 0 : this.frame;
    this.transport.tellPlaying(on);
    this.root.dataset.playing = on;
  }

  pauseAt(frame) {
    this.frame = clamp(frame, 0, this.clock.count - 1);
    this.play(false);
    this.drawAll(this.frame);
  }

  seek(frame) {
    this.pauseAt(frame);
  }

  step(by) {
    this.pauseAt((this.frame + by + this.clock.count) % this.clock.count);
  }

  setSpeed(speed) {
    this.clock.change(performance.now(), { speed });
    this.transport.speed.value = String(speed);
  }

  repeat(on) {
    this.clock.change(performance.now(), { loop: on });
    press(this.transport.looping, on);
  }

  // Drawing: every canvas in the same turn, so the clips cannot come apart.

  drawAll(frame) {
    this.frame = frame;
    this.dirty = false;
    const reference = this.tiles[this.reference];
    for (const tile of this.tiles) tile.draw(frame, tile.material(this.view, reference, this.gain));
    if (this.view === "wipe") this.over.draw(frame);
    this.transport.tellFrame(frame, this.clock.count);
    this.root.dataset.frame = frame;
  }

  // One scale for all heat maps, or they could not be compared.
  paintHeats() {
    const mapped = this.tiles.filter((tile) => tile.flicker);
    const high = Math.max(0, ...mapped.map((tile) => tile.flicker.high));
    this.scale = ROUND_LEVELS.find((level) => level >= high) ?? 255;
    for (const { flicker } of mapped) if (flicker.scale !== this.scale) paintHeat(flicker, this.scale);
  }

  // What is shown

  show(view) {
    this.view = view;
    this.refresh();
  }

  amplify(gain) {
    this.gain = gain;
    this.refresh();
  }

  sharpen() {
    this.crisp = !this.crisp;
    press(this.views.sharp, this.crisp);
    this.root.classList.toggle("is-crisp", this.crisp);
  }

  enlarge(index) {
    if (index !== null && index >= this.tiles.length) return;
    this.focused = index !== null;
    if (this.focused) this.at = index;
    if (this.view === "wipe" && this.focused) this.show("clips");
    this.arrange();
  }

  turn(by) {
    if (!this.solo || !this.tiles.length) return;
    this.goTo(clamp(this.at + by, 0, this.tiles.length - 1));
  }

  goTo(index) {
    this.at = index;
    this.arrange();
  }

  get solo() {
    return this.focused || (this.narrow && !this.inRow);
  }

  // What the clips were made of is there to be compared with, and no choice.
  isBefore(index) {
    return index < (this.data.before ?? 0);
  }

  choose(index) {
    if (!this.options.onChoose || !this.tiles[index]?.bitmap || this.isBefore(index)) return;
    this.chosen = index;
    this.markChosen();
    this.options.onChoose(index);
  }

  markChosen() {
    this.tiles.forEach((tile, index) => tile.markChosen(index === this.chosen));
  }

  zoomBy(by) {
    this.camera.zoom(by);
    this.look();
  }

  resetZoom() {
    this.camera.reset();
    this.look();
  }

  // One transform for all pictures: zooming draws nothing anew and cannot differ between them.
  look() {
    const { z, x, y } = this.camera;
    this.root.style.setProperty("--zoom", z);
    this.root.style.setProperty("--left", `${-100 * x * z}%`);
    this.root.style.setProperty("--top", `${-100 * y * z}%`);
    this.root.classList.toggle("is-zoomed", z > 1);
    this.views.tellZoom(z);
  }

  // Values

  update(data) {
    const before = this.tiles.map((tile) => tile.fullName);
    this.data = data || { tiles: [] };
    const { tiles } = this.data;
    while (this.tiles.length > tiles.length) this.tiles.pop().remove();
    while (this.tiles.length < tiles.length) {
      const tile = new Tile(this, this.tiles.length);
      this.tiles.push(tile);
      this.grid.append(tile.box);
    }
    const count = this.data.numFrames || Math.max(1, ...tiles.map(({ sheet }) => sheet?.count ?? 1));
    const fps = this.data.fps || 8;
    if (count !== this.clock.count || fps !== this.clock.fps) this.clock.change(performance.now(), { count, fps });
    this.transport.scrubber.max = count - 1;
    tiles.forEach((tile, index) => this.tiles[index].fill(tile));
    for (const tile of this.tiles) { // once all are filled: they look at each other
      tile.load(tile.data.sheet || null);
      tile.loadHeat(tile.data.heat || null);
    }
    this.readout.fill(this.data);
    this.forget((index) => this.tiles[index]?.fullName !== before[index]);
    this.refresh();
  }

  // A choice holds for as long as the clip in its place is the same.
  forget(gone) {
    if (this.chosen !== null && gone(this.chosen)) this.chosen = null;
    for (const which of Object.keys(this.picked)) {
      if (this.picked[which] !== null && gone(this.picked[which])) this.picked[which] = null;
    }
    if (this.focused && gone(this.at)) this.focused = false;
    this.at = clamp(this.at, 0, Math.max(0, this.tiles.length - 1));
    if (Number.isInteger(this.data.chosen) && this.tiles[this.data.chosen]) this.chosen = this.data.chosen;
  }

  // After anything has come or changed: which clips the views take, and what is said about them.
  refresh() {
    const ready = this.tiles.filter((tile) => tile.bitmap);
    const taken = (which, other) => (this.tiles[this.picked[which]]?.bitmap ? this.picked[which] : other?.index ?? null);
    // Of a task the large ones matter most, frame by frame and bridged; of a comparison the frames and what is recommended.
    const pair = this.inRow ? [...ready].sort((one, other) => Boolean(one.data.main) - Boolean(other.data.main)).slice(-2) : ready;
    const best = this.inRow ? undefined : ready.find((tile) => tile.index === this.data.recommended);
    this.wipe = { left: taken("left", pair[0]), right: taken("right", best ?? pair.at(-1)) };
    this.reference = taken("reference", ready[0]);
    if (ready.length < 2 && OF_TWO.includes(this.view)) this.view = "clips";
    if (this.view === "flicker" && !this.tiles.some((tile) => tile.flicker)) this.view = "clips";
    this.paintHeats();
    this.root.dataset.view = this.view;
    this.tiles.forEach((tile, index) => {
      const compared = this.view === "difference" && index === this.reference;
      tile.mark(index === this.data.recommended, index === this.data.paper, compared);
    });
    const [shape] = ready;
    if (shape) this.root.style.setProperty("--aspect", shape.sheet.width / shape.sheet.height);
    this.empty.hidden = Boolean(this.tiles.length);
    this.empty.textContent = this.data.note || "The clips will be shown here, side by side.";
    this.root.classList.toggle("is-idle", !ready.length);
    this.transport.allow(ready.length > 0);
    this.markChosen();
    this.views.refresh(ready);
    this.over.tell();
    this.arrange();
    this.dirty = true;
  }

  // How many clips beside each other, and which.
  arrange() {
    const width = this.root.clientWidth;
    if (!width) return; // on a tab that is not open
    this.narrow = width < NARROW;
    const { solo, tiles } = this;
    this.root.classList.toggle("is-solo", solo);
    this.root.classList.toggle("is-narrow", this.narrow);
    this.root.style.setProperty("--columns", solo ? 1 : this.columns(width));
    this.grid.hidden = this.view === "wipe" || !tiles.length;
    this.over.box.hidden = this.view !== "wipe";
    this.pager.box.hidden = !solo || this.view === "wipe" || tiles.length < 2;
    this.pager.all.hidden = !this.focused || (this.narrow && !this.inRow);
    tiles.forEach((tile, index) => { tile.box.hidden = solo && index !== this.at; });
    this.pager.refresh();
  }

  columns(width) {
    const count = this.tiles.length || 1;
    if (this.inRow) return Math.min(count, width < PAIRED ? 2 : 5);
    const most = Math.max(1, Math.floor((width + GAP) / (SMALLEST + GAP)));
    return Math.ceil(count / Math.ceil(count / most));
  }

  state() {
    const { frame, view, gain, chosen, at, focused, narrow, solo, reference, scale, clock, camera, tiles } = this;
    const { count: numFrames, fps, speed, loop, playing } = clock;
    return {
      frame, numFrames, fps, speed, loop, playing, view, gain, chosen, at, focused, narrow, solo, reference, scale,
      zoom: { z: camera.z, x: camera.x, y: camera.y },
      wipe: { ...this.wipe, share: this.over.share },
      ready: tiles.map((tile) => Boolean(tile.bitmap)),
      drawn: tiles.map((tile) => tile.drawn),
      loading: tiles.some((tile) => !tile.failed && addressOf(tile.sheet) !== tile.source),
    };
  }
}

// `options.onChoose(index)` is told which clip is chosen; without it there is nothing to choose.
// `options.onFilm(film)` is told which film is wanted, of the downloads that are made when they are asked for.
function mountPlayer(root, data, options = {}) {
  const player = new Player(root, options);
  player.start(data);
  return {
    state: () => player.state(),
    update: (value) => player.update(value),
    play: (on) => player.play(on),
    seek: (frame) => player.seek(frame),
    setSpeed: (speed) => player.setSpeed(speed),
    setLoop: (on) => player.repeat(on),
    show: (view) => player.show(view),
    enlarge: (index) => player.enlarge(index),
    destroy: () => player.destroy(),
  };
}

window.bdStudio = {
  mountPlayer, decoded, place, drawFrame, make, part, icon, title, button, tool, press, write, clamp, stillness,
};
