"""The browsers that the tests drive: where they are, and how they get there (`python tests/browser.py`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAMES = (
    "chromium-headless-shell",  # half the work of the whole browser, where it is there
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
FIREFOX = ("firefox-esr", "firefox", "/Applications/Firefox.app/Contents/MacOS/firefox")


def find_browser() -> str | None:
    """The path of a Chromium or Chrome that starts, or None."""
    return _first_that_starts(NAMES) or _playwrights_own()


def find_firefox() -> str | None:
    """The path of a Firefox that starts, or None."""
    return _first_that_starts(FIREFOX)


def _first_that_starts(names: Sequence[str]) -> str | None:
    # A name on PATH may be a stub that only says where to get the browser, so it is asked for its version.
    paths = [path for name in names if (path := shutil.which(name))]
    return next((path for path in paths if _succeeds(path, "--version", quiet=True)), None)


def install_browsers() -> tuple[str, str | None]:
    """Make sure that there is a Chromium, the system's or playwright's own, and a Firefox where apt has one.

    Returns:
        The path of each, None for a Firefox that is not to be had: the tests of it are left out then.

    Raises:
        SystemExit: there is no Chromium and none could be installed; the message says what to do.
    """
    if not find_browser():
        _install_with_apt("chromium-headless-shell", "chromium")
    if not find_firefox():
        _install_with_apt("firefox-esr", "firefox")
    if not find_browser():
        _succeeds(sys.executable, "-m", "playwright", "install", "chromium")
    if path := find_browser():
        return path, find_firefox()
    raise SystemExit(
        "The tests need a browser, and none could be installed here. Install Chromium or Google Chrome, so that "
        "'chromium' or 'google-chrome' is on PATH, and run the tests again."
    )


def _install_with_apt(*packages: str) -> None:
    """The first of these that is to be had."""
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    install = (*rights, "apt-get", "install", "--yes", "--no-install-recommends")
    if shutil.which("apt-get") and _succeeds(*rights, "true"):
        _succeeds(*rights, "apt-get", "update")
        any(_succeeds(*install, package) for package in packages)


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
    print("The tests will use", " and ".join(filter(None, install_browsers())))
