"""A finished run of every task, shown before the first one, and "How it works" in its pictures."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from typing import Any

from bivdiff.settings import ASSETS
from tabs.results import empty_player

FOLDER = ASSETS / "examples"
HOW = (
    ("source", "Your clip", "Of which controllable generation keeps the edges, or the depth, and other tasks more."),
    ("framewise", "1. Frame by frame", "The image model draws every frame on its own: it does as told, and flickers."),
    ("inverted", "2. Mixed Inversion", "Both models walk these frames back to noise; the mixing ratio weighs the two."),
    (
        "bridged",
        "3. Smoothing",
        "The video model denoises the blend, all frames at once, so that they belong together.",
    ),
)


def example_player(task: str, family: str) -> dict[str, Any]:
    """What a task's player shows before the first run: the built-in models' example, or empty places for others."""
    path = FOLDER / f"{task}.json"
    if family != "toybox" or not path.is_file():
        return empty_player(task)
    return json.loads(path.read_text("utf-8"))


def comparison_example(family: str) -> tuple[dict[str, Any] | None, str]:
    """What Compare shows before the first comparison: the player's value, and what to see in it, as HTML.

    None and nothing for other families than the built-in, whose clips these are.
    """
    path = FOLDER / "compare.json"
    if family != "toybox" or not path.is_file():
        return None, ""
    example = json.loads(path.read_text("utf-8"))
    return example["player"], (
        f'<p class="bd-example"><strong>{escape(example["says"])}</strong></p>'
        '<p class="bd-quiet">An example, made with the built-in models. Press “Compare” for your own.</p>'
    )


@cache
def how_it_works() -> str:
    """The three stages in pictures of the studio's own, as HTML of our own words."""
    strips = json.loads((FOLDER / "how.json").read_text("utf-8"))
    figures = "".join(
        f'<figure><img src="{strips[key]}" alt="Four frames: {title}" width="512" height="128">'
        f"<figcaption><strong>{title}</strong> {text}</figcaption></figure>"
        for key, title, text in HOW
    )
    return f'<details class="bd-how"><summary>How it works</summary><div class="bd-how-row">{figures}</div></details>'
