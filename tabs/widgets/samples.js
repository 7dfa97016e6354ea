// The strip of sample clips: buttons that play while pointed at or focused; choosing one triggers "pick".
// The clips are sheets and no videos: fifty video elements take seconds to load, and not every browser has H.264.
// Given by Gradio: element, props, watch, trigger.

const { button, decoded, drawFrame, part, press, stillness } = window.bdStudio;
const root = element.querySelector(".bd-samples");
root.setAttribute("role", "group");
root.setAttribute("aria-label", "Sample clips");

// The page's head has them all: in a tab that is opened later, what the component was given may not be there.
const [, field] = /\bof-(\w+)/.exec(root.className);
window.bdSampleClips[field].forEach((sample, index) => {
  const chooser = button("bd-sample", "", () => {
    props.value = index;
    trigger("pick");
    update();
  });
  const canvas = part(chooser, "canvas");
  part(chooser, "span", "", sample.name);
  chooser.title = sample.caption;
  chooser.dataset.index = index;
  chooser.setAttribute("aria-label", `${sample.name}: ${sample.caption}`);
  canvas.setAttribute("aria-hidden", "true");

  const { sheet, fps } = sample;
  const draw = (frame) => sample.picture.then((picture) => drawFrame(canvas, sheet, picture, frame));
  sample.picture ??= decoded(sheet.src); // once for all strips
  draw(0);

  let playing = 0; // the frame that the browser was asked to call back for
  const start = () => {
    if (stillness.matches || playing) return;
    const begun = performance.now();
    const tick = (now) => {
      draw(Math.floor(Math.max(0, now - begun) / 1000 * fps) % sheet.count);
      playing = requestAnimationFrame(tick);
    };
    playing = requestAnimationFrame(tick);
  };
  const stop = () => {
    cancelAnimationFrame(playing);
    playing = 0;
    draw(0);
  };
  for (const event of ["mouseenter", "focus"]) chooser.addEventListener(event, start);
  for (const event of ["mouseleave", "blur"]) chooser.addEventListener(event, stop);
  root.append(chooser);
});

function update() {
  for (const chooser of root.children) press(chooser, Number(chooser.dataset.index) === props.value);
}

update();
watch("value", update);
