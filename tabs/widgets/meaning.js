// What the mixing ratio does, in three clips that play in step. Who wants no motion sees four frames of each at once.
// Given by Gradio: element, props, watch, trigger.

const { decoded, part, place, stillness } = window.bdStudio;
const root = element.querySelector(".bd-meaning");
const ALL = -1; // no frame, but several at once
let clips = []; // each with its canvas and its picture
let drawn = null;
let playing = 0;

const fold = part(root, "details");
part(fold, "summary", "", "What does the ratio do?");
const body = part(fold, "div", "bd-meaning-body");
fold.addEventListener("toggle", () => {
  if (fold.open && !props.value) trigger("open");
  if (fold.open && !playing) playing = requestAnimationFrame(tick);
});

function draw({ canvas, picture, sheet }, frame) {
  const pen = canvas.getContext("2d");
  const { width, height, count } = sheet;
  const across = frame === ALL ? 2 : 1;
  for (let at = 0; at < across ** 2; at += 1) {
    const shown = frame === ALL ? Math.floor((at * count) / across ** 2) : frame;
    const [left, top] = [at % across, Math.floor(at / across)].map((each) => each / across);
    pen.drawImage(picture, ...place(sheet, shown), width, height, left * width, top * height, width / across, height / across);
  }
}

function tick(now) {
  playing = root.isConnected && fold.open ? requestAnimationFrame(tick) : 0;
  if (!playing || !clips.length || !body.offsetParent) return;
  const frame = stillness.matches ? ALL : Math.floor((now / 1000) * props.value.fps) % clips[0].sheet.count;
  if (frame !== drawn) clips.forEach((clip) => draw(clip, frame));
  drawn = frame;
}

function figure(row, { ratio, says, told, share, sheet }, picture, measured) {
  const one = part(row, "figure");
  const canvas = part(one, "canvas");
  Object.assign(canvas, { width: sheet.width, height: sheet.height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The clip of ratio ${ratio}: ${says}; ${measured}: ${told}`);
  const line = part(one, "figcaption");
  part(line, "strong", "", ratio);
  line.append(` ${says}`);
  const bar = part(one, "div", "bd-meaning-bar");
  bar.style.setProperty("--share", share);
  part(bar, "span", "", told);
  return { canvas, picture, sheet };
}

async function update() {
  const { value } = props;
  if (!value) return;
  const pictures = await Promise.all(value.clips.map(({ sheet }) => decoded(sheet.src)));
  if (value.of !== props.value?.of) return; // another came meanwhile
  body.replaceChildren();
  part(body, "p", "", value.of);
  const row = part(body, "div", "bd-meaning-clips");
  clips = value.clips.map((clip, index) => figure(row, clip, pictures[index], value.measured));
  part(body, "p", "", `Bars: ${value.bars}`);
  drawn = null;
}

update();
watch("value", update);
