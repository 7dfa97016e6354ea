"""The words the video model is given: what an instruction makes of a description."""

from __future__ import annotations

import numpy as np
import pytest

from bivdiff.bridge.prompts import describe_edit
from bivdiff.toybox import data, world


@pytest.mark.parametrize(
    ("source", "instruction", "described"),
    [
        ("a red cube jumps on a green floor at noon", "make the cube blue", "a blue cube jumps on a green floor at noon"),  # noqa: E501
        ("a red cube next to a blue cube at noon", "Make the blue cube orange.", "a red cube next to an orange cube at noon"),  # noqa: E501
        ("a red cube on a green floor at noon", "make the floor pink", "a red cube on a pink floor at noon"),
        ("a red cube at noon", "turn the red cube into a cone", "a red cone at noon"),
        ("a red cube at noon", "make it night", "a red cube at night"),
        ("a street in rain", "make it winter", "a street in rain at winter"),
        ("a red cube jumps next to a pink cone on a green floor", "remove the cone", "a red cube jumps on a green floor"),  # noqa: E501
        ("a red cube jumps next to a pink cone on a green floor", "remove the cube", "a pink cone on a green floor"),
        ("a red cube jumps on a green floor", "remove the red cube", "nothing on a green floor"),
        ("a man on a horse", "turn him into a robot", "a man on a horse, turn him into a robot"),
        ("a man", "make the horse blue", "a man, make the horse blue"),
        ("", "make the cube blue", ""),
        ("a red cube", "", "a red cube"),
        ("a (red cube", "make the cube [blue", "a (red cube, make the cube [blue"),
    ],
)  # fmt: skip
def test_an_instruction_changes_the_description(source, instruction, described):
    assert describe_edit(source, instruction) == described


def test_the_worlds_own_edits_are_described_as_the_world_does():
    """Only what stands still afterwards is not told: the rest of a sentence cannot know it."""
    for seed in range(200):
        scene = world.sample_scene(seed)
        instruction = data.draw_instruction(scene, np.random.default_rng(seed))
        edited = world.edit(scene, instruction).caption
        expected = edited.replace(" stands still", "") if instruction.startswith("remove") else edited
        described = describe_edit(scene.caption, instruction)
        assert described.replace(" stands still", "") == expected.replace(" stands still", ""), instruction
