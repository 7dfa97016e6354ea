"""A finished run of every task, shown before the first one, and "How it works" in its pictures."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from typing import Any

from bivdiff.catalog.tasks import TASKS
from bivdiff.settings import ASSETS
from tabs.results import empty_player

FOLDER = ASSETS / "examples"
HOW = (
    ("source", "Your clip", "Of which controllable generation keeps the edges, or the depth, and other tasks more."),
    (
        "framewise",
        "1. Frame by frame",
        "The image model draws each frame alone: it follows the prompt, and flickers.",
    ),
    ("inverted", "2. Mixed Inversion", "Both models walk these frames back to noise; the mixing ratio weighs the two."),
    (
        "bridged",
        "3. Smoothing",
        "The video model denoises the blend, all frames at once, so that they belong together.",
    ),
)


def first_player(task: str, family: str, missing: str = "") -> dict[str, Any]:
    """What a task's player shows at first: the example where the page opens with it, else empty places.

    `missing` says what these wait for, if not for a run.
    """
    example = example_of(task, family, 0) if task == next(iter(TASKS)) else None
    if example is None:
        return empty_player(task, missing)
    return {name: value for name, value in example.items() if name != "ratios"}  # they come with the preview


def example_of(task: str, family: str, sample: int) -> dict[str, Any] | None:
    """The finished run of a task on one of the samples, with the clips of other ratios; None where none is shipped.

    Of the built-in models only: they are the ones that everybody has.
    """
    path = FOLDER / task / f"{sample}.json"
    if family != "toybox" or not path.is_file():
        return None
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


def hero_clip() -> dict[str, Any]:
    """The clip that the page opens with, see `tabs.widgets.hero`."""
    return json.loads((FOLDER / "hero.json").read_text("utf-8"))


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
