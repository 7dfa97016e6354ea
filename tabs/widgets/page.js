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
  place?.querySelector(".bd-progress")?.ask?.();
  const card = place?.closest(".bd-see");
  const { top, bottom } = (card ?? place).getBoundingClientRect();
  if (!card || top < 0 || top > innerHeight / 2 || bottom < innerHeight / 2) bdScrollTo(card ?? place);
  values[index] ||= window.bdVisitor();
  return values;
};

// The first thing that a visitor sees is not there again at later visits, unless it is asked for.
window.bdHero = (on) => {
  document.documentElement.classList.toggle("bd-no-hero", !on);
  try { localStorage.setItem("bivdiff-hero", "seen"); } catch { /* it comes again */ }
};
try { if (localStorage.getItem("bivdiff-hero")) document.documentElement.classList.add("bd-no-hero"); } catch { /* it is shown */ }
document.addEventListener("click", (event) => event.target.closest?.('[data-shows="hero"]')
  && window.bdHero(document.documentElement.classList.contains("bd-no-hero")));

// The tab that is open is in the address: a reload, or a link to it, opens it again.
document.addEventListener("click", (event) => {
  const tab = event.target.closest?.("#tabs button[role=tab]");
  if (tab?.dataset.tabId) {
    history.replaceState(null, "", `${location.pathname}${location.search}#${tab.dataset.tabId}`); // the page has a base
  }
});
const bdFromAddress = () => {
  const id = location.hash.slice(1);
  if (!/^[a-z]+$/.test(id)) return;
  const seek = (tries) => {
    const tab = bdTab(id);
    if (tab?.ariaSelected === "true" || !tries || location.hash !== `#${id}`) return;
    tab?.click(); // again, where it was not listening yet
    setTimeout(seek, 100, tries - 1);
  };
  seek(100);
};
setTimeout(bdFromAddress); // once this script is through
window.addEventListener("hashchange", bdFromAddress);

// Opens a tab of a family's page.
window.bdOpen = (family, tab) => {
  const here = document.querySelector("#header [data-family]").dataset;
  if (here.family === family) {
    bdTab(tab)?.click();
    bdScrollTo(document.querySelector("#tabs"));
    return;
  }
  const root = here.family === here.first ? location.pathname : location.pathname.replace(new RegExp(`${here.family}/?$`), "");
  location.assign(`${root}${family === here.first ? "" : family}#${tab}`);
};

const bdTab = (id) => document.querySelector(`#${id}-tab-button`);

// Chooses a sample of a task, as a click on it would, and lets the ratio's slider play over its clips where that is asked.
window.bdShowSample = (task, index, plays = false) => {
  bdTab(task)?.click();
  const chooser = document.querySelector(`#${task}-samples [data-index="${index}"]`);
  if (chooser?.getAttribute("aria-pressed") !== "true") chooser?.click();
  bdScrollTo(document.querySelector(`#${plays ? `${task}-mixing-ratio` : "tabs"}`));
  if (plays) bdPlayRatios(task);
};

// Moves a slider as a hand would.
window.bdSetRatio = (task, ratio) => {
  const slider = document.querySelector(`#${task}-mixing-ratio input[type=range]`);
  slider.value = ratio;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  slider.dispatchEvent(new Event("change", { bubbles: true }));
};

async function bdPlayRatios(task) {
  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const ratios = () => document.querySelector(`#${task}-player .bd-player`)?.ratios?.() ?? [];
  for (let waited = 0; ratios().length < 2 && waited < 4000; waited += 100) await pause(100);
  const before = Number(document.querySelector(`#${task}-mixing-ratio input[type=range]`).value);
  for (const ratio of ratios()) {
    window.bdSetRatio(task, ratio);
    await pause(1600);
  }
  window.bdSetRatio(task, before);
}

// A word that the toybox knows goes into the prompt of its card: where the cursor is, or in the place of the one that it
// can only have one of.
const bdWithWord = (text, at, word, leads, group) => {
  if (!leads) return `${text.slice(0, at).trimEnd()} ${word} ${text.slice(at).trimStart()}`.trim();
  const floor = leads.includes("on");
  const one = floor ? /\bon an? [a-z]+ floor\b/ : new RegExp(`\\b(${group.join("|")})\\b`);
  const phrase = floor ? `on a ${word} floor` : word;
  return one.test(text) ? text.replace(one, phrase) : `${text.trimEnd()}${floor ? " " : leads}${phrase}`.trim();
};
document.addEventListener("click", (event) => {
  const chip = event.target.closest?.(".bd-words [data-word]");
  if (!chip) return;
  const boxes = [...chip.closest(".bd-card").querySelectorAll("textarea")].filter((box) => box.checkVisibility());
  const box = boxes.findLast((each) => each.compareDocumentPosition(chip) & Node.DOCUMENT_POSITION_FOLLOWING);
  const group = [...chip.parentElement.children].map((each) => each.dataset.word);
  box.value = bdWithWord(box.value, box.selectionEnd, chip.dataset.word, chip.parentElement.dataset.leads, group);
  box.dispatchEvent(new Event("input", { bubbles: true }));
});

