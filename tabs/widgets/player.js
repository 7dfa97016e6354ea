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

// What goes into a run stands beside what was made of the same frames; of other frames there is nothing yet.
const blank = ({ label, tone, main, note }) => ({ label, tone, main, note, sheet: null });
const STALE = ["Before your last change", "“Generate” makes the large clips anew"];
// A clip that was sent here came with its settings: filling them in is no change, but what one types after that is.
let touched = false;
root.closest(".bd-tab")?.addEventListener("input", () => { touched = true; }, true);
function withResult(value, shown) {
  if (value.sent) touched = false;
  if (value.first && shown.job) return shown; // a tab that opens shows its last run
  if (!("preview" in value)) return value;
  const kept = value.preview && value.preview === shown.of;
  const own = new Map(value.tiles.map((tile) => [tile.label, tile]));
  const main = shown.tiles.filter((tile) => tile.main).map((tile) => own.get(tile.label) ?? (kept ? tile : blank(tile)));
  const rest = value.tiles.filter((tile) => !main.includes(tile));
  const told = shown.sent && !touched ? shown.facts : [STALE, ...value.facts];
  const facts = kept ? told : value.facts;
  const { downloads, series, ratio, job, sent } = shown;
  const made = kept ? { downloads, series, ratio, job, sent } : {};
  return { ...value, ...made, tiles: [...main, ...rest], facts, of: value.preview };
}

// The bridged clips of the same frames by their ratio: those that came together, and each that is made after.
const shelf = new Map();
let series = null;
const atRatio = (tile, ratio) => ({ ...tile, ratio, sublabel: `ratio ${ratio}` });
function shelve(value) {
  if (value.series === undefined || "preview" in value) return;
  if (value.series !== series) shelf.clear();
  series = value.series;
  for (const { ratio, ...tile } of value.ratios ?? []) shelf.set(ratio, { rest: null, heat: null, ...tile });
  const bridged = value.tiles.find((tile) => tile.tone === "blend");
  if (!bridged?.sheet || bridged.pending) return;
  const { sheet, scores, rest, heat, file } = bridged;
  shelf.set(value.ratio, { sheet, scores, rest, heat, file });
}

root.ratios = () => (shelf.size > 1 && shown.series === series ? [...shelf.keys()].sort((one, other) => one - other) : []);
root.showRatio = (ratio) => {
  const near = root.ratios().reduce((best, each) => (Math.abs(each - ratio) < Math.abs(best - ratio) ? each : best));
  if (shown.tiles.some((tile) => tile.ratio === near)) return;
  const tiles = shown.tiles.map((tile) => (tile.tone === "blend" ? { ...atRatio(tile, near), ...shelf.get(near) } : tile));
  shown = { ...shown, tiles };
  root.player.update(shown);
};
root.runId = () => shown.downloads?.find(({ film }) => film)?.film[0] ?? "";
const tell = () => root.dispatchEvent(new CustomEvent("bd-clips", { bubbles: true }));

let shown = props.value;
shelve(shown);
root.player = window.bdStudio.mountPlayer(root, shown, {
  onFilm: film, ...(root.classList.contains("has-choice") ? { onChoose: choose } : {}),
});
watch("value", () => {
  const before = root.runId();
  shown = withResult(props.value, shown);
  shelve(shown);
  root.player.update(shown);
  tell();
  if (root.runId() && root.runId() !== before) trigger("run");
  // The server does not know what was chosen meanwhile.
  const { chosen } = root.player.state();
  if (chosen !== (props.value.chosen ?? null)) props.value = { ...props.value, chosen };
});
tell();
