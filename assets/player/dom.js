// What all scripts of the studio make elements with. Text from the server is set as text, never as markup.

const ICONS = {
  play: "M8 5 L19 12 L8 19 Z",
  pause: "M7 5 H10.5 V19 H7 Z M13.5 5 H17 V19 H13.5 Z",
  back: "M16 5 V19 L7.5 12 Z M5 5 H7 V19 H5 Z",
  on: "M8 5 V19 L16.5 12 Z M17 5 H19 V19 H17 Z",
  loop: "M7 7 H16 V4 L21 8.5 L16 13 V10 H9 V13 H7 Z M17 17 H8 V20 L3 15.5 L8 11 V14 H15 V11 H17 Z",
  less: "M5 11 H19 V13 H5 Z",
  more: "M11 5 H13 V11 H19 V13 H13 V19 H11 V13 H5 V11 H11 Z",
  enlarge: "M5 5 H11 V7 H8.4 L11.7 10.3 L10.3 11.7 L7 8.4 V11 H5 Z M19 19 H13 V17 H15.6 L12.3 13.7 L13.7 12.3 L17 15.6 V13 H19 Z",
  before: "M15 5 L16.6 6.6 L11.2 12 L16.6 17.4 L15 19 L8 12 Z",
  after: "M9 5 L7.4 6.6 L12.8 12 L7.4 17.4 L9 19 L16 12 Z",
  save: "M11 4 H13 V12 L16 9 L17.4 10.4 L12 15.8 L6.6 10.4 L8 9 L11 12 Z M5 18 H19 V20 H5 Z",
  link: "M10.6 13.4 A1 1 0 0 1 9.2 14.8 A5 5 0 0 1 9.2 7.8 L12.7 4.2 A5 5 0 0 1 19.8 11.3 L18.2 12.9 A6.5 6.5 0 0 0 17.8 10.5 L18.4 9.9 A3 3 0 0 0 14.1 5.6 L10.6 9.2 A3 3 0 0 0 10.6 13.4 Z M13.4 10.6 A1 1 0 0 1 14.8 9.2 A5 5 0 0 1 14.8 16.2 L11.3 19.8 A5 5 0 0 1 4.2 12.7 L5.8 11.1 A6.5 6.5 0 0 0 6.2 13.5 L5.6 14.1 A3 3 0 0 0 9.9 18.4 L13.4 14.8 A3 3 0 0 0 13.4 10.6 Z",
  star: "M12 3.6 14.6 9.1 20.6 9.9 16.2 14.1 17.3 20.1 12 17.2 6.7 20.1 7.8 14.1 3.4 9.9 9.4 9.1 Z",
};

// Who asks for less motion gets none.
const stillness = window.matchMedia("(prefers-reduced-motion: reduce)");

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function make(tag, classes = "", text = undefined) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The same, as the last part of another element.
function part(parent, tag, classes = "", text = undefined) {
  const made = make(tag, classes, text);
  parent.append(made);
  return made;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function title(element, text) {
  element.setAttribute("aria-label", text);
  element.title = text;
}

// Its content is the name of an icon, or a text.
function button(classes, content, act) {
  const made = make("button", classes);
  made.type = "button";
  made.append(content in ICONS ? icon(content) : content);
  made.addEventListener("click", act);
  return made;
}

function press(element, on) {
  element.setAttribute("aria-pressed", String(on));
}

// Only what differs is written: a text that is selected stays so, and what is read aloud is not read again.
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A button that says by name what it does, where its content alone does not.
function tool(classes, content, label, act, hint = label) {
  const made = button(classes, content, act);
  title(made, label);
  made.title = hint;
  return made;
}

// Of a select; made anew only where they have changed: a list that is open stays open.
function offer(select, options, value) {
  const texts = JSON.stringify(options);
  if (select.dataset.options !== texts) {
    select.dataset.options = texts;
    select.replaceChildren(...options.map(([key, text]) => new Option(text, key)));
  }
  select.value = String(value);
}
