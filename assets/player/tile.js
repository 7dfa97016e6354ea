// One clip: its picture with what is written on it, and what is written below.

class Tile {
  constructor(player, index) {
    Object.assign(this, { player, index, sheet: null, bitmap: null, source: "", failed: false });
    Object.assign(this, { flicker: null, heatSource: "", drawn: null });
    this.box = make("figure", "bdp-tile");
    this.picture = make("div", "bdp-picture");
    this.canvas = make("canvas");
    this.note = make("p", "bdp-note");
    this.title = make("strong");
    this.sublabel = make("span");
    this.badges = make("div", "bdp-badges");
    this.mean = make("span", "bdp-mean");
    this.rest = make("div", "bdp-rest");
    this.scores = make("dl", "bdp-scores");
    this.head = make("div", "bdp-head");
    const key = index < 9 ? String(index + 1) : "";
    this.enlarge = tool("bdp-enlarge", "enlarge", "", () => player.enlarge(player.focused ? null : index));
    this.enlarge.append(make("span", "", key));
    this.choose = tool("bdp-choose", "Choose", "", () => player.choose(index));
    this.canvas.setAttribute("role", "img");
    this.assemble();
    followPointers(this.picture, player, {
      tap: () => this.bitmap && player.choose(index),
      swipe: (by) => player.turn(by),
    });
  }

  assemble() {
    const label = part(this.head, "div", "bdp-label");
    const caption = make("figcaption");
    label.append(this.title, this.sublabel);
    caption.append(this.head, this.choose, this.rest, this.scores);
    this.picture.append(this.canvas, this.note, this.badges, this.mean, this.enlarge);
    this.box.append(this.picture, caption);
  }

  get fullName() {
    return [this.label, this.data.sublabel].filter(Boolean).join(", ");
  }

  fill(data) {
    this.data = data;
    this.label = data.label;
    this.box.dataset.label = data.label;
    this.box.dataset.tone = data.tone || "";
    this.box.classList.toggle("is-main", Boolean(data.main));
    write(this.title, data.label);
    write(this.sublabel, data.sublabel || "");
    this.sublabel.hidden = !data.sublabel;
    this.fillSave(data.file);
    title(this.enlarge, `Enlarge ${this.fullName}${this.index < 9 ? `, key ${this.index + 1}` : ""}`);
    this.scores.replaceChildren(...Object.entries(data.scores || {}).map(([score, value]) => {
      const pair = make("div");
      pair.append(make("dt", "", score), make("dd", "", shownScore(value)));
      if ((data.best || []).includes(score)) part(pair, "span", "bdp-best", "best");
      return pair;
    }));
    this.fillRest(data);
  }

  // Flicker at rest: in words, and as two bars, of the frames and of this clip. Their left end is no flicker, which is
  // as still as the source.
  fillRest({ rest, best = [] }) {
    this.rest.hidden = !rest;
    if (!rest) return;
    const line = make("p");
    part(line, "span", "", "Flicker at rest");
    const own = this.data.tone === "image"; // the frames themselves, of which there is one bar
    part(line, "strong", "", own && rest.level !== null ? shownNumber(rest.level) : rest.words);
    if (best.includes("Flicker at rest")) part(line, "span", "bdp-best", "best");
    const most = Math.max(rest.level ?? 0, rest.before ?? 0, 1);
    const levels = rest.level === null || rest.before === null ? [] : [["image", rest.before], ...(own ? [] : [["blend", rest.level]])];
    const bars = levels.map(([tone, level]) => {
      const bar = make("div", `bdp-restbar is-${tone}`);
      bar.style.setProperty("--share", `${(100 * level) / most}%`);
      part(bar, "span", "", shownNumber(level));
      bar.title = `${tone === "image" ? "The frames" : "This clip"}: ${shownNumber(level)} levels of 255`;
      return bar;
    });
    this.rest.replaceChildren(line, ...bars);
  }

  // The clip's own file, where there is one.
  fillSave(file) {
    if (this.save?.getAttribute("href") === file?.url) return;
    this.save?.remove();
    this.save = file ? saveLink("bdp-save", file) : null;
    if (!this.save) return;
    title(this.save, `Download ${this.label.toLowerCase()} as mp4`);
    this.head.append(this.save);
  }

