// A clip of one's own as a film strip: what it holds, what is used of it, and how it is cut to shape.
// Given by Gradio: element, props, watch, trigger. All text from the server is set as text, never as markup.

const { button, decoded, drawFrame, make, part } = window.bdStudio;
const root = element.querySelector(".bd-footage");
const ask = (asked) => {
  props.value = { ...props.value, asked };
  trigger("trim");
};

function strip({ thumbs, kept, bars, seconds, used }) {
  const row = make("div", "bd-footage-strip");
  const draw = (image) => {
    for (let index = 0; index < thumbs.count; index += 1) {
      const at = (index / thumbs.count) * seconds;
      const one = button("bd-footage-frame", "", () => ask({ start: Math.round(10 * at) / 10 }));
      one.setAttribute("aria-label", `Start at ${at.toFixed(1)} s`);
      const canvas = part(one, "canvas");
      drawFrame(canvas, thumbs, image, index);
      const within = at < used[1] && at + seconds / thumbs.count > used[0];
      one.classList.toggle("is-used", within);
      if (kept) {
        // What is cut off is dark.
        const cut = part(one, "span", "bd-footage-cut");
        cut.style.setProperty("--x", `${50 * (1 - kept[0])}%`);
        cut.style.setProperty("--y", `${50 * (1 - kept[1])}%`);
      }
      one.classList.toggle("has-bars", bars);
      row.append(one);
    }
  };
  decoded(thumbs.src).then(draw, () => row.remove());
  return row;
}

function update() {
  const { value } = props;
  root.replaceChildren();
  root.hidden = !value;
  if (!value) return;
  part(root, "p", "bd-footage-holds", value.holds);
  if (value.thumbs) root.append(strip(value));
  const line = part(root, "p", "bd-footage-used", value.says);
  line.setAttribute("role", "status");
  const row = part(root, "div", "bd-footage-offers");
  for (const { words, takes, set } of value.offers) {
    row.append(button("bd-footage-offer", takes ? `${words}, ${takes}` : words, () => ask(set)));
  }
}

update();
watch("value", update);
