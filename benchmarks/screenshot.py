"""Make the README's pictures of the page, with the shipped weights and the browser that the tests take.

    python benchmarks/screenshot.py [picture ...]

They go to `docs/pictures`: the first tab and editing with the finished run of their sample, as a visitor sees them who
has put the introduction away, the first tab on a phone, and, where it is asked for, a comparison of five ratios, which
is made for it. No time of this machine is in them.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from browser import find_browser

from bivdiff.settings import Settings
from tabs.context import AppContext
from tabs.page import build_page, launch_options

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
WIDE, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=400, height=850)
QUALITY = 88
PATIENCE = 900  # seconds that a comparison may take on a busy machine


def main() -> None:
    """Open the page for each picture of the README, or those that are named, and write what is seen."""
    parser = argparse.ArgumentParser(description="Make the README's pictures of the page.")
    parser.add_argument("pictures", nargs="*", choices=[*SHOTS, []], help="those of the README where none is named")
    wanted = parser.parse_args().pictures or [name for name in SHOTS if (PICTURES / f"{name}.webp").is_file()]
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(Settings(), history_folder=Path(folder), cache_size="0")
        app = build_page(AppContext.from_settings(settings))
        _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, **launch_options(settings))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser())
            for name in wanted:
                size, scale, go_there = SHOTS[name]
                page = browser.new_page(viewport=size, device_scale_factor=scale, reduced_motion="reduce")
                page.set_default_timeout(PATIENCE * 1000)
                page.goto(address)
                write(PICTURES / f"{name}.webp", seen(page, go_there))
                page.close()
            browser.close()
        app.close()


def write(path: Path, png: bytes) -> None:
    """Write one picture, and say how large it is."""
    Image.open(io.BytesIO(png)).convert("RGB").save(path, quality=QUALITY, method=6)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def seen(page: Page, go_there: Callable[[Page], str]) -> bytes:
    """The page once all that is to be seen there has come, as PNG."""
    page.get_by_label("Put this away").click()
    page.wait_for_selector("#control-ratio-scale .bd-ratio-mark")
    page.evaluate("scrollTo(0, 0)")
    player = go_there(page)
    page.wait_for_function(f"!document.querySelector('#{player} .bd-player').player.state().loading")
    page.mouse.move(0, 0)
    return page.screenshot()


# Where to go; each returns the id of the player that is to be seen.


def control(_: Page) -> str:
    """Stay where the page opens."""
    return "control-player"


def edit(page: Page) -> str:
    """Go to the finished edit of a sample."""
    page.get_by_role("tab", name="Editing").click()
    page.wait_for_selector("#edit-ratio-scale .bd-ratio-mark")
    return "edit-player"


def compare(page: Page) -> str:
    """Compare the ratios of the first sample, with a seed that stays, and go to the clips."""
    page.locator("#control-random-seed input").uncheck()
    page.click("#control-compare")
    page.wait_for_selector('#compare-progress [data-state="done"]')
    page.locator("#compare-result").evaluate("each => each.scrollIntoView()")
    return "compare-player"


SHOTS: dict[str, tuple[ViewportSize, int, Callable[[Page], str]]] = {
    "screenshot": (WIDE, 1, control),
    "screenshot-edit": (WIDE, 1, edit),
    "screenshot-phone": (PHONE, 2, control),
    "screenshot-compare": (WIDE, 1, compare),
}


if __name__ == "__main__":
    main()