  mark(recommended, paper, reference) {
    const badges = [
      [recommended, "recommended", "Recommended"], [paper, "paper", "The paper's"], [reference, "reference", "Reference"],
    ].filter(([on]) => on);
    this.badges.replaceChildren(...badges.map(([, kind, text]) => make("span", `bdp-badge is-${kind}`, text)));
    this.box.classList.toggle("is-recommended", recommended);
    this.box.classList.toggle("is-paper", paper);
    this.box.classList.toggle("is-before", this.player.isBefore(this.index));
  }

  markChosen(on) {
    this.box.classList.toggle("is-chosen", on);
    this.choose.textContent = on ? "✓ Chosen" : "Choose";
    title(this.choose, on ? `${this.fullName}, chosen` : `Choose ${this.fullName}`);
    press(this.choose, on);
    this.choose.disabled = !this.bitmap || this.player.isBefore(this.index);
  }

  load(sheet) {
    const source = addressOf(sheet);
    if (source !== this.source) {
      Object.assign(this, { source, failed: false });
      if (sheet) this.decode(source, sheet);
      else this.take(null, null);
    }
    this.say();
  }

  // Until the new sheet is there the old one stays, so that nothing blinks.
  async decode(source, sheet) {
    try {
      const bitmap = await createImageBitmap(await decoded(source));
      if (this.source === source) this.take(sheet, bitmap);
      else bitmap.close();
    } catch {
      if (this.source !== source) return;
      this.failed = true;
      this.take(null, null);
    }
  }

  take(sheet, bitmap) {
    this.bitmap?.close();
    Object.assign(this, { sheet, bitmap, drawn: null });
    this.say();
    this.player.refresh();
  }

  // The map comes from the server, which measures it as it does the number.
  async loadHeat(heat) {
    const source = heat ? heat.src.url || heat.src : "";
    if (source === this.heatSource) return;
    this.heatSource = source;
    const flicker = heat ? await readHeat(heat).catch(() => null) : null;
    if (this.heatSource !== source) return;
    this.flicker = flicker;
    this.mean.textContent = flicker ? `flicker at rest ${shownNumber(flicker.mean)}` : "not measured";
    this.player.refresh();
  }

  say() {
    const { bitmap, data, failed } = this;
    const waiting = data.pending ? "Being made" : "Not made yet";
    this.note.textContent = failed ? "This clip could not be loaded. Run the comparison again." : data.note || waiting;
    this.note.hidden = Boolean(bitmap);
    this.box.classList.toggle("is-empty", !bitmap);
    this.box.classList.toggle("is-pending", Boolean(data.pending));
    this.canvas.setAttribute("aria-label", `${this.fullName}: ${bitmap ? `${this.sheet.count} frames` : this.note.textContent}`);
    if (bitmap) this.picture.style.aspectRatio = `${this.sheet.width} / ${this.sheet.height}`;
    else this.picture.style.removeProperty("aspect-ratio");
  }

  // What is drawn in this view, or null while it is being made.
  material(view, reference, gain) {
    if (view === "flicker" && this.flicker) return { still: this.flicker.picture };
    if (view === "difference" && this !== reference) return { against: reference, gain };
    return this.bitmap;
  }

  draw(frame, source) {
    if (!this.bitmap || !source) {
      this.drawn = null;
      delete this.canvas.dataset.frame;
      if (!this.bitmap) this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
      return;
    }
    if (source.against) drawDifference(this.canvas, this, source, frame);
    else drawFrame(this.canvas, this.sheet, source, frame);
    this.drawn = frame;
    this.canvas.dataset.frame = Math.min(frame, this.sheet.count - 1);
  }

  remove() {
    this.source = this.heatSource = "";
    this.bitmap?.close();
    this.box.remove();
  }
}

function shownScore(value) {
  return typeof value === "string" ? value : shownNumber(value);
}

function shownNumber(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "none";
}

// A file that the browser saves under its own name.
function saveLink(classes, file) {
  const made = make("a", classes);
  made.href = file.url;
  made.download = file.orig_name || "";
  made.append(icon("save"));
  return made;
}

// Where a sheet's picture is to be had: a file of the server's, or a data address.
function addressOf(sheet) {
  return sheet ? sheet.src.url || sheet.src : "";
}
