// The strip of sample clips: buttons that play while pointed at or focused; choosing one triggers "pick".
// Given by Gradio: element, props, watch, trigger.

const root = element.querySelector(".bd-samples");
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
root.setAttribute("role", "group");
root.setAttribute("aria-label", "Sample clips");

// The clips travel once; the strips of other tabs, which are shown later, take them from here.
if (props.clips.length) window.bdSampleClips = props.clips;
window.bdSampleClips.forEach((sample, index) => {
  const button = document.createElement("button");
  const picture = document.createElement("canvas");
  const name = document.createElement("span");
  const clip = document.createElement("video");
  button.type = "button";
  button.className = "bd-sample";
  button.title = sample.caption;
  button.dataset.index = index;
  button.setAttribute("aria-label", `${sample.name}: ${sample.caption}`);
  picture.setAttribute("aria-hidden", "true");
  name.textContent = sample.name;
  button.append(picture, name);

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

  const start = () => still.matches || clip.play().catch(() => {});
  const stop = () => { clip.pause(); clip.currentTime = 0; };
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, start);
  for (const event of ["mouseleave", "blur"]) button.addEventListener(event, stop);
  button.addEventListener("click", () => {
    props.value = index;
    trigger("pick");
    update();
  });
  root.append(button);
});

function update() {
  for (const button of root.children) button.setAttribute("aria-pressed", String(Number(button.dataset.index) === props.value));
}

update();
watch("value", update);
