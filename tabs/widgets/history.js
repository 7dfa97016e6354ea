// The history: runs as cards. Choosing one triggers "pick", its star "star"; the bar above compares what is ticked.
// Given by Gradio: element, props, watch, trigger. All text from the server is set as text, never as markup.

const { button, part, press, stillness, write } = window.bdStudio;
const root = element.querySelector(".bd-history");
const ticked = new Set();
let chosen = "";

const trouble = part(root, "p", "bd-history-trouble");
const bar = part(root, "div", "bd-history-bar");
const count = part(bar, "span", "bd-history-count");
const compare = button("bd-history-compare", "Compare selected", () => act("compare", { selected: [...ticked] }));
const clear = button("bd-history-clear", "Clear", () => {
  ticked.clear();
  update();
  list.querySelector(".bd-past-open")?.focus();
});
bar.append(compare, clear);
const list = part(root, "ul", "bd-history-list");
const empty = part(root, "div", "bd-history-empty");
const note = part(root, "p", "bd-history-note");
part(empty, "strong");
part(empty, "p");
trouble.setAttribute("role", "alert");
bar.setAttribute("role", "group");
bar.setAttribute("aria-label", "Selected runs");
count.setAttribute("role", "status");
note.setAttribute("role", "status");
list.setAttribute("aria-label", "Runs, newest first. The arrow keys go from one to the next.");

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
  part(words, "span", "bd-past-facts");
  const line = part(words, "span", "bd-past-line");
  part(line, "time", "");
  part(line, "span", "bd-past-seconds");
  part(words, "span", "bd-pill");
  const tick = part(item, "label", "bd-past-tick");
  const box = part(tick, "input", "");
  const star = button("bd-past-star", "star", () => {
    const favourite = star.getAttribute("aria-pressed") !== "true";
    press(star, favourite); // at once; the server's answer follows
    act("star", { starred: item.dataset.id, favourite });
  });
  item.append(star);
  open.type = "button";
  box.type = "checkbox";
  moving.alt = "";
  moving.hidden = true;

  // The first frame is drawn on a canvas, which stays still; the picture itself moves, and lies over it.
  moving.addEventListener("load", () => {
    first.width = moving.naturalWidth;
    first.height = moving.naturalHeight;
    first.getContext("2d").drawImage(moving, 0, 0);
  });
  const play = (on) => { moving.hidden = !on || stillness.matches || !moving.getAttribute("src"); };
  for (const event of ["mouseenter", "focusin"]) item.addEventListener(event, () => play(true));
  for (const event of ["mouseleave", "focusout"]) item.addEventListener(event, () => play(false));

  open.addEventListener("click", () => {
    act("pick", { chosen: item.dataset.id });
    update();
  });
  box.addEventListener("change", () => {
    if (box.checked) ticked.add(item.dataset.id);
    else ticked.delete(item.dataset.id);
    showCount();
    mark(item);
  });
  open.addEventListener("keydown", (event) => move(event, item));
  return item;
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
    write(place, text);
    place.hidden = !text;
  };
  const picture = item.querySelector("img");
  const name = `${run.prompt}, ${run.what}`;
  const star = item.querySelector(".bd-past-star");
  item.dataset.id = run.id;
  set(".bd-past-prompt", run.prompt);
  set(".bd-past-what", run.what);
  set(".bd-past-facts", run.facts);
  set(".bd-past-seconds", run.seconds);
  set(".bd-pill", run.state);
  set(".bd-past-none", run.thumbnail ? "" : "No picture");
  item.querySelector(".bd-pill").dataset.state = run.key;
  press(item.querySelector(".bd-past-open"), run.id === chosen);
  press(star, run.favourite);
  star.setAttribute("aria-label", `Favourite: ${name}`);
  star.title = run.favourite ? "A favourite: it is kept" : "Make it a favourite";
  item.querySelector(".bd-past-tick input").setAttribute("aria-label", `Select: ${name}`);
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

function showCount() {
  const [least, most] = props.value.selectable;
  const number = ticked.size;
  bar.hidden = !number;
  compare.disabled = number < least || number > most;
  const hint = number < least ? ": select one more to compare" : number > most ? `: at most ${most} can be compared` : "";
  count.textContent = `${number} selected${hint}`;
}

function update() {
  const value = props.value;
  chosen = value.chosen ?? chosen; // null where the list was only looked at again
  const there = new Set(value.rows.map((run) => run.id));
  for (const id of ticked) if (!there.has(id)) ticked.delete(id);
  value.rows.forEach((run, index) => fill(list.children[index] || card(), run));
  while (list.children.length > value.rows.length) list.lastChild.remove();
  list.hidden = !value.rows.length;
  empty.hidden = Boolean(value.rows.length);
  [empty.firstChild.textContent, empty.lastChild.textContent] = value.empty;
  for (const [place, text] of [[note, value.note], [trouble, value.trouble]]) {
    write(place, text);
    place.hidden = !text;
  }
  showCount();
}

update();
watch("value", update);