// Ctrl+Enter, or Cmd+Enter, starts what the open tab starts.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  const start = [...document.querySelectorAll(".bd-run button:first-child")].find((each) => each.checkVisibility());
  if (!start || start.disabled) return;
  event.preventDefault();
  document.activeElement?.dispatchEvent(new Event("change", { bubbles: true }));
  start.click();
});

// What was typed is there again after a reload, which a page does by itself where the studio was started anew.
const BD_TYPED = `bivdiff-typed ${location.pathname}`; // each family has a page of its own
const bdTyped = new Map(); // texts by the ids of their boxes
let bdUnopened = new Map(); // the same of a visit before, whose boxes are in tabs that were not opened since
const bdBoxOf = (place) => place.closest?.(".bd-prompt")?.id;
document.addEventListener("input", ({ target }) => bdBoxOf(target) && bdTyped.set(bdBoxOf(target), target.value));
window.addEventListener("pagehide", () => {
  // Not what has been replaced since, by a sample's text or a restored run's.
  const stays = ([id, text]) => document.querySelector(`#${id} textarea`)?.value === text;
  try { sessionStorage.setItem(BD_TYPED, JSON.stringify([...bdUnopened, ...[...bdTyped].filter(stays)])); } catch { /* it is typed again */ }
});
const bdTypeAgain = () => {
  try { bdUnopened = new Map(JSON.parse(sessionStorage.getItem(BD_TYPED)) ?? []); } catch { /* nothing was kept */ }
  const fill = () => {
    for (const [id, text] of bdUnopened) {
      const box = document.querySelector(`#${id} textarea`);
      if (!box) continue;
      bdUnopened.delete(id);
      // Not before the page has written into it what it starts with.
      setTimeout(() => {
        box.value = text;
        box.dispatchEvent(new Event("input", { bubbles: true }));
      }, 300);
    }
    if (!bdUnopened.size) seen.disconnect();
  };
  const seen = new MutationObserver(fill);
  if (bdUnopened.size) seen.observe(document.documentElement, { childList: true, subtree: true });
};
bdTypeAgain();

// Once a part is filled: it may be out of sight, and whoever cannot see should hear of it.
window.bdReveal = (id) => requestAnimationFrame(() => {
  const place = document.querySelector(`#${id}`);
  if (!place) return;
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
  bdScrollTo(place);
});

// The same, of the result on the tab that was just opened.
window.bdRevealOpen = () => requestAnimationFrame(() => {
  const open = [...document.querySelectorAll(".bd-tab .bdp-deck")].find((place) => place.checkVisibility());
  bdScrollTo(open?.closest(".bd-player"));
});

// Saves a file that an event has made: only a link's own download can name it.
window.bdSave = (file) => {
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name || "";
  link.click();
};

// The link of the published result that one comes from; told once, or a reload would bring it back.
window.bdArrivedFrom = () => {
  const place = new URL(location.href);
  const link = place.searchParams.get("r") ?? "";
  place.searchParams.delete("r");
  if (link) history.replaceState(history.state, "", place);
  return link;
};

// Shows the link of a result that was just published, copied where the browser lets us.
window.bdShowLink = async (link) => {
  const { make, part, button } = window.bdStudio;
  const address = `${window.gradio_config?.root ?? location.origin}/r/${link}`;
  const box = part(document.body, "dialog", "bd-share");
  part(box, "h2", "", "Whoever has this link sees the result");
  const field = part(box, "input");
  Object.assign(field, { value: address, readOnly: true, ariaLabel: "Link" });
  const copied = await navigator.clipboard?.writeText(address).then(() => true, () => false);
  part(box, "p", "", `${copied ? "It is copied. " : "Copy it from here. "}It shows the clips, your source among them, the `
    + "prompt and all settings, and changes nothing. Switch it off in the History; it goes when the run is deleted.");
  const open = Object.assign(make("a", "", "Open it"), { href: address, target: "_blank", rel: "noopener" });
  part(box, "div", "bd-share-acts").append(open, button("", "Close", () => box.close()));
  box.addEventListener("close", () => box.remove());
  box.showModal();
  field.select();
};

// Makes the page look anew for its visitor's jobs: what stands behind the mark is nobody's name, but it differs.
window.bdLookAgain = (visitor, mark) => `${visitor.split(mark)[0]}${mark}${Date.now()}`;
