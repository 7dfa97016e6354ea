"""The browser that the tests drive: where it is, and how it gets there (`python tests/browser.py`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def find_browser() -> str | None:
    """The path of a Chromium or Chrome that starts, or None."""
    candidates = [path for name in NAMES if (path := shutil.which(name))]
    # A name on PATH may be a stub that only says where to get the browser, so it is asked for its version.
    return next((path for path in candidates if _succeeds(path, "--version", quiet=True)), None) or _playwrights_own()


def install_browser() -> str:
    """Make sure that there is a browser: the system's, or playwright's own; returns its path.

    Raises:
        SystemExit: there is none and none could be installed; the message says what to do.
    """
    for install in (lambda: None, _install_with_apt, _install_with_playwright):
        install()
        if path := find_browser():
            return path
    raise SystemExit(
        "The tests need a browser, and none could be installed here. Install Chromium or Google Chrome, so that "
        "'chromium' or 'google-chrome' is on PATH, and run the tests again."
    )


def _install_with_apt() -> None:
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") and _succeeds(*rights, "true"):
        _succeeds(*rights, "apt-get", "update")
        _succeeds(*rights, "apt-get", "install", "--yes", "--no-install-recommends", "chromium")


def _install_with_playwright() -> None:
    _succeeds(sys.executable, "-m", "playwright", "install", "chromium")


def _playwrights_own() -> str | None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def _succeeds(*command: str, quiet: bool = False) -> bool:
    errors = subprocess.DEVNULL if quiet else None
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, check=False)
    except OSError:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    print(f"The tests will use {install_browser()}")
