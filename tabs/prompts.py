"""The fields for prompts, and what is told of the words in them."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

from bivdiff.catalog.tasks import TASKS
from bivdiff.fields import MAX_PROMPT_CHARACTERS
from bivdiff.toybox import world
from bivdiff.toybox.data import vocabulary
from bivdiff.types import GenerationRequest
from tabs.context import AppContext
from tabs.controls import TOYBOX, Controls, setting, words_of
from tabs.events import PRIVATE, QUICK

FIRST = next(iter(TASKS))  # its tab is the one that the page opens with
# Words of instructions, which are not in captions.
INSTRUCTION_WORDS = "make turn paint color colour remove delete erase the it into floor"
KEPT = "bd-prompt"
"""The class of what is typed, and is there again after a reload."""


def prompt_box(
    context: AppContext, task: str, value: str, field: str = "prompt", label: str = "", info: str = ""
) -> gr.Textbox:
    """A prompt; below it stand the words that the toybox does not know.

    Args:
        context: knows the family.
        task: key of the catalog's tasks.
        value: what it starts with.
        field: of the request.
        label, info: what the task calls it, and what it says in the task; as in the table where it is not given.
    """
    words = words_of(field)
    label, info = label or words["label"], info or words["info"]
    name = re.sub(r"\W+", "-", label.lower())
    box = gr.Textbox(
        value, label=label, info=info, lines=2, max_lines=6, elem_id=f"{task}-{name}", elem_classes=KEPT
    )  # fmt: skip
    if context.family != TOYBOX:
        return box
    hint = gr.HTML(elem_id=f"{task}-{name}-hint", elem_classes="bd-word-hint", apply_default_css=False)
    # One endpoint is enough: they are all alike.
    named: dict[str, Any] = {"api_name": "unknown_words"} if task == FIRST else PRIVATE
    box.change(unknown_words, box, hint, trigger_mode="always_last", **QUICK, **named)
    return box


def other_prompts(defaults: GenerationRequest) -> Controls:
    """The prompts that are rarely needed."""
    with gr.Accordion("More prompts", open=False):
        names = ("video_prompt", "negative_prompt", "inversion_prompt")
        return {name: setting(name, getattr(defaults, name), elem_classes=KEPT) for name in names}


def word_list(context: AppContext) -> None:
    """The words that the toybox knows, each to be put into the prompt by a press; other families know any."""
    if context.family != TOYBOX:
        return
    # Of things and colours a prompt may have several; of the others one, behind these words.
    groups = (
        ("Things", "", world.SHAPES), ("Colours", "", world.COLORS), ("They", " ", world.MOTIONS.values()),
        ("Floor", " on a ", world.FLOORS), ("Light", " at ", world.TIMES),
    )  # fmt: skip
    rows = "".join(
        f'<dt>{name}</dt><dd data-leads="{leads}">'
        + "".join(f'<button type="button" data-word="{word}">{word}</button>' for word in words)
        + "</dd>"
        for name, leads, words in groups
    )
    gr.HTML(
        '<details class="bd-words"><summary>The words the toybox knows</summary>'
        f"<dl>{rows}</dl><p>and many ways to say so: “a ball hops beside a box at dusk”.</p></details>",
        apply_default_css=False,
    )


def unknown_words(prompt: str) -> str:
    """A line on the words of a prompt that the toybox does not know; empty if it knows all."""
    known = {*vocabulary(), *INSTRUCTION_WORDS.split()}
    words = re.findall(r"[^\W_]+", (prompt or "")[:MAX_PROMPT_CHARACTERS].lower())
    strange = [word for word in words if word not in known]
    if not strange:
        return ""
    listed = ", ".join(dict.fromkeys(strange[:6]))
    return f'<p class="bd-hint">The toybox does not know: {listed}. It ignores what it does not know.</p>'
