// The strip of sample clips: buttons that play while pointed at or focused; choosing one triggers "pick".
// Given by Gradio: element, props, watch, trigger.

const { button, make, part, press, stillness } = window.bdStudio;
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
  const picture = part(chooser, "canvas");
  const clip = make("video");
  part(chooser, "span", "", sample.name);
  chooser.title = sample.caption;
  chooser.dataset.index = index;
  chooser.setAttribute("aria-label", `${sample.name}: ${sample.caption}`);
  picture.setAttribute("aria-hidden", "true");

  // The clip is drawn on a canvas: browsers forget the picture of a video element that does not play.
  const draw = () => picture.getContext("2d").drawImage(clip, 0, 0);
  const follow = () => { draw(); if (!clip.paused) requestAnimationFrame(follow); };
  clip.addEventListener("loadeddata", () => {
    picture.width = clip.videoWidth;
    picture.height = clip.videoHeight;
    draw();
  });
  clip.addEventListener("seeked", draw);
  clip.addEventListener("play", follow);
  Object.assign(clip, { muted: true, loop: true, playsInline: true, preload: "auto", src: sample.clip });

  const start = () => stillness.matches || clip.play().catch(() => {});
  const stop = () => { clip.pause(); clip.currentTime = 0; };
  for (const event of ["mouseenter", "focus"]) chooser.addEventListener(event, start);
  for (const event of ["mouseleave", "blur"]) chooser.addEventListener(event, stop);
  root.append(chooser);
});

function update() {
  for (const chooser of root.children) press(chooser, Number(chooser.dataset.index) === props.value);
}

update();
watch("value", update);
