// Where one clip is shown at a time: which, and the way to the others.

class Pager {
  constructor(player) {
    this.player = player;
    this.box = make("div", "bdp-pager");
    this.dots = make("div", "bdp-dots");
    this.all = tool("bdp-tool bdp-all", "All clips", "All clips", () => player.enlarge(null), "Back to all clips (Esc)");
    this.box.append(
      tool("bdp-tool", "before", "Clip before", () => player.turn(-1)), this.dots,
      tool("bdp-tool", "after", "Clip after", () => player.turn(1)), this.all,
    );
  }

  refresh() {
    const { tiles, data, at } = this.player;
    const { dots } = this;
    while (dots.children.length > tiles.length) dots.lastChild.remove();
    while (dots.children.length < tiles.length) {
      const index = dots.children.length;
      dots.append(tool("bdp-dot", "", "", () => this.player.goTo(index)));
    }
    tiles.forEach((tile, index) => {
      const dot = dots.children[index];
      title(dot, `Show ${tile.fullName}`);
      dot.classList.toggle("is-recommended", index === data.recommended);
      dot.classList.toggle("is-paper", index === data.paper);
      if (index === at) dot.setAttribute("aria-current", "true");
      else dot.removeAttribute("aria-current");
    });
  }
}
