// What is shown of the clips: themselves, one over another, differences or flicker; and how it is to be read.

const VIEWS = {
  clips: ["Clips", "The clips as they are"],
  wipe: ["Wipe", "Lay one clip over another, with a line to drag between them"],
  difference: ["Difference", "How far each clip is from one of them"],
  flicker: ["Flicker", "Where each clip flickers at rest"],
};
const OF_TWO = ["wipe", "difference"]; // views that need two clips
const GAINS = [1, 2, 4, 8, 16];

class Views {
  constructor(player) {
    this.player = player;
    this.bar = make("div", "bdp-bar bdp-views");
    this.bar.append(this.buildButtons(), this.buildZoom());
    this.settings = make("div", "bdp-settings");
    const pick = (which) => (index) => { player.picked[which] = index; player.refresh(); };
    this.pickers = {
      left: picker("Left", "Left clip", pick("left")), right: picker("Right", "Right clip", pick("right")),
      reference: picker("Compared with", "Compared with", pick("reference")),
      gain: picker("Amplified", "Amplified", (gain) => player.amplify(gain)),
    };
    this.settings.append(...Object.values(this.pickers).map(({ box }) => box), this.buildLegend());
  }

  buildButtons() {
    const made = make("div", "bdp-segments");
    made.setAttribute("role", "group");
    made.setAttribute("aria-label", "What is shown");
    this.buttons = Object.entries(VIEWS).map(([view, [text, hint]]) => {
      const one = tool("bdp-segment", text, text, () => this.player.show(view), hint);
      one.dataset.view = view;
      return one;
    });
    made.append(...this.buttons);
    return made;
  }

  buildZoom() {
    const { player } = this;
    const made = make("div", "bdp-zoom");
    this.zoomed = tool("bdp-tool bdp-percent", "100%", "Show whole pictures", () => player.resetZoom());
    const crisp = "Show every pixel instead of smoothing between them";
    this.sharp = tool("bdp-tool", "Crisp", "Crisp", () => player.sharpen(), crisp);
    made.append(
      tool("bdp-tool bdp-out", "less", "Zoom out, all clips", () => player.zoomBy(1 / 1.5)), this.zoomed,
      tool("bdp-tool bdp-in", "more", "Zoom in, all clips", () => player.zoomBy(1.5)), this.sharp,
    );
    return made;
  }

  buildLegend() {
    this.legend = make("div", "bdp-legend");
    const scale = part(this.legend, "div", "bdp-scale");
    part(scale, "span", "", "0");
    this.ramp = part(scale, "div", "bdp-ramp");
    this.high = part(scale, "span");
    this.says = part(this.legend, "p");
    return this.legend;
  }

  // Which clips can be chosen from, and which views there can be.
  refresh(ready) {
    const { player, pickers } = this;
    const options = ready.map((tile) => [tile.index, tile.fullName]);
    for (const side of ["left", "right"]) offer(pickers[side].select, options, player.wipe[side]);
    offer(pickers.reference.select, options, player.reference);
    offer(pickers.gain.select, GAINS.map((gain) => [gain, `${gain}×`]), player.gain);
    for (const one of this.buttons) {
      press(one, one.dataset.view === player.view);
      one.disabled = ready.length < (OF_TWO.includes(one.dataset.view) ? 2 : 1)
        || (one.dataset.view === "flicker" && !ready.some((tile) => tile.flicker));
    }
    for (const one of this.bar.querySelectorAll(".bdp-zoom button")) one.disabled = !ready.length;
    this.tellLegend();
  }

  tellLegend() {
    const { player, pickers } = this;
    const { view } = player;
    const lossy = player.data.lossy ? " The pictures of this page are compressed: a few levels may be their encoder's." : "";
    this.settings.hidden = view === "clips";
    for (const which of ["left", "right"]) pickers[which].box.hidden = view !== "wipe";
    for (const which of ["reference", "gain"]) pickers[which].box.hidden = view !== "difference";
    this.legend.hidden = !["difference", "flicker"].includes(view);
    if (view === "difference") {
      this.ramp.style.backgroundImage = "linear-gradient(90deg, #000, #fff)";
      this.high.textContent = String(Math.floor(255 / player.gain));
      const from = player.tiles[player.reference]?.label;
      this.says.textContent = `How far each clip is from “${from}”, in levels of 255. Black is the same.${lossy}`;
    } else if (view === "flicker") {
      this.ramp.style.backgroundImage = `linear-gradient(90deg, ${HEAT.map((color) => `rgb(${color.join(" ")})`).join(", ")})`;
      this.high.textContent = String(player.scale);
      this.says.textContent = "Flicker at rest of each place, in levels of 255: what changes beyond the motion. "
        + "Black is as still as the source.";
    }
  }

  tellZoom(z) {
    this.zoomed.textContent = `${Math.round(100 * z)}%`;
  }
}

function picker(text, label, choose) {
  const box = make("label", "bdp-picker", text);
  const select = part(box, "select", "bdp-select");
  select.setAttribute("aria-label", label);
  select.addEventListener("change", () => choose(Number(select.value)));
  return { box, select };
}
