// Two clips over each other, the left one up to the line.

class Wipe {
  constructor(player) {
    Object.assign(this, { player, share: 0.5 });
    this.box = make("div", "bdp-wipe");
    this.stage = make("div", "bdp-picture bdp-stage");
    this.layers = ["right", "left"].map((side) => {
      const layer = make("div", `bdp-layer is-${side}`);
      const canvas = make("canvas");
      const label = make("div", `bdp-label is-${side}`);
      layer.append(canvas);
      return { side, layer, canvas, label };
    });
    this.divider = make("div", "bdp-divider");
    this.divider.tabIndex = 0;
    this.divider.setAttribute("role", "slider");
    this.divider.setAttribute("aria-label", "Where the left clip ends");
    this.divider.setAttribute("aria-valuemin", "0");
    this.divider.setAttribute("aria-valuemax", "100");
    this.stage.append(
      ...this.layers.map(({ layer }) => layer), ...this.layers.map(({ label }) => label), this.divider,
    );
    this.box.append(this.stage);
    followPointers(this.stage, player, { take: ([across], target) => this.drag(across, target) });
    this.divider.addEventListener("keydown", (event) => this.onKey(event));
  }

  // A drag moves the line; once zoomed in it moves the picture, unless it begins on the line.
  drag(across, target) {
    if (this.player.camera.z > 1 && target !== this.divider) return false;
    this.move(across);
    return true;
  }

  onKey(event) {
    const by = event.shiftKey ? 0.1 : 0.02;
    const moves = {
      ArrowLeft: this.share - by, ArrowDown: this.share - by, ArrowRight: this.share + by,
      ArrowUp: this.share + by, Home: 0, End: 1,
    };
    if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault(); // which also keeps the player from going to another frame
    this.move(moves[event.key]);
  }

  move(share) {
    this.share = clamp(share, 0, 1);
    this.tell();
  }

  tell() {
    const { wipe } = this.player;
    const [left, right] = [this.player.tiles[wipe.left], this.player.tiles[wipe.right]];
    const shown = Math.round(100 * this.share);
    this.stage.style.setProperty("--share", `${100 * this.share}%`);
    this.divider.setAttribute("aria-valuenow", shown);
    this.divider.setAttribute("aria-valuetext", `${shown}% ${left?.fullName}, ${100 - shown}% ${right?.fullName}`);
    if (left?.sheet) this.stage.style.setProperty("--aspect", left.sheet.width / left.sheet.height);
    for (const { side, canvas, label } of this.layers) {
      const tile = side === "left" ? left : right;
      label.replaceChildren(make("strong", "", tile?.label ?? ""), make("span", "", tile?.data.sublabel || ""));
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${tile?.fullName}, ${side} of the line`);
    }
  }

  draw(frame) {
    for (const { side, canvas } of this.layers) {
      const tile = this.player.tiles[this.player.wipe[side]];
      if (tile?.bitmap) drawFrame(canvas, tile.sheet, tile.bitmap, frame);
    }
  }
}
