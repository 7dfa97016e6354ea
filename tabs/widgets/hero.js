// The first thing a visitor sees: one clip frame by frame and bridged, with a line that wanders between the two.
// Given by Gradio: element, props.

const { button, decoded, part, place, stillness } = window.bdStudio;
const root = element.querySelector(".bd-hero");
const { framewise, bridged, flicker, fps, sample } = props.value;
const SIDES = [
  ["framewise", "Frame by frame", framewise, "an image model alone"],
  ["bridged", "Bridged", bridged, "then smoothed by a video model"],
];
const PERIOD = 7; // seconds that the line takes to wander there and back
const less = Math.round(100 * (1 - flicker[1] / flicker[0]));

root.setAttribute("role", "region");
root.setAttribute("aria-label", "What this does");

const stage = part(root, "div", "bd-hero-stage");
const picture = part(stage, "canvas");
picture.width = framewise.width;
picture.height = framewise.height;
picture.setAttribute("role", "img");
picture.setAttribute("aria-label", "The same clip twice: left of a wandering line frame by frame, which flickers, right of it bridged");
const line = part(stage, "div", "bd-hero-line");
for (const [key, name] of SIDES) part(stage, "span", `bd-hero-name is-${key}`, name);

const strips = part(root, "div", "bd-hero-strips");
const told = part(root, "div", "bd-hero-told");
const figure = part(told, "p", "bd-hero-figure");
part(figure, "strong", "", `−${less}%`);
part(figure, "span", "", "flicker at rest");
part(told, "p", "bd-hero-what", "How much colours change where nothing moves (of 255):");
const bars = part(told, "dl", "bd-hero-bars");
SIDES.forEach(([key, name], index) => {
  const pair = part(bars, "div", `is-${key}`);
  part(pair, "dt", "", name);
  const bar = part(pair, "dd");
  bar.style.setProperty("--share", `${100 * flicker[index] / flicker[0]}%`);
  part(bar, "span", "", flicker[index].toFixed(1));
});
const does = part(told, "div", "bd-hero-does");
does.append(
  button("bd-hero-try", "Try it", () => window.bdShowSample("control", sample)),
  button("bd-hero-ratio", "What does the ratio do?", () => window.bdShowSample("control", sample, true)),
);
const away = button("bd-hero-away", "×", () => window.bdHero(false));
away.setAttribute("aria-label", "Put this away");
root.append(away);

function strip([key, name, sheet, means], image) {
  const row = part(strips, "div", `bd-hero-strip is-${key}`);
  part(row, "span", "", `${name}: ${means}`);
  const canvas = part(row, "canvas");
  canvas.width = sheet.width * sheet.count;
  canvas.height = sheet.height;
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  for (let frame = 0; frame < sheet.count; frame += 1) {
    const { width, height } = sheet;
    context.drawImage(image, ...place(sheet, frame), width, height, frame * width, 0, width, height);
  }
}

function draw(images, frame, share) {
  const context = picture.getContext("2d");
  const { width, height } = framewise;
  context.drawImage(images[1], ...place(bridged, frame), width, height, 0, 0, width, height);
  context.save();
  context.beginPath();
  context.rect(0, 0, share * width, height);
  context.clip();
  context.drawImage(images[0], ...place(framewise, frame), width, height, 0, 0, width, height);
  context.restore();
  line.style.left = `${100 * share}%`;
}

async function start() {
  const images = await Promise.all(SIDES.map(([, , sheet]) => decoded(sheet.src)));
  SIDES.forEach((side, index) => strip(side, images[index]));
  draw(images, 0, 0.5);
  const begun = performance.now();
  let shown = "";
  const tick = (now) => {
    if (!root.isConnected) return;
    requestAnimationFrame(tick);
    // Out of sight it costs nothing; whoever wants no motion sees the difference in the strips.
    if (stillness.matches || !root.offsetParent || document.hidden) return;
    const seconds = Math.max(0, now - begun) / 1000;
    const frame = Math.floor(seconds * fps) % framewise.count;
    const share = 0.5 - 0.4 * Math.sin(2 * Math.PI * seconds / PERIOD);
    const next = `${frame} ${Math.round(share * 200)}`;
    if (next !== shown) draw(images, frame, share);
    shown = next;
  };
  requestAnimationFrame(tick);
}

start();
