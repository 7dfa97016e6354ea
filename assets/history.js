// The history: runs as cards. Choosing one triggers "pick", its star "star"; the bar above compares what is ticked.
// In it: drawing the cards, their thumbnails in motion, keys, and what is ticked. Not in it: looks (style.css), which
// runs there are and what is done with them (tabs/history.py).
// Given by Gradio: element, props, watch, trigger. All text from the server is set as text, never as markup.

const root = element.querySelector(".bd-history");
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const LEAST = 2, MOST = 12; // as many clips as the comparison player shows
const STAR = "M12 3.6 14.6 9.1 20.6 9.9 16.2 14.1 17.3 20.1 12 17.2 6.7 20.1 7.8 14.1 3.4 9.9 9.4 9.1 Z";
const ticked = new Set();
let chosen = "";

const trouble = part(root, "p", "bd-history-trouble");
const bar = part(root, "div", "bd-history-bar");
const count = part(bar, "span", "bd-history-count");
const compare = word(bar, "Compare selected", "bd-history-compare", () => act("compare", { selected: [...ticked] }));
const clear = word(bar, "Clear", "bd-history-clear", () => {
  ticked.clear();
  update();
  list.querySelector(".bd-past-open")?.focus();
});
const list = part(root, "ul", "bd-history-list");
const empty = part(root, "div", "bd-history-empty");
const note = part(root, "p", "bd-history-note");
part(empty, "strong", "");
part(empty, "p", "");
trouble.setAttribute("role", "alert");
bar.setAttribute("role", "group");
bar.setAttribute("aria-label", "Selected runs");
count.setAttribute("role", "status");
note.setAttribute("role", "status");
list.setAttribute("aria-label", "Runs, newest first. The arrow keys go from one to the next.");

function part(parent, tag, classes) {
  const made = document.createElement(tag);
  made.className = classes;
  parent.append(made);
  return made;
}

function word(parent, label, classes, press) {
  const made = part(parent, "button", classes);
  made.type = "button";
  made.textContent = label;
  made.addEventListener("click", press);
  return made;
}

function act(name, more) {
  props.value = { ...props.value, ...more };
  trigger(name);
}

// One card: the button that opens it, then its tick and its star, which lie over the thumbnail.
function card() {
  const item = part(list, "li", "bd-past");
  const open = part(item, "button", "bd-past-open");
  const picture = part(open, "span", "bd-past-picture");
  const first = part(picture, "canvas", "");
  const moving = part(picture, "img", "");
  part(picture, "span", "bd-past-none");
  const words = part(open, "span", "bd-past-words");
  part(words, "strong", "bd-past-prompt");
  part(words, "span", "bd-past-what");
  const line = part(words, "span", "bd-past-line");
  part(line, "time", "");
  part(line, "span", "bd-past-seconds");
  part(words, "span", "bd-pill");
  const tick = part(item, "label", "bd-past-tick");
  const box = part(tick, "input", "");
  const star = part(item, "button", "bd-past-star");
  open.type = star.type = "button";
  box.type = "checkbox";
  moving.alt = "";
  moving.hidden = true;
  star.append(starShape());

  // The first frame is drawn on a canvas, which stays still; the picture itself moves, and lies over it.
  moving.addEventListener("load", () => {
    first.width = moving.naturalWidth;
    first.height = moving.naturalHeight;
    first.getContext("2d").drawImage(moving, 0, 0);
  });
  const play = (on) => { moving.hidden = !on || still.matches || !moving.getAttribute("src"); };
  for (const event of ["mouseenter", "focusin"]) item.addEventListener(event, () => play(true));
  for (const event of ["mouseleave", "focusout"]) item.addEventListener(event, () => play(false));

  open.addEventListener("click", () => {
    act("pick", { chosen: item.dataset.id });
    update();
  });
  star.addEventListener("click", () => {
    const favourite = star.getAttribute("aria-pressed") !== "true";
    star.setAttribute("aria-pressed", String(favourite)); // at once; the server's answer follows
    act("star", { starred: item.dataset.id, favourite });
  });
  box.addEventListener("change", () => {
    if (box.checked) ticked.add(item.dataset.id);
    else ticked.delete(item.dataset.id);
    tell();
    mark(item);
  });
  open.addEventListener("keydown", (event) => move(event, item));
  return item;
}

