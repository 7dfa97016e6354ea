"""A finished run of every task, shown before the first one, and "How it works" in its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

from bivdiff.catalog.tasks import TASKS
from bivdiff.settings import ASSETS
from tabs.results import empty_player

FOLDER = ASSETS / "examples"
BUILT_IN = "toybox"  # the family whose models everybody has: the finished runs are theirs
MEANINGS = ((0.0, "0", "closer to the frames"), (0.5, "½", "between the two"), (1.0, "1", "calmer, may drift"))
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

    Of the built-in models only.
    """
    path = FOLDER / task / f"{sample}.json"
    if family != BUILT_IN or not path.is_file():
        return None
    return json.loads(path.read_text("utf-8"))


def ratio_clips(task: str, names: Sequence[str], sample: int | None) -> dict[str, Any]:
    """What a few mixing ratios make of a sample, or of the first where it has no finished run.

    They are the built-in models' on the page of any family: what the ratio does, it does with all.

    Args:
        task: key of the catalog's tasks.
        names: of the samples.
        sample: its number.

    Returns:
        The value of a `ratio_meaning`: `clips`, each with the `ratio`, what it `says` and its `sheet`, and what is
        `told` of how large a `share` of the frames' own; `measured` is what that is, `bars` the same with the frames'.
    """
    number = sample if isinstance(sample, int) and example_of(task, BUILT_IN, sample) else 0
    example = json.loads((FOLDER / task / f"{number}.json").read_text("utf-8"))
    before, bridged = (next(each for each in example["tiles"] if each["tone"] == tone) for tone in ("image", "blend"))
    made = {each["ratio"]: each for each in [*example["ratios"], {**bridged, "ratio": example["ratio"]}]}
    clips = [{"ratio": name, "says": says, "sheet": made[ratio]["sheet"], **_bar(made[ratio], before)}
             for ratio, name, says in MEANINGS]  # fmt: skip
    frames = before["label"].lower()
    if before["rest"]["level"] is None:
        measured = bars = next(iter(made[0]["scores"])).lower()
    else:
        measured, bars = "flicker at rest", f"flicker at rest; {frames} {before['rest']['level']:.1f}"
    return {
        "of": f"“{names[number]}” by the built-in models:", "clips": clips, "fps": example["fps"],
        "measured": measured, "bars": f"{bars}.",
    }  # fmt: skip


def _bar(clip: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """How much a clip flickers, of what its frames do; where that is not measured, how sharp it is."""
    level = clip["rest"]["level"]
    if level is None:
        told = next(iter(clip["scores"].values()))
        return {"told": told, "share": min(1.0, float(told.rstrip("%")) / 100)}
    return {"told": f"{level:.1f}", "share": min(1.0, level / before["rest"]["level"])}


def comparison_example(family: str) -> tuple[dict[str, Any] | None, str]:
    """What Compare shows before the first comparison: the player's value, and what to see in it, as HTML.

    None and nothing for other families than the built-in, whose clips these are.
    """
    path = FOLDER / "compare.json"
    if family != BUILT_IN or not path.is_file():
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
