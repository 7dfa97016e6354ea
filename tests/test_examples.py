"""The finished runs that are shipped: every sample has one in every task, and shows what the method does."""

from __future__ import annotations

import json

import pytest

from bivdiff.catalog.tasks import TASKS
from bivdiff.toybox.clips import load_index
from tabs.examples import FOLDER, example_of, first_player, hero_clip, ratio_clips

RATIOS = [0.0, 0.25, 0.5, 0.75, 1.0]
SEEN = 0.5  # levels of flicker at rest below which nobody sees it


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("sample", range(len(load_index())))
def test_every_sample_has_a_finished_run_that_is_calmer(task, sample):
    example = example_of(task, "toybox", sample)
    first, second = example["tiles"][:2]
    assert [first["main"], second["main"], second["label"]] == [True, True, "Bridged"]
    assert all(tile["sheet"]["count"] == 8 for tile in example["tiles"])
    before, after = example["flicker"]
    if task == "outpaint":  # how what is new beyond the edges should move, nobody knows
        assert (before, after) == (None, None)
    elif before >= SEEN:
        assert after <= 2 / 3 * before


@pytest.mark.parametrize("task", TASKS)
def test_the_other_ratios_of_a_sample_are_there_and_flicker_falls_from_end_to_end(task):
    falls = []
    for sample in range(len(load_index())):
        example = example_of(task, "toybox", sample)
        assert sorted([example["ratio"], *(each["ratio"] for each in example["ratios"])]) == RATIOS
        flicker = {each["ratio"]: each["rest"]["level"] for each in example["ratios"]}
        if flicker[0.0] is not None:
            falls.append(flicker[0.0] >= flicker.get(1.0, example["flicker"][1]) - 0.05)
    assert all(falls)


@pytest.mark.parametrize("task", TASKS)
def test_what_the_ratio_does_is_shown_of_the_sample_or_of_the_first(task):
    names = [sample.name for sample in load_index()]
    first, other = (ratio_clips(task, names, sample) for sample in (0, 3))
    assert [clip["ratio"] for clip in first["clips"]] == ["0", "½", "1"]
    assert len({clip["sheet"]["src"] for clip in (*first["clips"], *other["clips"])}) == 6
    assert names[0] in first["of"]
    assert names[3] in other["of"]
    assert all(0 < clip["share"] <= 1 for clip in (*first["clips"], *other["clips"]))
    assert ratio_clips(task, names, -1) == ratio_clips(task, names, None) == ratio_clips(task, names, 99) == first
    assert ratio_clips(task, names, "../edit/1") == first  # what a client may send


def test_the_page_opens_with_a_clip_that_is_calmed_plainly():
    hero = hero_clip()
    before, after = hero["flicker"]
    assert after <= before / 3
    example = example_of("control", "toybox", hero["sample"])
    assert [hero["framewise"], hero["bridged"]] == [tile["sheet"] for tile in example["tiles"][:2]]


def test_only_the_built_in_models_have_examples():
    assert example_of("control", "sd15", 0) is None
    assert first_player("control", "sd15", "They are not here.")["tiles"][1]["note"] == "They are not here."
    assert "ratios" not in first_player("control", "toybox")


def test_the_examples_stay_small():
    sizes = {path.name: path.stat().st_size for path in FOLDER.rglob("*.json")}
    assert max(sizes.values()) < 150_000
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.json")) < 6_000_000
    assert json.loads((FOLDER / "how.json").read_text("utf-8")).keys() == {"source", "framewise", "inverted", "bridged"}
