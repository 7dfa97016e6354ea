// The synchronised player: clips beside each other, always at the same frame.
// In it: drawing, playback, keys, and the wipe, which lays one clip over another. Not in it: looks (style.css), what the value holds (tabs/player.py).
// Given by Gradio: element, props, watch. All text from the server is set as text, never as markup.

const root = element.querySelector(".bd-player");
const SPEEDS = [0.25, 0.5, 1, 2];
const state = { tiles: [], frame: 0, count: 1, fps: 8, speed: 1, playing: !stillness.matches, crisp: false, since: 0 };
const wipe = { open: false, share: 0.5, names: [null, null], chosen: [null, null] };

function tool(name, label, act) {
  const made = button(`bd-tool bd-tool-${name}`, name, act);
  title(made, label);
  return made;
}

function link(file, label, withText) {
  const made = make("a", withText ? "bd-download" : "bd-keep");
  made.href = file.url;
  made.download = file.orig_name || "";
  made.append(icon("save"));
  if (withText) made.append(make("span", "", label));
  else {
    made.setAttribute("aria-label", label);
    made.title = label;
  }
  return made;
}

// The frame that never changes: tiles above, tools below, then the wipe and what a run says.
const tiles = make("div", "bd-tiles");
const tools = make("div", "bd-tools");
const extras = make("div", "bd-extras");
const playing = tool("pause", "Pause", () => play(!state.playing));
const scrubber = make("input", "bd-scrubber");
const place = make("output", "bd-place");
const speed = make("select", "bd-speed");
const crisp = make("button", "bd-tool bd-crisp", "Crisp");
Object.assign(scrubber, { type: "range", min: 0, step: 1, value: 0 });
scrubber.setAttribute("aria-label", "Frame");
speed.setAttribute("aria-label", "Playback speed");
for (const rate of SPEEDS) speed.append(new Option(`${rate}×`, rate, rate === 1, rate === 1));
crisp.type = "button";
crisp.title = "Show every pixel instead of smoothing between them";
crisp.setAttribute("aria-pressed", "false");
tools.append(
  tool("back", "One frame back", () => step(-1)), playing, tool("on", "One frame on", () => step(1)),
  scrubber, place, speed, crisp,
);

const wiping = make("button", "bd-tool bd-word", "Wipe");
const over = make("div", "bd-wipe");
const stage = make("div", "bd-picture bd-stage");
const both = make("canvas");
const divider = make("div", "bd-divider");
const sides = ["Left", "Right"].map((name) => {
  const box = make("label", "bd-side", name);
  const select = make("select");
  select.setAttribute("aria-label", `${name} clip`);
  box.append(select);
  return { box, select };
});
wiping.type = "button";
wiping.title = "Lay one clip over another, with a line to drag between them";
both.setAttribute("role", "img");
divider.tabIndex = 0;
divider.setAttribute("role", "slider");
divider.setAttribute("aria-label", "Where the left clip ends");
divider.setAttribute("aria-valuemin", "0");
divider.setAttribute("aria-valuemax", "100");
stage.append(both, divider);
over.append(stage, make("div", "bd-sides-of-wipe"));
over.lastChild.append(...sides.map(({ box }) => box));
tools.append(wiping);
root.append(tiles, tools, over, extras);
openWipe(false);

wiping.addEventListener("click", () => openWipe(!wipe.open));
sides.forEach(({ select }, side) => select.addEventListener("change", () => {
  wipe.names[side] = wipe.chosen[side] = select.value;
  drawWipe();
}));
for (const name of ["pointerdown", "pointermove"]) {
  stage.addEventListener(name, (event) => {
    if (name === "pointerdown") {
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      divider.focus({ preventScroll: true });
    } else if (!stage.hasPointerCapture(event.pointerId)) return;
    const box = stage.getBoundingClientRect();
    moveDivider((event.clientX - box.left) / box.width);
  });
}
divider.addEventListener("keydown", (event) => {
  const by = event.shiftKey ? 0.1 : 0.02;
  const moves = {
    ArrowLeft: wipe.share - by, ArrowDown: wipe.share - by, ArrowRight: wipe.share + by, ArrowUp: wipe.share + by,
    Home: 0, End: 1,
  };
  if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  event.stopPropagation(); // the player would go to another frame
  moveDivider(moves[event.key]);
});

