// The visitor's jobs that run or wait: one line each, with buttons that trigger "act".
// Given by Gradio: element, props, watch, trigger. All text from the server is set as text, never as markup.

const root = element.querySelector(".bd-jobs");
const heading = document.createElement("h2");
const list = document.createElement("ul");
heading.className = "bd-jobs-heading";
heading.textContent = "Your jobs";
list.className = "bd-jobs-list";
root.setAttribute("aria-label", "Your jobs");
root.setAttribute("role", "region");
root.append(heading, list);

const BUTTONS = [
  ["forward", "↑", "Move forward"],
  ["back", "↓", "Move back"],
  ["cancel", "Cancel", "Cancel"],
];

function row() {
  const item = document.createElement("li");
  for (const name of ["title", "words"]) {
    const part = document.createElement("span");
    part.className = `bd-job-${name}`;
    item.append(part);
  }
  for (const [action, text] of BUTTONS) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "bd-job-button";
    button.dataset.action = action;
    button.textContent = text;
    button.addEventListener("click", () => {
      props.value = { ...props.value, asked: { job: item.dataset.job, action } };
      trigger("act");
    });
    item.append(button);
  }
  list.append(item);
  return item;
}

function fill(item, job) {
  item.dataset.job = job.id;
  item.dataset.state = job.state;
  for (const name of ["title", "words"]) {
    const part = item.querySelector(`.bd-job-${name}`);
    if (part.textContent !== job[name]) part.textContent = job[name];
  }
  for (const [action, , label] of BUTTONS) {
    const button = item.querySelector(`[data-action=${action}]`);
    button.hidden = action !== "cancel" && !job[action];
    button.disabled = action === "cancel" && job.state === "stopping";
    button.setAttribute("aria-label", `${label}: ${job.title}`);
  }
}

function update() {
  const jobs = props.value?.jobs ?? [];
  root.hidden = jobs.length === 0;
  jobs.forEach((job, index) => fill(list.children[index] || row(), job));
  while (list.children.length > jobs.length) list.lastChild.remove();
}

update();
watch("value", update);
