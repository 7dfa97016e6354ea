// The progress of a run: one chip per stage, what is being done, how long it took and will take.
// Given by Gradio: element, props, watch. All text from the server is set as text, never as markup.

const { part, write } = window.bdStudio;
const root = element.querySelector(".bd-progress");
const stages = part(root, "ol", "bd-stages");
const line = part(root, "p", "bd-headline");
const detail = part(root, "p", "bd-detail");
const clock = part(root, "p", "bd-clock");
line.setAttribute("role", "status");
const ANSWERS_WITHIN = 60000; // milliseconds
let arrived = 0;
let asking = 0;

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

function chip(stage) {
  const item = part(stages, "li");
  part(item, "span", "bd-name");
  const fill = part(item, "span", "bd-fill");
  item.dataset.stage = stage.key;
  fill.setAttribute("role", "progressbar");
  fill.setAttribute("aria-valuemin", "0");
  fill.setAttribute("aria-valuemax", "100");
  return item;
}

function update() {
  const value = props.value;
  if (!value) return;
  clearTimeout(asking);
  root.dataset.state = value.state;
  if (value.state !== "idle") root.classList.add("is-started");
  value.stages.forEach((stage, index) => {
    const item = stages.children[index] || chip(stage);
    item.className = `is-${stage.state}`;
    const fill = item.querySelector(".bd-fill");
    fill.setAttribute("aria-label", stage.label);
    fill.setAttribute("aria-valuenow", stage.percent);
    fill.style.setProperty("--share", `${stage.percent}%`);
    item.querySelector(".bd-name").textContent = stage.label;
  });
  write(line, value.headline);
  line.hidden = !value.headline;
  detail.textContent = value.detail;
  detail.hidden = !value.detail;
  arrived = performance.now();
  tell();
}

function tell() {
  const value = props.value;
  const running = value?.state === "running";
  clock.hidden = !running;
  if (!running) return;
  const since = (performance.now() - arrived) / 1000;
  const passed = `${span(value.elapsed + since)} so far`;
  const left = value.remaining === null ? "" : `, about ${span(value.remaining - since)} left`;
  clock.textContent = passed + left + (value.memory ? `. ${value.memory}` : "");
}

// At the press of a button: on a busy computer the server's first word takes seconds.
root.ask = () => {
  root.dataset.state = "running";
  root.classList.add("is-started");
  for (const item of stages.children) {
    item.className = "is-waiting";
    item.querySelector(".bd-fill").style.setProperty("--share", "0%");
  }
  write(line, "Asking for a turn");
  line.hidden = false;
  detail.hidden = clock.hidden = true;
  clearTimeout(asking);
  asking = setTimeout(update, ANSWERS_WITHIN); // what was before, where nobody answers
};

update();
watch("value", update);
setInterval(() => root.isConnected && tell(), 1000);
