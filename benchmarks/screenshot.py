"""Make the README's picture of the page, with the shipped weights and the browser that the tests take.

    python benchmarks/screenshot.py

It goes to `docs/pictures/screenshot.webp`: the first tab with the finished run of its sample, as a visitor sees it
who has put the introduction away. Nothing is run, so that no time of this machine is in it.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from browser import find_browser

from bivdiff.settings import Settings
from tabs.context import AppContext
from tabs.page import build_page, launch_options

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / "docs" / "pictures" / "screenshot.webp"
SIZE = {"width": 1280, "height": 900}
QUALITY = 88


def main() -> None:
    """Open the page, and write what is seen."""
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(Settings(), history_folder=Path(folder), cache_size="0")
        app = build_page(AppContext.from_settings(settings))
        _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, **launch_options(settings))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser())
            page = browser.new_page(viewport=SIZE)
            page.goto(address)
            picture = Image.open(io.BytesIO(seen(page))).convert("RGB")
            browser.close()
        app.close()
    picture.save(PATH, quality=QUALITY, method=6)
    print(f"{PATH.relative_to(ROOT)}: {PATH.stat().st_size / 1000:.0f} kB")


def seen(page: Page) -> bytes:
    """The page once all clips of its first sample are there, as PNG."""
    page.wait_for_selector("#control-samples .bd-sample")
    page.get_by_label("Put this away").click()
    page.wait_for_selector("#control-ratio-scale .bd-ratio-mark")
    page.wait_for_function("!document.querySelector('#control-player .bd-player').player.state().loading")
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    return page.screenshot()


if __name__ == "__main__":
    main()
