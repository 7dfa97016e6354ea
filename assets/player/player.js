// The comparison player: 2 to 12 clips in one clock, side by side, laid over each other, as differences or as flicker.
// In it: the clock, drawing, zoom, keys, gestures; one function, `mountComparePlayer(root, data, options)`.
// Not in it: looks (compare_player.css), what the data holds and where it comes from (tabs/compare_player.py).
// It runs inside Gradio and in a plain file opened from disk: it fetches nothing but the sheets that the data names.
// All text of the data is set as text, never as markup.

const mountComparePlayer = (() => {
  "use strict";

  const SPEEDS = [0.25, 0.5, 0.75, 1, 1.5, 2];
  const GAINS = [1, 2, 4, 8, 16];
  const VIEWS = {
    clips: ["Clips", "The clips as they are"],
    wipe: ["Wipe", "Lay one clip over another, with a line to drag between them"],
    difference: ["Difference", "How far each clip is from one of them"],
    flicker: ["Flicker", "How much each place changes from one frame to the next"],
  };
  const KEYS = [
    ["Space", "play or pause"], ["← →", "one frame back or on"], ["Home, End", "first or last frame"],
    ["1 to 9", "enlarge a clip"], ["Page Up, Page Down", "the clip before or after it"], ["Esc", "back to all clips"],
    ["+ − 0", "zoom in, out, reset"], ["Shift + arrows", "move what is shown"],
    ["Drag, wheel, pinch", "move and zoom; a double click resets"],
  ];
  // From nothing to much, even to eyes that see few colours; its first colour must be black, which says "nothing".
  const HEAT = [[0, 0, 0], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
  const NICE = [2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 255];
  const NARROW = 480; // below this width one clip is shown at a time
  const SMALLEST = 200; // a clip is not shown smaller than this where it can have a row of its own
  const GAP = 14;
  const MOST_ZOOM = 16;
  const SLACK = 6; // pixels a pointer may move and still have tapped
  const SWIPE = 36; // pixels that make a swipe
  const OWN_KEYS = "input, textarea, select, [contenteditable], [tabindex], [role=tab], [role=slider]";

  function tool(classes, content, label, act, told = label) {
    const made = button(classes, content, act);
    title(made, label);
    made.title = told;
    return made;
  }

  function picker(label, choose) {
    const box = make("label", "bdc-picker", label);
    const select = make("select", "bdc-select");
    select.setAttribute("aria-label", label);
    select.addEventListener("change", () => choose(Number(select.value)));
    box.append(select);
    return { box, select };
  }

  // Options are made anew only where they have changed: a list that is open stays open.
  function offer(select, options, value) {
    const texts = JSON.stringify(options);
    if (select.dataset.options !== texts) {
      select.dataset.options = texts;
      select.replaceChildren(...options.map(([key, text]) => new Option(text, key)));
    }
    select.value = String(value);
  }

  function shownNumber(value) {
    return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "none";
  }

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

  // What part of the pictures is seen: `x` and `y` are its left and upper edge, as shares of the picture.
  class Camera {
    constructor() {
      this.reset();
    }

    reset() {
      Object.assign(this, { z: 1, x: 0, y: 0 });
    }

    // `across` and `down` say where in the picture's box the point is that stays in its place.
    zoom(by, across = 0.5, down = 0.5) {
      const z = clamp(this.z * by, 1, MOST_ZOOM);
      const [x, y] = [this.x + across / this.z - across / z, this.y + down / this.z - down / z];
      this.z = z;
      this.move(x, y);
    }

    pan(across, down) {
      this.move(this.x - across / this.z, this.y - down / this.z);
    }

    move(x, y) {
      const room = 1 - 1 / this.z;
      Object.assign(this, { x: clamp(x, 0, room), y: clamp(y, 0, room) });
    }
  }

  function place(sheet, frame) {
    const held = Math.min(frame, sheet.count - 1);
    return [(held % sheet.columns) * sheet.width, Math.floor(held / sheet.columns) * sheet.height];
  }

  function fit(canvas, width, height) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  }

  function drawFrame(canvas, sheet, source, frame) {
    fit(canvas, sheet.width, sheet.height);
    const at = source.still ? [0, 0] : place(sheet, frame);
    canvas.getContext("2d").drawImage(
      source.still || source, ...at, sheet.width, sheet.height, 0, 0, sheet.width, sheet.height,
    );
  }

  // How far a cell's frame is from that of the cell it is held against, `gain` times as bright.
  function drawDifference(canvas, cell, { against, gain }, frame) {
    drawFrame(canvas, cell.sheet, cell.bitmap, frame);
    const pen = canvas.getContext("2d");
    const { width, height } = against.sheet;
    pen.globalCompositeOperation = "difference";
    pen.drawImage(against.bitmap, ...place(against.sheet, frame), width, height, 0, 0, canvas.width, canvas.height);
    pen.globalCompositeOperation = "lighter";
    for (let done = 1; done < gain; done *= 2) pen.drawImage(canvas, 0, 0);
    pen.globalCompositeOperation = "source-over";
  }

  // For each place the mean absolute change between neighbouring frames, over colours, in levels of 255.
  function changes({ sheet, bitmap }) {
    const { width, height, count } = sheet;
    const canvas = make("canvas");
    Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const read = (frame) => {
      pen.drawImage(bitmap, ...place(sheet, frame), width, height, 0, 0, width, height);
      return pen.getImageData(0, 0, width, height).data;
    };
    const map = new Float32Array(width * height);
    let before = read(0);
    for (let frame = 1; frame < count; frame += 1) {
      const after = read(frame);
      for (let at = 0, from = 0; at < map.length; at += 1, from += 4) {
        map[at] += Math.abs(after[from] - before[from]) + Math.abs(after[from + 1] - before[from + 1])
          + Math.abs(after[from + 2] - before[from + 2]);
      }
      before = after;
    }
    const parts = 3 * Math.max(1, count - 1);
    let sum = 0;
    for (let at = 0; at < map.length; at += 1) {
      map[at] /= parts;
      sum += map[at];
    }
    // A few places that flash must not make all others look calm.
    const high = map.slice().sort()[Math.floor(0.995 * (map.length - 1))];
    return { map, high, mean: sum / map.length, scale: 0, picture: canvas };
  }

  const SHADES = Array.from({ length: 256 }, (_, level) => {
    const at = (level / 255) * (HEAT.length - 1);
    const low = Math.min(Math.floor(at), HEAT.length - 2);
    return HEAT[low].map((value, part) => Math.round(value + (at - low) * (HEAT[low + 1][part] - value)));
  });

  function paintHeat(flicker, scale) {
    const { map, picture } = flicker;
    const pen = picture.getContext("2d");
    const pixels = pen.createImageData(picture.width, picture.height);
    for (let at = 0; at < map.length; at += 1) {
      const shade = SHADES[Math.min(255, Math.round((255 * map[at]) / scale))];
      pixels.data.set(shade, 4 * at);
      pixels.data[4 * at + 3] = 255;
    }
    pen.putImageData(pixels, 0, 0);
    flicker.scale = scale;
  }

  // Pointers on a picture: tap, drag, swipe, pinch, wheel, double click. `take` may have a drag for itself.
  function followPointers(area, player, { tap, swipe, take }) {
    const pointers = new Map();
    let travelled = null;
    const share = ({ clientX, clientY }) => {
      const box = area.getBoundingClientRect();
      return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
    };
    const middle = () => {
      const [a, b] = [...pointers.values()];
      return { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
    };
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY));
    };
    const pan = (from, to) => {
      const [a, b] = [share(from), share(to)];
      player.camera.pan(b[0] - a[0], b[1] - a[1]);
    };
    const pinch = (event) => {
      const [was, far] = [middle(), spread()];
      pointers.set(event.pointerId, event);
      player.camera.zoom(spread() / far, ...share(was));
      pan(was, middle());
      player.look();
    };
    const drag = (event) => {
      const last = pointers.get(event.pointerId);
      pointers.set(event.pointerId, event);
      if (take?.(share(event), travelled.target) || player.camera.z === 1) return;
      pan(last, event);
      player.look();
    };

    area.addEventListener("pointerdown", (event) => {
      if (event.button || event.target.closest("button")) return;
      area.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      if (pointers.size > 1) travelled = null;
      else {
        travelled = { x: event.clientX, y: event.clientY, far: 0, target: event.target };
        take?.(share(event), event.target);
      }
    });
    area.addEventListener("pointermove", (event) => {
      if (!pointers.has(event.pointerId)) return;
      if (pointers.size > 1) return void pinch(event);
      if (!travelled) return void pointers.set(event.pointerId, event); // what is left of a pinch
      travelled.far = Math.max(travelled.far, Math.hypot(event.clientX - travelled.x, event.clientY - travelled.y));
      if (travelled.far > SLACK) drag(event);
    });
    area.addEventListener("pointerup", (event) => {
      if (!pointers.delete(event.pointerId) || !travelled) return;
      const [x, y] = [event.clientX - travelled.x, event.clientY - travelled.y];
      if (travelled.far <= SLACK) tap?.();
      else if (player.camera.z === 1 && Math.abs(x) > SWIPE && Math.abs(x) > 1.5 * Math.abs(y)) swipe?.(x < 0 ? 1 : -1);
      travelled = null;
    });
    area.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); travelled = null; });
    area.addEventListener("dblclick", (event) => { if (!event.target.closest("button")) player.resetZoom(); });
    area.addEventListener("wheel", (event) => {
      const by = Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015));
      // Who only scrolls past must not be held up: the wheel zooms where one is already at work.
      const meant = event.ctrlKey || event.metaKey || player.root.contains(document.activeElement);
      if (!meant || (by < 1 && player.camera.z === 1)) return;
      event.preventDefault();
      player.camera.zoom(by, ...share(event));
      player.look();
    }, { passive: false });
  }

  // One clip: its picture with what is written on it, and what is written below.
  class Cell {
    constructor(player, index) {
      Object.assign(this, { player, index, sheet: null, bitmap: null, source: "", failed: false });
      Object.assign(this, { flicker: null, drawn: null, drawnScale: 0 });
      this.box = make("figure", "bdc-cell");
      this.picture = make("div", "bdc-picture");
      this.canvas = make("canvas");
      this.note = make("p", "bdc-note");
      this.title = make("strong");
      this.sublabel = make("span");
      this.badges = make("div", "bdc-badges");
      this.mean = make("span", "bdc-mean");
      this.scores = make("dl", "bdc-scores");
      const key = index < 9 ? String(index + 1) : "";
      this.enlarge = tool("bdc-enlarge", "enlarge", "", () => player.enlarge(player.focused ? null : index));
      this.enlarge.append(make("span", "", key));
      this.choose = tool("bdc-choose", "Choose", "", () => player.choose(index));
      this.canvas.setAttribute("role", "img");
      this.assemble();
      followPointers(this.picture, player, {
        tap: () => this.bitmap && player.choose(index),
        swipe: (by) => player.turn(by),
      });
    }

    assemble() {
      const label = make("div", "bdc-label");
      const caption = make("figcaption");
      label.append(this.title, this.sublabel);
      caption.append(this.choose, this.scores);
      this.picture.append(this.canvas, this.note, label, this.badges, this.mean, this.enlarge);
      this.box.append(this.picture, caption);
    }

    get fullName() {
      return [this.label, this.data.sublabel].filter(Boolean).join(", ");
    }

    fill(data) {
      this.data = data;
      this.label = data.label;
      this.title.textContent = data.label;
      this.sublabel.textContent = data.sublabel || "";
      this.sublabel.hidden = !data.sublabel;
      title(this.enlarge, `Enlarge ${this.fullName}${this.index < 9 ? `, key ${this.index + 1}` : ""}`);
      this.scores.replaceChildren(...Object.entries(data.scores || {}).map(([score, value]) => {
        const pair = make("div");
        pair.append(make("dt", "", score), make("dd", "", shownNumber(value)));
        return pair;
      }));
      this.load(data.sheet || null);
    }

    mark(recommended, paper, reference) {
      const badges = [
        [recommended, "recommended", "Recommended"], [paper, "paper", "The paper's"], [reference, "reference", "Reference"],
      ].filter(([on]) => on);
      this.badges.replaceChildren(...badges.map(([, kind, text]) => make("span", `bdc-badge is-${kind}`, text)));
      this.box.classList.toggle("is-recommended", recommended);
      this.box.classList.toggle("is-paper", paper);
    }

    markChosen(on) {
      this.box.classList.toggle("is-chosen", on);
      this.choose.textContent = on ? "✓ Chosen" : "Choose";
      title(this.choose, on ? `${this.fullName}, chosen` : `Choose ${this.fullName}`);
      press(this.choose, on);
      this.choose.disabled = !this.bitmap;
    }

    load(sheet) {
      const source = sheet ? sheet.src.url || sheet.src : "";
      if (source !== this.source) {
        Object.assign(this, { source, failed: false });
        if (sheet) this.decode(source, sheet);
        else this.take(null, null);
      }
      this.say();
    }

    // Until the new sheet is there the old one stays, so that nothing blinks.
    async decode(source, sheet) {
      const image = new Image();
      image.src = source;
      try {
        await image.decode();
        const bitmap = await createImageBitmap(image);
        if (this.source === source) this.take(sheet, bitmap);
        else bitmap.close();
      } catch {
        if (this.source !== source) return;
        this.failed = true;
        this.take(null, null);
      }
    }

    take(sheet, bitmap) {
      this.bitmap?.close();
      Object.assign(this, { sheet, bitmap, flicker: null, drawn: null, drawnScale: 0 });
      this.say();
      this.player.refresh();
    }

    say() {
      const { bitmap, data, failed } = this;
      const waiting = data.pending ? "Being made" : "Not made yet";
      this.note.textContent = failed ? "This clip could not be loaded. Run the comparison again." : data.note || waiting;
      this.note.hidden = Boolean(bitmap);
      this.box.classList.toggle("is-empty", !bitmap);
      this.box.classList.toggle("is-pending", Boolean(data.pending));
      this.canvas.setAttribute("aria-label", `${this.fullName}: ${bitmap ? `${this.sheet.count} frames` : this.note.textContent}`);
      if (bitmap) this.picture.style.aspectRatio = `${this.sheet.width} / ${this.sheet.height}`;
      else this.picture.style.removeProperty("aspect-ratio");
    }

    // What is drawn in this view, or null while it is being made.
    material(view, reference, gain) {
      if (view === "flicker") return this.flicker?.scale ? { still: this.flicker.picture } : null;
      if (view === "difference" && this !== reference) return { against: reference, gain };
      return this.bitmap;
    }

    draw(frame, source) {
      if (!this.bitmap || !source) {
        this.drawn = null;
        if (!this.bitmap) this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
        return;
      }
      // A heat map is the same at every frame.
      const scale = source.still ? this.flicker.scale : 0;
      if (source.against) drawDifference(this.canvas, this, source, frame);
      else if (!scale || scale !== this.drawnScale) drawFrame(this.canvas, this.sheet, source, frame);
      Object.assign(this, { drawn: frame, drawnScale: scale });
    }

    remove() {
      this.source = "";
      this.bitmap?.close();
      this.box.remove();
    }
  }

  // Two clips over each other, the left one up to the line.
  class Wipe {
    constructor(player) {
      Object.assign(this, { player, share: 0.5 });
      this.box = make("div", "bdc-wipe");
      this.stage = make("div", "bdc-picture bdc-stage");
      this.layers = ["right", "left"].map((side) => {
        const layer = make("div", `bdc-layer is-${side}`);
        const canvas = make("canvas");
        const label = make("div", `bdc-label is-${side}`);
        layer.append(canvas);
        return { side, layer, canvas, label };
      });
      this.divider = make("div", "bdc-divider");
      this.divider.tabIndex = 0;
      this.divider.setAttribute("role", "slider");
      this.divider.setAttribute("aria-label", "Where the left clip ends");
      this.divider.setAttribute("aria-valuemin", "0");
      this.divider.setAttribute("aria-valuemax", "100");
      this.stage.append(
        ...this.layers.map(({ layer }) => layer), ...this.layers.map(({ label }) => label), this.divider,
      );
      this.box.append(this.stage);
      followPointers(this.stage, player, { take: ([across], target) => this.drag(across, target) });
      this.divider.addEventListener("keydown", (event) => this.onKey(event));
    }

    // A drag moves the line; once zoomed in it moves the picture, unless it begins on the line.
    drag(across, target) {
      if (this.player.camera.z > 1 && target !== this.divider) return false;
      this.move(across);
      return true;
    }

    onKey(event) {
      const by = event.shiftKey ? 0.1 : 0.02;
      const moves = {
        ArrowLeft: this.share - by, ArrowDown: this.share - by, ArrowRight: this.share + by,
        ArrowUp: this.share + by, Home: 0, End: 1,
      };
      if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault(); // which also keeps the player from going to another frame
      this.move(moves[event.key]);
    }

    move(share) {
      this.share = clamp(share, 0, 1);
      this.tell();
    }

    tell() {
      const { wipe } = this.player;
      const [left, right] = [this.player.cells[wipe.left], this.player.cells[wipe.right]];
      const shown = Math.round(100 * this.share);
      this.stage.style.setProperty("--share", `${100 * this.share}%`);
      this.divider.setAttribute("aria-valuenow", shown);
      this.divider.setAttribute("aria-valuetext", `${shown}% ${left?.fullName}, ${100 - shown}% ${right?.fullName}`);
      if (left?.sheet) this.stage.style.setProperty("--aspect", left.sheet.width / left.sheet.height);
      for (const { side, canvas, label } of this.layers) {
        const cell = side === "left" ? left : right;
        label.replaceChildren(make("strong", "", cell?.label ?? ""), make("span", "", cell?.data.sublabel || ""));
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `${cell?.fullName}, ${side} of the line`);
      }
    }

    draw(frame) {
      for (const { side, canvas } of this.layers) {
        const cell = this.player.cells[this.player.wipe[side]];
        if (cell?.bitmap) drawFrame(canvas, cell.sheet, cell.bitmap, frame);
      }
    }
  }

  class Player {
    constructor(root, options) {
      Object.assign(this, { root, options, cells: [], frame: 0, view: "clips", gain: 4, chosen: null, at: 0 });
      Object.assign(this, { focused: false, narrow: false, crisp: false, dirty: true, scale: 0, data: { cells: [] } });
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
      root.classList.add("bd-compare");
      root.classList.toggle("follows-system", !root.closest(".gradio-container"));
      root.classList.toggle("has-choice", Boolean(this.options.onChoose));
      root.tabIndex = 0;
      root.setAttribute("role", "group");
      root.setAttribute("aria-label", "Clips in one clock. Space plays and pauses, the arrow keys go from frame to frame.");
      this.grid = make("div", "bdc-grid");
      this.empty = make("p", "bdc-nothing");
      this.over = new Wipe(this);
      this.help = make("dl", "bdc-help");
      this.help.hidden = true;
      for (const [keys, act] of KEYS) {
        const pair = make("div");
        pair.append(make("dt", "", keys), make("dd", "", act));
        this.help.append(pair);
      }
      root.append(
        this.buildViews(), this.buildOptions(), this.empty, this.grid, this.over.box, this.buildPager(),
        this.buildTransport(), this.help,
      );
    }

    buildViews() {
      const bar = make("div", "bdc-bar bdc-views");
      const views = make("div", "bdc-segments");
      views.setAttribute("role", "group");
      views.setAttribute("aria-label", "What is shown");
      this.viewButtons = Object.entries(VIEWS).map(([view, [text, title]]) => {
        const made = tool("bdc-segment", text, text, () => this.show(view), title);
        made.dataset.view = view;
        return made;
      });
      views.append(...this.viewButtons);
      const zoom = make("div", "bdc-zoom");
      this.zoomed = tool("bdc-tool bdc-percent", "100%", "Show whole pictures", () => this.resetZoom());
      const crisp = "Show every pixel instead of smoothing between them";
      this.sharp = tool("bdc-tool", "Crisp", "Crisp", () => this.sharpen(), crisp);
      zoom.append(
        tool("bdc-tool", "less", "Zoom out, all clips", () => this.zoomBy(1 / 1.5)), this.zoomed,
        tool("bdc-tool", "more", "Zoom in, all clips", () => this.zoomBy(1.5)), this.sharp,
      );
      bar.append(views, zoom);
      return bar;
    }

    buildOptions() {
      this.settings = make("div", "bdc-settings");
      const pick = (which) => (index) => { this.picked[which] = index; this.refresh(); };
      this.pickers = {
        left: picker("Left", pick("left")), right: picker("Right", pick("right")),
        reference: picker("Compared with", pick("reference")), gain: picker("Amplified", (gain) => this.amplify(gain)),
      };
      this.legend = make("div", "bdc-legend");
      this.ramp = make("div", "bdc-ramp");
      this.low = make("span", "", "0");
      this.high = make("span");
      this.says = make("p");
      const scale = make("div", "bdc-scale");
      scale.append(this.low, this.ramp, this.high);
      this.legend.append(scale, this.says);
      this.settings.append(...Object.values(this.pickers).map(({ box }) => box), this.legend);
      return this.settings;
    }

    buildPager() {
      this.pager = make("div", "bdc-pager");
      this.dots = make("div", "bdc-dots");
      this.all = tool("bdc-tool bdc-all", "All clips", "All clips", () => this.enlarge(null), "Back to all clips (Esc)");
      this.pager.append(
        tool("bdc-tool", "before", "Clip before", () => this.turn(-1)), this.dots,
        tool("bdc-tool", "after", "Clip after", () => this.turn(1)), this.all,
      );
      return this.pager;
    }

    buildTransport() {
      const bar = make("div", "bdc-bar bdc-transport");
      this.playing = tool("bdc-tool bdc-play", "pause", "Pause", () => this.play(!this.clock.playing));
      this.scrubber = make("input", "bdc-scrubber");
      this.place = make("output", "bdc-place");
      this.speed = make("select", "bdc-select bdc-speed");
      this.looping = tool("bdc-tool", "loop", "Play again and again", () => this.repeat(!this.clock.loop));
      Object.assign(this.scrubber, { type: "range", min: 0, step: 1, value: 0 });
      title(this.scrubber, "Frame");
      title(this.speed, "Playback speed");
      offer(this.speed, SPEEDS.map((speed) => [speed, `${speed}×`]), 1);
      press(this.looping, true);
      this.keys = tool("bdc-tool bdc-keys", "Keys", "Keys", () => this.explain(), "What the keys do");
      this.keys.setAttribute("aria-expanded", "false");
      bar.append(
        tool("bdc-tool", "back", "One frame back", () => this.step(-1)), this.playing,
        tool("bdc-tool", "on", "One frame on", () => this.step(1)), this.scrubber, this.place, this.speed,
        this.looping, this.keys,
      );
      return bar;
    }

    listen() {
      const { signal } = this.stop;
      this.scrubber.addEventListener("input", () => this.seek(Number(this.scrubber.value)));
      this.speed.addEventListener("change", () => this.setSpeed(Number(this.speed.value)));
      document.addEventListener("keydown", (event) => this.onKey(event), { signal });
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
      for (const cell of this.cells) cell.remove();
      this.cells = [];
    }

    // The clock

    tick(now) {
      if (this.clock.ended(now)) this.pauseAt(this.clock.count - 1);
      const frame = this.clock.frame(now);
      const made = this.view === "flicker" && this.prepareFlicker();
      if (made || this.dirty || frame !== this.frame) this.drawAll(frame);
    }

    play(on) {
      const now = performance.now();
      const atEnd = on && !this.clock.loop && this.frame === this.clock.count - 1;
      this.clock.change(now, { playing: on });
      // It goes on from the frame one sees, and stays on it.
      this.clock.from = atEnd ? 0 : this.frame;
      this.playing.replaceChildren(icon(on ? "pause" : "play"));
      title(this.playing, on ? "Pause" : "Play");
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
      this.speed.value = String(speed);
    }

    repeat(on) {
      this.clock.change(performance.now(), { loop: on });
      press(this.looping, on);
    }

    // Drawing: every canvas in the same turn, so the clips cannot come apart.
    drawAll(frame) {
      this.frame = frame;
      this.dirty = false;
      const reference = this.cells[this.reference];
      for (const cell of this.cells) cell.draw(frame, cell.material(this.view, reference, this.gain));
      if (this.view === "wipe") this.over.draw(frame);
      this.scrubber.value = frame;
      this.place.textContent = `${frame + 1} / ${this.clock.count}`;
      this.root.dataset.frame = frame;
    }

    // A heat map is made for one clip at each turn, once: playback goes on meanwhile.
    prepareFlicker() {
      const measured = this.cells.find((cell) => cell.bitmap && !cell.flicker);
      if (measured) {
        measured.flicker = changes(measured);
        measured.mean.textContent = `mean ${shownNumber(measured.flicker.mean)}`;
        const high = Math.max(...this.cells.map((cell) => cell.flicker?.high ?? 0));
        this.scale = NICE.find((level) => level >= high) ?? 255;
        this.tellLegend();
      }
      // One scale for all, or they could not be compared.
      const stale = this.cells.find((cell) => cell.flicker && cell.flicker.scale !== this.scale);
      if (stale) paintHeat(stale.flicker, this.scale);
      return Boolean(stale);
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
      press(this.sharp, this.crisp);
      this.root.classList.toggle("is-crisp", this.crisp);
    }

    explain() {
      this.help.hidden = !this.help.hidden;
      this.keys.setAttribute("aria-expanded", String(!this.help.hidden));
    }

    enlarge(index) {
      if (index !== null && index >= this.cells.length) return;
      this.focused = index !== null;
      if (this.focused) this.at = index;
      if (this.view === "wipe" && this.focused) this.show("clips");
      this.arrange();
    }

    turn(by) {
      if (!this.solo || !this.cells.length) return;
      this.at = clamp(this.at + by, 0, this.cells.length - 1);
      this.arrange();
    }

    get solo() {
      return this.focused || this.narrow;
    }

    choose(index) {
      if (!this.options.onChoose || !this.cells[index]?.bitmap) return;
      this.chosen = index;
      this.markChosen();
      this.options.onChoose(index);
    }

    markChosen() {
      this.cells.forEach((cell, index) => cell.markChosen(index === this.chosen));
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
      this.zoomed.textContent = `${Math.round(100 * z)}%`;
    }

    // Values

    update(data) {
      const before = this.cells.map((cell) => cell.fullName);
      this.data = data || { cells: [] };
      const { cells } = this.data;
      while (this.cells.length > cells.length) this.cells.pop().remove();
      while (this.cells.length < cells.length) {
        const cell = new Cell(this, this.cells.length);
        this.cells.push(cell);
        this.grid.append(cell.box);
      }
      const count = this.data.numFrames || Math.max(1, ...cells.map(({ sheet }) => sheet?.count ?? 1));
      const fps = this.data.fps || 8;
      if (count !== this.clock.count || fps !== this.clock.fps) this.clock.change(performance.now(), { count, fps });
      this.scrubber.max = count - 1;
      cells.forEach((cell, index) => this.cells[index].fill(cell));
      this.forget((index) => this.cells[index]?.fullName !== before[index]);
      this.refresh();
    }

    // A choice holds for as long as the clip in its place is the same.
    forget(gone) {
      if (this.chosen !== null && gone(this.chosen)) this.chosen = null;
      for (const which of Object.keys(this.picked)) {
        if (this.picked[which] !== null && gone(this.picked[which])) this.picked[which] = null;
      }
      if (this.focused && gone(this.at)) this.focused = false;
      this.at = clamp(this.at, 0, Math.max(0, this.cells.length - 1));
      if (Number.isInteger(this.data.chosen) && this.cells[this.data.chosen]) this.chosen = this.data.chosen;
    }

    // After anything has come or changed: which clips the views take, and what is said about them.
    refresh() {
      const ready = this.cells.filter((cell) => cell.bitmap);
      const taken = (which, other) => (this.cells[this.picked[which]]?.bitmap ? this.picked[which] : other?.index ?? null);
      this.wipe = { left: taken("left", ready[0]), right: taken("right", ready.at(-1)) };
      this.reference = taken("reference", ready[0]);
      if (ready.length < 2 && ["wipe", "difference"].includes(this.view)) this.view = "clips";
      const options = ready.map((cell) => [cell.index, cell.fullName]);
      for (const side of ["left", "right"]) offer(this.pickers[side].select, options, this.wipe[side]);
      offer(this.pickers.reference.select, options, this.reference);
      offer(this.pickers.gain.select, GAINS.map((gain) => [gain, `${gain}×`]), this.gain);
      this.cells.forEach((cell, index) => {
        const compared = this.view === "difference" && index === this.reference;
        cell.mark(index === this.data.recommended, index === this.data.paper, compared);
      });
      for (const made of this.viewButtons) {
        press(made, made.dataset.view === this.view);
        made.disabled = ready.length < (["wipe", "difference"].includes(made.dataset.view) ? 2 : 1);
      }
      const [shape] = ready;
      if (shape) this.root.style.setProperty("--aspect", shape.sheet.width / shape.sheet.height);
      this.empty.hidden = Boolean(this.cells.length);
      this.empty.textContent = this.data.note || "The clips will be shown here, side by side.";
      this.root.classList.toggle("is-idle", !ready.length);
      this.markChosen();
      this.tellLegend();
      this.over.tell();
      this.arrange();
      this.dirty = true;
    }

    tellLegend() {
      const { view, pickers } = this;
      const lossy = this.data.lossy ? " The pictures of this page are compressed: a few levels may be their encoder's." : "";
      this.root.dataset.view = view;
      this.settings.hidden = view === "clips";
      for (const which of ["left", "right"]) pickers[which].box.hidden = view !== "wipe";
      for (const which of ["reference", "gain"]) pickers[which].box.hidden = view !== "difference";
      this.legend.hidden = !["difference", "flicker"].includes(view);
      if (view === "difference") {
        const most = Math.floor(255 / this.gain);
        this.ramp.style.backgroundImage = "linear-gradient(90deg, #000, #fff)";
        this.high.textContent = String(most);
        const from = this.cells[this.reference]?.label;
        this.says.textContent = `How far each clip is from “${from}”, in levels of 255. Black is the same.${lossy}`;
      } else if (view === "flicker") {
        this.ramp.style.backgroundImage = `linear-gradient(90deg, ${HEAT.map((color) => `rgb(${color.join(" ")})`).join(", ")})`;
        this.high.textContent = String(this.scale);
        this.says.textContent = `How much each place changes from one frame to the next, in levels of 255. Movement counts, too.${lossy}`;
      }
    }

    // How many clips beside each other, and which.
    arrange() {
      const width = this.root.clientWidth;
      if (!width) return; // on a tab that is not open
      this.narrow = width < NARROW;
      const { solo, cells } = this;
      const most = Math.max(1, Math.floor((width + GAP) / (SMALLEST + GAP)));
      const columns = Math.ceil(cells.length / Math.ceil(cells.length / most)) || 1;
      this.root.classList.toggle("is-solo", solo);
      this.root.classList.toggle("is-narrow", this.narrow);
      this.root.style.setProperty("--columns", solo ? 1 : columns);
      this.grid.hidden = this.view === "wipe" || !cells.length;
      this.over.box.hidden = this.view !== "wipe";
      this.pager.hidden = !solo || this.view === "wipe" || cells.length < 2;
      this.all.hidden = !this.focused || this.narrow;
      cells.forEach((cell, index) => { cell.box.hidden = solo && index !== this.at; });
      this.tellDots();
    }

    tellDots() {
      while (this.dots.children.length > this.cells.length) this.dots.lastChild.remove();
      while (this.dots.children.length < this.cells.length) {
        const index = this.dots.children.length;
        this.dots.append(tool("bdc-dot", "", "", () => { this.at = index; this.arrange(); }));
      }
      this.cells.forEach((cell, index) => {
        const dot = this.dots.children[index];
        title(dot, `Show ${cell.fullName}`);
        dot.classList.toggle("is-recommended", index === this.data.recommended);
        dot.classList.toggle("is-paper", index === this.data.paper);
        if (index === this.at) dot.setAttribute("aria-current", "true");
        else dot.removeAttribute("aria-current");
      });
    }

    // Keys

    onKey(event) {
      if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || !this.hears(event)) return;
      const act = event.shiftKey ? this.panKey(event.key) : this.plainKey(event.key);
      if (!act) return;
      event.preventDefault();
      act();
    }

    // Keys are for the player where it has the focus, or is pointed at while nothing else takes keys.
    hears(event) {
      const { target } = event;
      const inside = this.root.contains(target);
      if (!inside && !this.root.matches(":hover")) return false;
      if (inside ? target.closest("select") : target.closest?.(OWN_KEYS)) return false;
      return !([" ", "Enter"].includes(event.key) && target.closest?.("button, a, summary"));
    }

    plainKey(key) {
      if (/^[1-9]$/.test(key)) return () => this.enlarge(Number(key) - 1);
      if (key === "Escape") return this.focused ? () => this.enlarge(null) : null;
      if (key === "PageUp" || key === "PageDown") return this.solo ? () => this.turn(key === "PageUp" ? -1 : 1) : null;
      return {
        " ": () => this.play(!this.clock.playing),
        ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1),
        Home: () => this.seek(0), End: () => this.seek(this.clock.count - 1),
        "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5),
        0: () => this.resetZoom(),
      }[key];
    }

    panKey(key) {
      if (key === "+") return () => this.zoomBy(1.5); // on many keyboards it is typed with shift
      const by = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[key];
      return by && (() => { this.camera.pan(...by); this.look(); });
    }

    state() {
      const { frame, view, gain, chosen, at, focused, narrow, solo, reference, scale, clock, camera, cells } = this;
      const { count: numFrames, fps, speed, loop, playing } = clock;
      return {
        frame, numFrames, fps, speed, loop, playing, view, gain, chosen, at, focused, narrow, solo, reference, scale,
        zoom: { z: camera.z, x: camera.x, y: camera.y },
        wipe: { ...this.wipe, share: this.over.share },
        ready: cells.map((cell) => Boolean(cell.bitmap)),
        drawn: cells.map((cell) => cell.drawn),
      };
    }
  }

  // `options.onChoose(index)` is told which clip is chosen; without it there is nothing to choose.
  return (root, data, options = {}) => {
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
  };
})();
