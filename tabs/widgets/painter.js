// A picture to paint a mask on, by mouse, finger or keyboard; painting triggers "paint".
// Given by Gradio: element, props, watch, trigger.

const { button, clamp, make, press } = window.bdStudio;
const root = element.querySelector(".bd-painter");
const UNDO_STEPS = 20;
const state = { sheet: "", paint: "", size: 14, erase: false, last: null, cursor: null, past: [] };

const tool = (text, act) => button("bd-tool bd-word", text, act);

// Below the picture, above it what is painted, on top the brush.
const picture = make("div", "bd-picture bd-easel");
const ground = make("canvas");
const paint = make("canvas", "bd-paint");
const brush = make("span", "bd-brush");
const tools = make("div", "bd-tools");
const size = make("input", "bd-size");
const sized = make("label", "bd-sized", "Brush");
const erase = tool("Erase", () => choose(!state.erase));
const undo = tool("Undo", back);
const clear = tool("Clear", () => { remember(); wipe(); commit(); });
ground.width = ground.height = paint.width = paint.height = 128;
paint.tabIndex = 0;
paint.setAttribute("role", "application");
paint.setAttribute("aria-label", "First frame, to paint on. The arrow keys move the brush, space paints.");
Object.assign(size, { type: "range", min: 2, max: 48, step: 1, value: state.size });
sized.append(size);
brush.hidden = true;
picture.append(ground, paint, brush);
tools.append(sized, erase, undo, clear);
root.append(picture, tools);
choose(false);
tell();

size.addEventListener("input", () => { state.size = Number(size.value); follow(); });

function choose(on) {
  state.erase = on;
  press(erase, on);
}

function tell() {
  undo.disabled = !state.past.length;
}

function wipe() {
  paint.getContext("2d").clearRect(0, 0, paint.width, paint.height);
}

function remember() {
  state.past.push(paint.getContext("2d").getImageData(0, 0, paint.width, paint.height));
  if (state.past.length > UNDO_STEPS) state.past.shift();
  tell();
}

function back() {
  const before = state.past.pop();
  if (before) paint.getContext("2d").putImageData(before, 0, 0);
  tell();
  commit();
}

// From a place on the page to a pixel of the frame.
function pixel(event) {
  const box = paint.getBoundingClientRect();
  return [((event.clientX - box.left) * paint.width) / box.width, ((event.clientY - box.top) * paint.height) / box.height];
}

function stroke(from, to) {
  const pen = paint.getContext("2d");
  pen.globalCompositeOperation = state.erase ? "destination-out" : "source-over";
  pen.strokeStyle = "#fff";
  pen.lineWidth = state.size;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(to[0] + 0.01, to[1]);
  pen.stroke();
}

function follow() {
  brush.hidden = !state.cursor;
  if (!state.cursor) return;
  brush.style.left = `${(100 * state.cursor[0]) / paint.width}%`;
  brush.style.top = `${(100 * state.cursor[1]) / paint.height}%`;
  brush.style.width = `${(100 * state.size) / paint.width}%`;
}

paint.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  paint.setPointerCapture(event.pointerId);
  remember();
  state.last = state.cursor = pixel(event);
  stroke(state.last, state.last);
  follow();
});
paint.addEventListener("pointermove", (event) => {
  state.cursor = pixel(event);
  if (state.last) {
    stroke(state.last, state.cursor);
    state.last = state.cursor;
  }
  follow();
});
for (const name of ["pointerup", "pointercancel"]) {
  paint.addEventListener(name, () => { if (state.last) { state.last = null; commit(); } });
}
paint.addEventListener("pointerleave", () => { if (!state.last) { state.cursor = null; follow(); } });
paint.addEventListener("focus", () => { state.cursor ||= [paint.width / 2, paint.height / 2]; follow(); });
paint.addEventListener("blur", () => { state.cursor = null; follow(); });
paint.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const move = moves[event.key];
  if (!move && event.key !== " ") return;
  event.preventDefault();
  const [x, y] = state.cursor || [paint.width / 2, paint.height / 2];
  const by = event.shiftKey ? 1 : 4;
  state.cursor = move ? [clamp(x + by * move[0], 0, paint.width), clamp(y + by * move[1], 0, paint.height)] : [x, y];
  if (event.key === " ") {
    remember();
    stroke(state.cursor, state.cursor);
    commit();
  }
  follow();
});

// White where there is paint, black elsewhere; empty where there is none.
function commit() {
  const mask = make("canvas");
  Object.assign(mask, { width: paint.width, height: paint.height });
  const pen = mask.getContext("2d");
  pen.fillRect(0, 0, mask.width, mask.height);
  pen.drawImage(paint, 0, 0);
  const painted = paint.getContext("2d").getImageData(0, 0, paint.width, paint.height).data.some((v) => v > 0);
  state.paint = painted ? mask.toDataURL("image/png") : "";
  props.value = { ...props.value, paint: state.paint };
  trigger("paint");
}

function update() {
  const value = props.value || {};
  const sheet = value.sheet;
  if (sheet && sheet.src !== state.sheet) {
    state.sheet = sheet.src;
    const image = new Image();
    image.onload = () => {
      if (state.sheet !== sheet.src) return; // a newer one has come meanwhile
      ground.getContext("2d").drawImage(image, 0, 0);
      picture.dataset.ready = "";
    };
    for (const canvas of [ground, paint]) Object.assign(canvas, { width: sheet.width, height: sheet.height });
    state.past = [];
    state.paint = "";
    tell();
    image.src = sheet.src;
  }
  if ((value.paint || "") === state.paint) return;
  state.paint = value.paint || "";
  wipe();
  if (!state.paint) return;
  // A mask from elsewhere: its white becomes paint.
  const image = new Image();
  image.onload = () => {
    const pen = paint.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.drawImage(image, 0, 0, paint.width, paint.height);
    const pixels = pen.getImageData(0, 0, paint.width, paint.height);
    for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at] > 127 ? 255 : 0;
    pen.putImageData(pixels, 0, 0);
  };
  image.src = state.paint;
}

update();
watch("value", update);
