// What keys do, and where one reads it.

const KEYS = [
  ["Space", "play or pause"], ["← →", "one frame back or on"], ["Home, End", "first or last frame"],
  ["1 to 9", "enlarge a clip"], ["Page Up, Page Down", "the clip before or after it"], ["Esc", "back to all clips"],
  ["+ − 0", "zoom in, out, reset"], ["Shift + arrows", "move what is shown"],
  ["Drag, wheel, pinch", "move and zoom; a double click resets"],
];
const OWN_KEYS = "input, textarea, select, [contenteditable], [tabindex], [role=tab], [role=slider]";

class Keys {
  constructor(player) {
    this.player = player;
    this.button = tool("bdp-tool bdp-keys", "Keys", "Keys", () => this.explain(), "What the keys do");
    this.button.setAttribute("aria-expanded", "false");
    this.help = make("dl", "bdp-help");
    this.help.hidden = true;
    for (const [keys, act] of KEYS) {
      const pair = part(this.help, "div");
      pair.append(make("dt", "", keys), make("dd", "", act));
    }
  }

  explain() {
    this.help.hidden = !this.help.hidden;
    this.button.setAttribute("aria-expanded", String(!this.help.hidden));
  }

  hear(event) {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || !this.isMeant(event)) return;
    const act = event.shiftKey ? this.panKey(event.key) : this.plainKey(event.key);
    if (!act) return;
    event.preventDefault();
    act();
  }

  // Keys are for the player where it has the focus, or is pointed at while nothing else takes keys.
  isMeant({ target, key }) {
    const { root } = this.player;
    const inside = root.contains(target);
    if (!inside && !root.matches(":hover")) return false;
    if (inside ? target.closest("select") : target.closest?.(OWN_KEYS)) return false;
    return !([" ", "Enter"].includes(key) && target.closest?.("button, a, summary"));
  }

  plainKey(key) {
    const { player } = this;
    if (/^[1-9]$/.test(key)) return () => player.enlarge(Number(key) - 1);
    if (key === "Escape") return player.focused ? () => player.enlarge(null) : null;
    if (key === "PageUp" || key === "PageDown") return player.solo ? () => player.turn(key === "PageUp" ? -1 : 1) : null;
    return {
      " ": () => player.play(!player.clock.playing),
      ArrowLeft: () => player.step(-1), ArrowRight: () => player.step(1),
      Home: () => player.seek(0), End: () => player.seek(player.clock.count - 1),
      "+": () => player.zoomBy(1.5), "=": () => player.zoomBy(1.5), "-": () => player.zoomBy(1 / 1.5),
      0: () => player.resetZoom(),
    }[key];
  }

  panKey(key) {
    const { player } = this;
    if (key === "+") return () => player.zoomBy(1.5); // on many keyboards it is typed with shift
    const by = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[key];
    return by && (() => { player.camera.pan(...by); player.look(); });
  }
}
