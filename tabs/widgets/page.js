// What events of the page do in the browser, beside those of the widgets.

// Who uses this page: a token that only this browser has, and one for this window.
window.bdVisitor = () => {
  const made = () => crypto.getRandomValues(new Uint32Array(4)).reduce((text, part) => text + part.toString(16).padStart(8, "0"), "");
  let token = null;
  try { token = localStorage.getItem("bivdiff-visitor"); } catch { /* kept for this window only */ }
  if (!token) {
    token = made();
    try { localStorage.setItem("bivdiff-visitor", token); } catch { /* as above */ }
  }
  const visitor = `${token}.${made()}`;
  window.bdVisitor = () => visitor;
  return visitor;
};

const bdScrollTo = (place) => {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  place?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
};

// Before a run starts: its progress may be out of sight, and the page not yet told who uses it.
// `values` are the event's inputs, among which the visitor is the one at `index`.
window.bdShowProgress = (task, index, values) => {
  const place = document.querySelector(`#${task}-progress`);
  // At the click, and not whenever the server answers: nothing moves under a hand that goes on to the next thing.
  place?.querySelector(".bd-progress")?.classList.add("is-started");
  bdScrollTo(place);
  values[index] ||= window.bdVisitor();
  return values;
};

// Once a part is filled: it may be out of sight, and whoever cannot see should hear of it.
window.bdReveal = (id) => requestAnimationFrame(() => {
  const place = document.querySelector(`#${id}`);
  if (!place) return;
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
  bdScrollTo(place);
});

// Saves a file that an event has made: only a link's own download can name it.
window.bdSave = (file) => {
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name || "";
  link.click();
};

// Makes the page look anew for its visitor's jobs: what stands behind the mark is nobody's name, but it differs.
window.bdLookAgain = (visitor, mark) => `${visitor.split(mark)[0]}${mark}${Date.now()}`;