function openWipe(on) {
  wipe.open = on;
  over.hidden = !on;
  wiping.setAttribute("aria-pressed", String(on));
  drawWipe();
}

function moveDivider(share) {
  wipe.share = Math.min(Math.max(share, 0), 1);
  drawWipe();
}

// The clips that can be laid over each other, and which two are: the chosen ones, or the last two.
function fillWipe() {
  const names = state.tiles.filter((tile) => tile.sheet || tile.source).map((tile) => tile.box.dataset.label);
  wiping.disabled = names.length < 2;
  wiping.hidden = state.tiles.length < 2;
  if (names.length < 2) openWipe(false);
  sides.forEach(({ select }, side) => {
    wipe.names[side] = names.includes(wipe.chosen[side]) ? wipe.chosen[side] : names.at(side - 2) ?? null;
    if ([...select.options].map((option) => option.value).join() !== names.join()) {
      select.replaceChildren(...names.map((name) => new Option(name, name)));
    }
    select.value = wipe.names[side];
  });
  both.setAttribute("aria-label", `${wipe.names[0]} to the left of the line, ${wipe.names[1]} to the right`);
  drawWipe();
}

function drawWipe() {
  const shown = Math.round(100 * wipe.share);
  divider.style.left = `${100 * wipe.share}%`;
  divider.setAttribute("aria-valuenow", shown);
  divider.setAttribute("aria-valuetext", `${shown}% ${wipe.names[0]}, ${100 - shown}% ${wipe.names[1]}`);
  if (!wipe.open) return;
  const [left, right] = wipe.names.map((name) => state.tiles.find((tile) => tile.box.dataset.label === name));
  if (!left?.image || !right?.image) return;
  const width = Math.max(left.sheet.width, right.sheet.width);
  const height = Math.max(left.sheet.height, right.sheet.height);
  if (both.width !== width || both.height !== height) Object.assign(both, { width, height });
  const pen = both.getContext("2d");
  pen.drawImage(right.canvas, 0, 0, width, height);
  const cut = wipe.share * left.canvas.width;
  if (cut >= 1) pen.drawImage(left.canvas, 0, 0, cut, left.canvas.height, 0, 0, wipe.share * width, height);
  both.dataset.frame = state.frame;
}

root.tabIndex = 0;
root.setAttribute("role", "group");
root.setAttribute("aria-label", "Clips in step. Space plays and pauses, the arrow keys go from frame to frame.");

scrubber.addEventListener("input", () => { play(false); show(Number(scrubber.value)); });
speed.addEventListener("change", () => { state.speed = Number(speed.value); });
crisp.addEventListener("click", () => {
  state.crisp = !state.crisp;
  crisp.setAttribute("aria-pressed", String(state.crisp));
  root.classList.toggle("is-crisp", state.crisp);
});
root.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "SELECT") return;
  const acts = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    Home: () => { play(false); show(0); }, End: () => { play(false); show(state.count - 1); },
    " ": () => play(!state.playing),
  };
  const act = acts[event.key];
  if (!act || (event.key === " " && event.target.closest("button, a"))) return;
  event.preventDefault();
  act();
});

function play(on) {
  state.playing = on;
  state.since = 0;
  playing.replaceChildren(icon(on ? "pause" : "play"));
  playing.setAttribute("aria-label", on ? "Pause" : "Play");
  playing.title = on ? "Pause" : "Play";
}

function step(by) {
  play(false);
  show((state.frame + by + state.count) % state.count);
}

// Every canvas is drawn in the same turn: the clips cannot come apart.
function show(frame) {
  state.frame = Math.min(Math.max(frame, 0), state.count - 1);
  for (const tile of state.tiles) draw(tile);
  drawWipe();
  scrubber.value = state.frame;
  place.textContent = `${state.frame + 1} / ${state.count}`;
  root.dataset.frame = state.frame;
}

function draw(tile) {
  const { image, sheet, canvas } = tile;
  if (!image) return;
  const frame = Math.min(state.frame, sheet.count - 1);
  const left = (frame % sheet.columns) * sheet.width;
  const top = Math.floor(frame / sheet.columns) * sheet.height;
  if (canvas.width !== sheet.width || canvas.height !== sheet.height) {
    canvas.width = sheet.width;
    canvas.height = sheet.height;
  }
  canvas.getContext("2d").drawImage(image, left, top, sheet.width, sheet.height, 0, 0, sheet.width, sheet.height);
  canvas.dataset.frame = frame;
}

