"""What the tests of pages share: what is on them, the ways about them, and what can be measured there."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from bivdiff.catalog.tasks import TASKS

TITLES = {task: entry.title for task, entry in TASKS.items()}
LABELS = {
    "control": ["Frame by frame", "Bridged", "Source", "Control map"],
    "edit": ["Frame by frame", "Bridged", "Source"],
    "inpaint": ["Frame by frame", "Bridged", "Source", "Mask"],
    "outpaint": ["Frame by frame", "Bridged", "Canvas"],
    "smooth": ["Your frames", "Bridged"],
}
expect.set_options(timeout=120_000)  # of every test of a page: the machine may be busy

WIDE, SLIM = {"width": 1280, "height": 900}, {"width": 400, "height": 850}
# The lowest contrast of all texts with what is painted behind them, as WCAG 2 defines it, and the text it belongs to.
LOWEST_CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const behind = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color[3] > 0) layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reduceRight((below, top) => over(top, below), [255, 255, 255]);
  };
  let lowest = [21, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (e.closest("button:disabled, .is-idle, footer, script, style, noscript, option")) continue;
    let opacity = 1;
    for (let p = e; p; p = p.parentElement) opacity *= Number(getComputedStyle(p).opacity);
    const back = behind(e);
    const front = parse(getComputedStyle(e).color);
    const [a, b] = [light(over([...front.slice(0, 3), front[3] * opacity], back)), light(back)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, text];
  }
  return lowest;
}"""
# Of what is pressed, what is smaller than a finger, 44 pixels, with its size: of a choice its label counts, of a list
# the box around it. The dots below a clip stand beside arrows that do the same.
SMALL_TARGETS = """() => {
  const pressed = "button:not(.bdp-dot), a, input, select, summary, textarea, [role=tab], [role=button]";
  const target = (e) => (e.matches("[type=radio], [type=checkbox]") && e.closest("label"))
    || (e.matches("[role=combobox]") && e.closest(".wrap")) || e;
  return [...document.querySelectorAll(pressed)]
    .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled)
    .filter((e) => !e.closest("[aria-hidden=true], p"))
    .map((e) => [target(e).getBoundingClientRect(), e])
    .filter(([box]) => box.width > 1 && box.height > 1 && Math.min(box.width, box.height) < 44)
    .map(([box, e]) => `${e.ariaLabel || e.textContent.trim() || e.className}: ${box.width} x ${box.height}`);
}"""
AT_REST = """() => document.getAnimations().every(
  (one) => one.playState !== "running" || one.effect.getComputedTiming().endTime === Infinity)"""


def come_to_rest(page: Page) -> None:
    """Wait until no colour fades and nothing unfolds any more."""
    page.wait_for_function(AT_REST)


def let_draw(page: Page, times: int) -> None:
    """Let the page draw that many times: as long as anything that plays needs to show that it does, however slow."""
    page.evaluate("async (times) => { for (; times; times -= 1) await new Promise(requestAnimationFrame); }", times)


def go_to(page: Page, title: str) -> None:
    """Go to a tab, by the menu where there is no room for its name."""
    by_name = page.get_by_role("tab", name=title)
    if by_name.count() and by_name.first.is_visible():
        by_name.first.click()
    else:
        page.locator("#tabs .overflow-menu button").first.click()
        page.locator("#tabs .overflow-dropdown button", has_text=title).click()


def open_tab(page: Page, task: str) -> None:
    """Go to a tab and wait for the finished run of its sample."""
    go_to(page, TITLES[task])
    page.wait_for_selector(f"#{task}-generate")
    shows_all(page, task)


def shows_all(page: Page, task: str) -> None:
    """Wait until every place of a task's player has its clip."""
    expect(page.locator(f"#{task}-player .bdp-tile canvas[data-frame]")).to_have_count(len(LABELS[task]))


def place(page: Page, task: str, label: str) -> Locator:
    """One clip of a task's player, by its name."""
    return page.locator(f'#{task}-player .bdp-tile[data-label="{label}"]')


def generate(page: Page, task: str = "control") -> None:
    page.click(f"#{task}-generate")
    page.wait_for_selector(f'#{task}-progress [data-state="done"]')
    shows_all(page, task)
    page.wait_for_function(f"!document.querySelector('#{task}-player .bd-player').player.state().loading")


def overflow(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
