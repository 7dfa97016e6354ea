// Below the clips: what a run says of itself, and its files.

class Readout {
  constructor(onFilm) {
    this.onFilm = onFilm;
    this.box = make("div", "bdp-readout");
    this.facts = part(this.box, "dl", "bdp-facts");
    this.downloads = part(this.box, "div", "bdp-downloads");
    this.shown = null;
  }

  fill({ facts = [], downloads = [] }) {
    const told = JSON.stringify([facts, downloads]);
    if (told === this.shown) return;
    this.shown = told;
    this.facts.replaceChildren(...facts.map(([term, text]) => {
      const pair = make("div");
      pair.append(make("dt", "", term), make("dd", "", text));
      return pair;
    }));
    this.downloads.replaceChildren(...downloads.map(({ label, file, film }) => {
      const link = film ? button("bdp-download", film[1] === "link" ? "link" : "save", () => this.onFilm(film)) : saveLink("bdp-download", file);
      link.append(make("span", "", label));
      return link;
    }));
    this.facts.hidden = !facts.length;
    this.downloads.hidden = !downloads.length;
    this.box.hidden = !facts.length && !downloads.length;
  }
}
