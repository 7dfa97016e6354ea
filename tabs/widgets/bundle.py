"""Where the page's scripts and styles are put together: a page's head and `js_on_load` take no modules."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

from bivdiff.compare.citation import AUTHORS_CODE, BIBTEX, PAPER_ADDRESS
from bivdiff.compare.player import player_script, player_style
from bivdiff.settings import ASSETS

FOLDER = Path(__file__).resolve().parent
STYLES = (
    "header", "hero", "samples", "footage", "scale", "meaning", "progress", "painter", "models", "jobs", "history",
    "share",
)  # fmt: skip


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
    """The title over the tabs of a family's page, with the paper, its code and its reference, as HTML.

    The `first` family's page is at the root.
    """
    links = {"Paper": PAPER_ADDRESS, "Its authors' code": AUTHORS_CODE}
    if space := os.environ.get("SPACE_ID"):
        links["Code of this page"] = f"https://huggingface.co/spaces/{space}/tree/main"
    anchors = "".join(
        f'<a class="bd-link" href="{escape(place)}" target="_blank" rel="noopener">{name}</a>'
        for name, place in links.items()
    )
    cite = f'<details class="bd-cite"><summary class="bd-link">Cite</summary><pre>{escape(BIBTEX)}</pre></details>'
    told = {"{family}": family, "{first}": first, "{references}": anchors + cite}
    header = _read("header.html")
    for place, text in told.items():
        header = header.replace(place, text)
    return header


def _read(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")