function starShape() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", STAR);
  svg.append(path);
  return svg;
}

function move(event, item) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const cards = [...list.children];
  const at = cards.indexOf(item);
  const columns = cards.filter((other) => other.offsetTop === cards[0].offsetTop).length;
  const goals = {
    ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0,
    End: cards.length - 1,
  };
  if (!(event.key in goals)) return;
  event.preventDefault();
  cards[goals[event.key]]?.querySelector(".bd-past-open").focus();
}

// Cards are filled in anew, not made anew: the list keeps its place and its focus while it is refreshed.
function fill(item, run) {
  const set = (name, text) => {
    const place = item.querySelector(name);
    if (place.textContent !== text) place.textContent = text;
    place.hidden = !text;
  };
  const picture = item.querySelector("img");
  const told = `${run.prompt}, ${run.what}`;
  item.dataset.id = run.id;
  set(".bd-past-prompt", run.prompt);
  set(".bd-past-what", run.what);
  set(".bd-past-seconds", run.seconds);
  set(".bd-pill", run.state);
  set(".bd-past-none", run.thumbnail ? "" : "No picture");
  item.querySelector(".bd-pill").dataset.state = run.key;
  item.querySelector(".bd-past-open").setAttribute("aria-pressed", String(run.id === chosen));
  item.querySelector(".bd-past-star").setAttribute("aria-pressed", String(run.favourite));
  item.querySelector(".bd-past-star").setAttribute("aria-label", `Favourite: ${told}`);
  item.querySelector(".bd-past-star").title = run.favourite ? "A favourite: it is kept" : "Make it a favourite";
  item.querySelector(".bd-past-tick input").setAttribute("aria-label", `Select: ${told}`);
  item.querySelector(".bd-past-tick").title = "Select it, to compare it with others";
  const time = item.querySelector("time");
  const made = new Date(1000 * run.created);
  time.dateTime = made.toISOString();
  time.textContent = when(made);
  time.title = made.toLocaleString("en-GB");
  if ((picture.getAttribute("src") || "") !== run.thumbnail) {
    const canvas = item.querySelector("canvas");
    canvas.width = canvas.width; // clears it
    if (run.thumbnail) picture.src = run.thumbnail;
    else {
      picture.removeAttribute("src");
      picture.hidden = true;
    }
  }
  mark(item);
}

function mark(item) {
  const on = ticked.has(item.dataset.id);
  item.querySelector(".bd-past-tick input").checked = on;
  item.classList.toggle("is-ticked", on);
}

// In the visitor's own time, which the server does not know.
function when(made) {
  const clock = made.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const now = new Date();
  if (made.toDateString() === now.toDateString()) return `Today, ${clock}`;
  const year = made.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return `${made.toLocaleDateString("en-GB", { day: "numeric", month: "short", year })}, ${clock}`;
}

function tell() {
  const number = ticked.size;
  bar.hidden = !number;
  compare.disabled = number < LEAST || number > MOST;
  const hint = number < LEAST ? ": select one more to compare" : number > MOST ? `: at most ${MOST} can be compared` : "";
  count.textContent = `${number} selected${hint}`;
}

function update() {
  const { rows, empty: said, note: told, trouble: wrong } = props.value;
  chosen = props.value.chosen ?? chosen; // null where the list was only looked at again
  const there = new Set(rows.map((run) => run.id));
  for (const id of ticked) if (!there.has(id)) ticked.delete(id);
  rows.forEach((run, index) => fill(list.children[index] || card(), run));
  while (list.children.length > rows.length) list.lastChild.remove();
  list.hidden = !rows.length;
  empty.hidden = Boolean(rows.length);
  empty.firstChild.textContent = said?.[0] ?? "";
  empty.lastChild.textContent = said?.[1] ?? "";
  for (const [place, text] of [[note, told], [trouble, wrong]]) {
    if (place.textContent !== text) place.textContent = text;
    place.hidden = !text;
  }
  tell();
}

update();
watch("value", update);
