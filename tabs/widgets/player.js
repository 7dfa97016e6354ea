// Puts the player of the studio (assets/player) into its place, and tells Gradio what is chosen, and which film is wanted.
// Given by Gradio: element, props, watch, trigger.

const root = element.querySelector(".bd-player");
const choose = (index) => {
  props.value = { ...props.value, chosen: index };
  trigger("pick", { index });
};

const film = (wanted) => {
  props.value = { ...props.value, wanted };
  trigger("film");
};

root.player = window.bdStudio.mountPlayer(root, props.value, {
  onFilm: film, ...(root.classList.contains("has-choice") ? { onChoose: choose } : {}),
});
watch("value", () => {
  root.player.update(props.value);
  // The server does not know what was chosen meanwhile.
  const { chosen } = root.player.state();
  if (chosen !== (props.value.chosen ?? null)) props.value = { ...props.value, chosen };
});
