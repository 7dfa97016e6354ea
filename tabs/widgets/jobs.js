// The visitor's jobs that run or wait: one line each, with buttons that trigger "act".
// Given by Gradio: element, props, watch, trigger. All text from the server is set as text, never as markup.

const { button, part, write } = window.bdStudio;
const root = element.querySelector(".bd-jobs");
part(root, "h2", "bd-jobs-heading", "Your jobs");
const list = part(root, "ul", "bd-jobs-list");
root.setAttribute("aria-label", "Your jobs");
root.setAttribute("role", "region");

const BUTTONS = [
  ["forward", "↑", "Move forward"],
  ["back", "↓", "Move back"],
  ["cancel", "Cancel", "Cancel"],
];

function row() {
  const item = part(list, "li");
  const leads = button("bd-job-title", "", () => window.bdOpen(item.dataset.family, item.dataset.tab));
  leads.title = "Show it";
  item.append(leads);
  part(item, "span", "bd-job-words");
  for (const [action, text] of BUTTONS) {
    const made = button("bd-job-button", text, () => {
      props.value = { ...props.value, asked: { job: item.dataset.job, action } };
      trigger("act");
    });
    made.dataset.action = action;
    item.append(made);
  }
  return item;
}

function fill(item, job) {
  item.dataset.job = job.id;
  item.dataset.state = job.state;
  [item.dataset.family, item.dataset.tab] = job.place.split("/");
  for (const words of ["title", "words"]) write(item.querySelector(`.bd-job-${words}`), job[words]);
  for (const [action, , label] of BUTTONS) {
    const made = item.querySelector(`[data-action=${action}]`);
    made.hidden = action !== "cancel" && !job[action];
    made.disabled = action === "cancel" && ["stopping", "writing"].includes(job.state);
    made.setAttribute("aria-label", `${label}: ${job.title}`);
  }
}

function update() {
  const jobs = props.value?.jobs ?? [];
  root.hidden = jobs.length === 0;
  jobs.forEach((job, index) => fill(list.children[index] || row(), job));
  while (list.children.length > jobs.length) list.lastChild.remove();
}

// What stays in sight at the foot of the window stands above the strip, not under it.
const makeRoom = () => {
  const covered = root.checkVisibility() ? Math.max(0, Math.round(innerHeight - root.getBoundingClientRect().top)) : 0;
  document.documentElement.style.setProperty("--bd-jobs-covers", `${covered}px`);
};
new ResizeObserver(() => requestAnimationFrame(makeRoom)).observe(root);

update();
watch("value", update);
