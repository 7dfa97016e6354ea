// Pointers on a picture: tap, drag, swipe, pinch, wheel, double click.

const SLACK = 6; // pixels a pointer may move and still have tapped
const SWIPE = 36; // pixels that make a swipe

// `take` may have a drag for itself.
function followPointers(area, player, { tap, swipe, take }) {
  const pointers = new Map();
  let travelled = null;
  const share = ({ clientX, clientY }) => {
    const box = area.getBoundingClientRect();
    return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
  };
  const middle = () => {
    const [a, b] = [...pointers.values()];
    return { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY));
  };
  const pan = (from, to) => {
    const [a, b] = [share(from), share(to)];
    player.camera.pan(b[0] - a[0], b[1] - a[1]);
  };
  const pinch = (event) => {
    const [was, far] = [middle(), spread()];
    pointers.set(event.pointerId, event);
    player.camera.zoom(spread() / far, ...share(was));
    pan(was, middle());
    player.look();
  };
  const drag = (event) => {
    const last = pointers.get(event.pointerId);
    pointers.set(event.pointerId, event);
    if (take?.(share(event), travelled.target) || player.camera.z === 1) return;
    pan(last, event);
    player.look();
  };

  area.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    area.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    if (pointers.size > 1) travelled = null;
    else {
      travelled = { x: event.clientX, y: event.clientY, far: 0, target: event.target };
      take?.(share(event), event.target);
    }
  });
  area.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    if (pointers.size > 1) return void pinch(event);
    if (!travelled) return void pointers.set(event.pointerId, event); // what is left of a pinch
    travelled.far = Math.max(travelled.far, Math.hypot(event.clientX - travelled.x, event.clientY - travelled.y));
    if (travelled.far > SLACK) drag(event);
  });
  area.addEventListener("pointerup", (event) => {
    if (!pointers.delete(event.pointerId) || !travelled) return;
    const [x, y] = [event.clientX - travelled.x, event.clientY - travelled.y];
    if (travelled.far <= SLACK) tap?.();
    else if (player.camera.z === 1 && Math.abs(x) > SWIPE && Math.abs(x) > 1.5 * Math.abs(y)) swipe?.(x < 0 ? 1 : -1);
    travelled = null;
  });
  area.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); travelled = null; });
  area.addEventListener("dblclick", (event) => { if (!event.target.closest("button")) player.resetZoom(); });
  area.addEventListener("wheel", (event) => {
    const by = Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015));
    // Who only scrolls past must not be held up: the wheel zooms where one is already at work.
    const meant = event.ctrlKey || event.metaKey || player.root.contains(document.activeElement);
    if (!meant || (by < 1 && player.camera.z === 1)) return;
    event.preventDefault();
    player.camera.zoom(by, ...share(event));
    player.look();
  }, { passive: false });
}
