// Under the mixing ratio: its ends in words, and a mark for every ratio whose clip is there. While the slider moves, the
// task's player shows the clip of the nearest; where none is near, it can be made, or those of five ratios at once.
// Given by Gradio: element, props, watch.

const { button, make, part } = window.bdStudio;
const root = element.querySelector(".bd-scale");
const { task } = props.value;
const NEAR = 0.051; // a ratio this near shows the same to the eye

const marks = part(root, "div", "bd-ratio-marks");
const ends = part(root, "div", "bd-ratio-ends");
part(ends, "span", "", "closer to the frames");
part(ends, "span", "", "calmer, may drift");
const make_ = button("bd-ratio-make", "", () => document.querySelector(`#${task}-generate`)?.click());
const all = button("bd-ratio-five", "Try five ratios", () => document.querySelector(`#${task}-ratios`)?.click());
all.title = "Makes the clips of ratios 0, 0.25, 0.5, 0.75 and 1 for what is filled in; then the slider plays them";
ends.lastChild.before(make_, all);

const slider = () => document.querySelector(`#${task}-mixing-ratio input[type=range]`);
const host = () => document.querySelector(`#${task}-player .bd-player`);

function refresh() {
  const ratios = host()?.ratios?.() ?? [];
  const { paper, alike } = props.value;
  const shown = ratios.map((ratio) => {
    const mark = button("bd-ratio-mark", "", () => window.bdSetRatio(task, ratio));
    mark.style.setProperty("--at", ratio);
    mark.setAttribute("aria-label", `Show ratio ${ratio}`);
    mark.title = `Ratio ${ratio}: its clip is there`;
    return mark;
  });
  if (paper !== null) {
    const says = `The paper takes ${paper}${alike ? "" : ", of the image model's noise"}`;
    const theirs = shown[ratios.indexOf(paper)];
    if (theirs) {
      theirs.classList.add("is-paper");
      theirs.setAttribute("aria-label", `${theirs.ariaLabel}. ${says}`);
      theirs.title += `. ${says}`;
    } else {
      const word = make("span", "bd-ratio-paper", "paper");
      word.style.setProperty("--at", paper);
      word.title = says;
      shown.push(word);
    }
  }
  marks.replaceChildren(...shown);
  follow();
}

function follow() {
  const ratio = Number(slider()?.value);
  const ratios = host()?.ratios?.() ?? [];
  const near = ratios.find((each) => Math.abs(each - ratio) < NEAR);
  make_.hidden = !ratios.length || near !== undefined || Number.isNaN(ratio);
  all.hidden = !make_.hidden;
  make_.textContent = `Make ratio ${ratio}`;
  if (ratios.length) host().showRatio(ratio);
  for (const mark of marks.querySelectorAll(".bd-ratio-mark")) {
    mark.classList.toggle("is-near", Number(mark.style.getPropertyValue("--at")) === near);
  }
}

document.addEventListener("bd-clips", (event) => event.target === host() && refresh());
document.addEventListener("input", (event) => event.target.closest?.(`#${task}-mixing-ratio`) && follow());
watch("value", refresh);
refresh();
