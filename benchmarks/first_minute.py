"""What a visitor waits for: the page, the first feedback of a run, its end; and how long the browser is deaf meanwhile.

    python benchmarks/first_minute.py

The real app with the toybox in a process of its own, and the browser that the tests take. Seconds are from the click,
or from where the page is asked for. A long task is one in which the browser answers to nothing, in milliseconds. It
is measured on a first visit, during a run, and when the visitor comes back, whose last result is shown. On a machine
that does other work all of it takes longer.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import served
from browser import find_browser

SIZE = {"width": 1280, "height": 800}
SETTLED = 2000.0  # milliseconds in which a page may be busy with being built
LOOK = 6000  # milliseconds that a page is looked at
WATCH = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longTasks.push([entry.startTime, entry.duration]);
}).observe({ type: "longtask", buffered: true });
"""
NOW = "performance.now()"


def main() -> None:
    """Visit, run, come back, and print what was measured."""
    with (
        tempfile.TemporaryDirectory() as folder, served.serving(Path(folder)) as (address, _),
        sync_playwright() as playwright,
    ):  # fmt: skip
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--disable-gpu"])
        context = browser.new_context(viewport=SIZE)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.set_default_timeout(1000 * served.PATIENCE)
        report = {"first visit": visited(page, address), "first run": run(page), "second run": run(page)}
        report["coming back"] = visited(page, address)
        browser.close()
    print(json.dumps(report, indent=2))


def visited(page: Page, address: str) -> dict[str, Any]:
    """Open the page: seconds until it can be used and until its clips are there, and the long tasks after that."""
    page.goto(address, wait_until="commit")
    page.wait_for_selector("#control-generate")
    usable = page.evaluate(NOW)
    page.wait_for_selector("#control-player .bdp-tile canvas[data-frame]")
    shown = page.evaluate(NOW)
    page.wait_for_timeout(LOOK)
    return {"usable": _seconds(usable), "clips": _seconds(shown), **_long_tasks(page, SETTLED)}


def run(page: Page) -> dict[str, Any]:
    """Press Generate: seconds until something is said, until a first picture comes, until the end; and long tasks."""
    began = page.evaluate(NOW)
    page.click("#control-generate")
    page.wait_for_selector('#control-progress [data-state="running"], #control-progress [data-state="queued"]')
    said = page.evaluate(NOW)
    page.wait_for_selector('#control-player .bdp-tile.is-pending canvas[data-frame], '
                           '#control-progress [data-state="done"]')  # fmt: skip
    pictured = page.evaluate(NOW)
    page.wait_for_selector('#control-progress [data-state="done"]')
    done = page.evaluate(NOW)
    moments = {"feedback": said, "first picture": pictured, "done": done}
    return {name: _seconds(at - began) for name, at in moments.items()} | _long_tasks(page, began)


def _long_tasks(page: Page, since: float) -> dict[str, Any]:
    """The longest after a moment, and how many took more than 200 ms."""
    lasted = [duration for start, duration in page.evaluate("longTasks") if start >= since]
    return {"longest task": round(max(lasted, default=0.0)), "tasks over 200 ms": sum(each > 200 for each in lasted)}


def _seconds(milliseconds: float) -> float:
    return round(milliseconds / 1000, 2)


if __name__ == "__main__":
    main()