function tick(now) {
  if (!root.isConnected) return;
  if (state.playing && state.count > 1) {
    if (!state.since) state.since = now;
    const passed = Math.floor(((now - state.since) * state.fps * state.speed) / 1000);
    if (passed > 0) {
      state.since = passed > state.count ? now : state.since + (passed * 1000) / (state.fps * state.speed);
      show((state.frame + passed) % state.count);
    }
  }
  requestAnimationFrame(tick);
}

function newTile() {
  const box = make("figure", "bd-tile");
  const picture = make("div", "bd-picture");
  const canvas = make("canvas");
  const note = make("p", "bd-note");
  const caption = make("figcaption");
  canvas.width = canvas.height = 128;
  canvas.setAttribute("role", "img");
  picture.append(canvas, note);
  box.append(picture, caption);
  tiles.append(box);
  return { box, picture, canvas, note, caption, image: null, sheet: null, source: "" };
}

function fill(tile, value) {
  tile.box.dataset.tone = value.tone || "";
  tile.box.dataset.label = value.label;
  tile.box.classList.toggle("is-pending", Boolean(value.pending));
  tile.box.classList.toggle("is-empty", !value.sheet);
  tile.note.textContent = value.note || "";
  tile.note.hidden = Boolean(value.sheet) || !value.note;
  tile.canvas.setAttribute("aria-label", value.sheet ? `${value.label}, ${value.sheet.count} frames` : `${value.label}, empty`);
  const line = make("div", "bd-label");
  line.append(make("strong", "", value.label));
  if (value.file) line.append(link(value.file, `Download ${value.label.toLowerCase()} as mp4`, false));
  tile.caption.replaceChildren(line);
  if (value.scores?.length) {
    const scores = make("div", "bd-scores");
    for (const [name, text] of value.scores) {
      const score = make("span", "", `${name} `);
      score.append(make("b", "", text));
      scores.append(score);
    }
    tile.caption.append(scores);
  }
  load(tile, value.sheet);
}

function load(tile, sheet) {
  const source = sheet ? sheet.src : "";
  if (source === tile.source) return;
  tile.source = source;
  if (!sheet) {
    tile.image = tile.sheet = null;
    tile.canvas.getContext("2d").clearRect(0, 0, tile.canvas.width, tile.canvas.height);
    delete tile.canvas.dataset.frame;
    return;
  }
  const image = new Image();
  image.onload = () => {
    if (tile.source !== source) return; // a newer one has come meanwhile
    tile.image = image;
    tile.sheet = sheet;
    draw(tile);
    drawWipe();
  };
  image.src = source;
}

function fillExtras(value) {
  extras.replaceChildren();
  if (value.facts?.length) {
    const facts = make("dl", "bd-facts");
    for (const [name, text] of value.facts) {
      const fact = make("div");
      fact.append(make("dt", "", name), make("dd", "", text));
      facts.append(fact);
    }
    extras.append(facts);
  }
  if (value.downloads?.length) {
    const keep = make("div", "bd-downloads");
    for (const { label, file } of value.downloads) keep.append(link(file, label, true));
    extras.append(keep);
  }
  extras.hidden = !extras.childElementCount;
}

function update() {
  const value = props.value || { tiles: [] };
  while (state.tiles.length > value.tiles.length) state.tiles.pop().box.remove();
  while (state.tiles.length < value.tiles.length) state.tiles.push(newTile());
  value.tiles.forEach((one, index) => fill(state.tiles[index], one));
  tiles.dataset.count = value.tiles.length;
  const counts = value.tiles.map((one) => (one.sheet ? one.sheet.count : 0));
  state.count = Math.max(1, ...counts);
  state.fps = value.fps || 8;
  scrubber.max = state.count - 1;
  tools.classList.toggle("is-idle", !counts.some(Boolean));
  for (const tool of tools.querySelectorAll("button, input, select")) tool.disabled = !counts.some(Boolean);
  fillWipe();
  fillExtras(value);
  show(state.frame);
}

play(state.playing);
update();
watch("value", update);
stillness.addEventListener("change", () => stillness.matches && play(false));
requestAnimationFrame(tick);
