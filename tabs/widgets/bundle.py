"""Where the page's scripts and styles are put together: a page's head and `js_on_load` take no modules."""

from __future__ import annotations

from pathlib import Path

from bivdiff.compare.player import player_script, player_style
from bivdiff.settings import ASSETS

FOLDER = Path(__file__).resolve().parent
STYLES = ("header", "hero", "samples", "footage", "scale", "progress", "painter", "models", "jobs", "history")


def page_head(*scripts: str) -> str:
    """What the page has in its head: the player with what all scripts share, the page's own, more scripts, all styles.

    `launch` needs it wherever widgets are used.
    """
    script = player_script() + _read("page.js") + "".join(scripts)
    # Gradio rewrites the rules it is given as CSS, and loses those for containers.
    general = (ASSETS / "style.css").read_text("utf-8")
    style = "\n".join([general, *(_read(f"{name}.css") for name in STYLES), player_style()])
    return f"<style>{style}</style><script>{script}</script>"


def widget_script(name: str) -> str:
    """What draws a widget, for `js_on_load`; it finds what all scripts share in `window.bdStudio`."""
    return _read(f"{name}.js")


def page_header(family: str, first: str) -> str:
    """The title over the tabs of a family's page, as HTML; the `first` family's is at the root."""
    return _read("header.html").replace("{family}", family).replace("{first}", first)


def _read(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")
