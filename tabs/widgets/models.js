// The list of models: one button per model; choosing one triggers "pick".
// Given by Gradio: element, props, watch, trigger. All text from the server is set as text, never as markup.

const { part, press, write } = window.bdStudio;
const root = element.querySelector(".bd-models");
const heads = part(root, "div", "bd-model-heads");
const list = part(root, "ul", "bd-model-list");
const note = part(root, "p", "bd-model-note");
list.setAttribute("aria-label", "Models");
note.setAttribute("role", "status");
for (const head of ["Model", "State", "Size, and trained at", "Licence"]) part(heads, "span", "", head);
heads.setAttribute("aria-hidden", "true");

function row() {
  const item = part(list, "li");
  const button = part(item, "button", "bd-model");
  const name = part(button, "span", "bd-model-name");
  part(name, "strong", "bd-model-key");
  part(name, "span", "bd-model-kind");
  part(button, "span", "bd-pill");
  const facts = part(button, "span", "bd-model-facts");
  part(facts, "span", "bd-model-size");
  part(facts, "span", "bd-model-native");
  const terms = part(button, "span", "bd-model-terms");
  part(terms, "span", "bd-model-licence");
  part(terms, "span", "bd-terms", "non-commercial");
  button.type = "button";
  button.addEventListener("click", () => {
    props.value = { ...props.value, chosen: button.dataset.key };
    trigger("pick");
    update();
  });
  return item;
}

// Rows are filled in anew, not made anew: the list keeps its place and its focus while it is refreshed.
function fill(item, model, chosen) {
  const button = item.firstChild;
  const set = (selector, text) => write(button.querySelector(selector), text);
  button.dataset.key = model.key;
  press(button, model.key === chosen);
  set(".bd-model-key", model.key);
  set(".bd-model-kind", model.kind);
  set(".bd-pill", model.state);
  set(".bd-model-size", model.size);
  set(".bd-model-native", model.native);
  set(".bd-model-licence", model.licence);
  button.querySelector(".bd-pill").dataset.state = model.state;
  button.querySelector(".bd-terms").hidden = !model.non_commercial;
}

function update() {
  const { rows, chosen, note: told } = props.value;
  rows.forEach((model, index) => fill(list.children[index] || row(), model, chosen));
  while (list.children.length > rows.length) list.lastChild.remove();
  heads.hidden = list.hidden = !rows.length;
  write(note, told);
}

update();
watch("value", update);
