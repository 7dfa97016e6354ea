"""Where the page's scripts and styles are put together: neither `js_on_load` nor the head of a page takes modules."""

from __future__ import annotations

from pathlib import Path

from bivdiff.compare.player import read_parts
from bivdiff.settings import ASSETS

FOLDER = Path(__file__).resolve().parent


def widget_script(name: str) -> str:
    """The script of a widget, for `js_on_load`: what all of them share, and its own."""
    return read_parts("dom.js") + _read(f"{name}.js")


def page_head() -> str:
    """What the page has in its head: the looks of all, and what its events do in the browser."""
    # Gradio rewrites the rules it is given as CSS, and loses those for containers.
    return f"<style>{(ASSETS / 'style.css').read_text('utf-8')}</style><script>{_read('page.js')}</script>"


def page_header() -> str:
    """The title over the tabs, as HTML."""
    return _read("header.html")


def _read(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")
