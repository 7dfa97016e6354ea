"""The labelled controls that tabs are put together from.

In it: builders, each of which returns its controls by the name of the request's field, or of what `read_job` reads.
Not in it: what happens when they are used (common.py), the layout of a tab (its own file).
"""

from __future__ import annotations

import re

import gradio as gr
import numpy as np
from gradio.components import Component

from bivdiff import media
from bivdiff.catalog import default_request, family
from bivdiff.toybox import world
from bivdiff.toybox.data import vocabulary
from bivdiff.types import MAX_PROMPT_CHARACTERS, MAX_SEED, MIXING_RULES, GenerationRequest
from tabs.context import AppContext
from tabs.player import progress_panel, sample_strip
from tabs.running import idle_panel

Controls = dict[str, Component]

RULE_LABELS = {
    "linear": "Linear (the paper)",
    "variance_preserving": "Variance preserving",
    "slerp": "Spherical",
}


def defaults_of(context: AppContext, task: str) -> GenerationRequest:
    """The values that a task's controls start with."""
    return default_request(task, context.family, np.zeros((1, 8, 8, 3), np.uint8), "")


def heading(number: int, text: str) -> gr.HTML:
    """The heading of a numbered part of a tab; `text` is ours, not a user's."""
    return gr.HTML(f'<h2 class="bd-step"><span>{number}</span> {text}</h2>', apply_default_css=False)


def clip_controls(context: AppContext) -> Controls:
    """The clip to start from: a sample or an upload."""
    limits = media.LIMITS
    bounds = f"up to {limits.file_bytes // 2**30} GB, {limits.seconds / 3600:g} hours, 8K"
    return {
        "sample": sample_strip(context.samples, label="Sample clips", elem_id="samples"),
        "video": gr.File(
            label=f"Or a clip of your own: {bounds}", elem_id="video", height=48,
            file_types=[f".{kind.strip()}" for kind in media.KNOWN_KINDS.split(",")],
        ),
    }  # fmt: skip


def trim_controls(context: AppContext) -> Controls:
    """Which part of the clip to use, and what happens where it is not square."""
    longest = family(context.family).num_frames
    with gr.Accordion("Trim and shape", open=False):
        with gr.Row(elem_classes="bd-fields"):
            controls: Controls = {
                "start": gr.Number(0, label="Start", info="Seconds into the clip", minimum=0, step=0.1, min_width=150),
                "stride": gr.Number(
                    1, label="Every n-th frame", info="2 = twice as fast", minimum=1, precision=0, min_width=150
                ),
            }
        with gr.Row(elem_classes="bd-fields"):
            controls["num_frames"] = gr.Slider(
                2, longest, longest, step=1, label="Frames", info=f"Up to {longest}", min_width=150
            )
            controls["fit"] = gr.Radio(
                [("Crop", "crop"), ("Pad", "pad")], value="crop", label="Made square", min_width=150,
                info="By cutting off, or by bars", elem_classes="bd-choice",
            )  # fmt: skip
    return controls


def prompt_controls(defaults: GenerationRequest, prompt: str) -> Controls:
    """What the new clip should show, in the words of up to four prompts."""
    controls: Controls = {
        "prompt": gr.Textbox(
            prompt, label="Prompt", info="What the new clip should show", lines=2, max_lines=6, elem_id="prompt"
        )
    }
    controls["prompt"].change(
        unknown_words, controls["prompt"], gr.HTML(elem_id="word-hint", apply_default_css=False),
        show_progress="hidden", trigger_mode="always_last", queue=False, api_name="unknown_words",
    )  # fmt: skip
    with gr.Accordion("More prompts", open=False):
        controls["video_prompt"] = gr.Textbox(
            defaults.video_prompt, label="Video prompt", info="For the video model; empty = the prompt above"
        )
        controls["negative_prompt"] = gr.Textbox(
            defaults.negative_prompt, label="Negative prompt", info="What neither model should show"
        )
        controls["inversion_prompt"] = gr.Textbox(
            defaults.inversion_prompt, label="Inversion prompt", info="For both inversions; empty is the usual choice"
        )
    return controls


def mixing_control(defaults: GenerationRequest) -> Controls:
    """The one setting that the method is about."""
    return {
        "mixing_ratio": gr.Slider(
            0, 1, defaults.mixing_ratio, step=0.05, label="Mixing ratio", elem_id="mixing-ratio",
            info="1 = image model only: smoothest, may drift. "
            "0 = video model only: keeps the frames, flicker included.",
        )
    }  # fmt: skip


def seed_controls() -> Controls:
    """The seed, and whether to draw one. After a run the seed that was used stands there."""
    with gr.Row(elem_classes="bd-fields"):
        return {
            "random_seed": gr.Checkbox(
                True, label="Random seed", info="Off repeats the seed beside", elem_id="random-seed", min_width=150
            ),
            "seed": gr.Number(
                0, label="Seed", info="Shows the one that was used", precision=0, minimum=0, maximum=MAX_SEED,
                min_width=150, elem_id="seed",
            ),
        }  # fmt: skip


def step_controls(defaults: GenerationRequest) -> Controls:
    """Steps and guidance of the three stages."""
    controls: Controls = {}
    with gr.Accordion("Steps and guidance", open=False):
        with gr.Row(elem_classes="bd-fields"):
            controls["num_inference_steps"] = _steps(
                defaults.num_inference_steps, "Image steps", "Of the frame-by-frame stage; more = finer"
            )
            controls["guidance_scale"] = _guidance(
                defaults.guidance_scale, "Image guidance", "How strictly it follows the prompt; 1 = off"
            )
        with gr.Row(elem_classes="bd-fields"):
            controls["num_smoothing_steps"] = _steps(
                defaults.num_smoothing_steps, "Smoothing steps", "Of the video model; more = cleaner"
            )
            controls["smoothing_guidance_scale"] = _guidance(
                defaults.smoothing_guidance_scale, "Video guidance", "1 = off, and takes half the time"
            )
        controls["num_inversion_steps"] = _steps(
            defaults.num_inversion_steps, "Inversion steps", "More = closer to the frames of the first stage"
        )
    return controls


def advanced_controls(defaults: GenerationRequest) -> Controls:
    """Settings of the method that are rarely touched. Call it inside the tab's "Advanced" part."""
    with gr.Row(elem_classes="bd-fields"):
        controls: Controls = {
            "mixing_rule": gr.Dropdown(
                [(RULE_LABELS[rule], rule) for rule in MIXING_RULES], value=defaults.mixing_rule, label="Mixing rule",
                info="How the two inversions are blended", min_width=180,
            ),
            "noise_sharing": gr.Slider(
                0, 1, defaults.noise_sharing, step=0.05, label="Noise sharing",
                info="0 = every frame its own first noise, 1 = all the same", min_width=180,
            ),
        }  # fmt: skip
    with gr.Row(elem_classes="bd-fields"):
        controls["inversion_guidance_scale"] = _guidance(
            defaults.inversion_guidance_scale, "Inversion guidance", "1 = off, the most faithful"
        )
        controls["frame_batch_size"] = gr.Slider(
            1,
            16,
            defaults.frame_batch_size,
            step=1,
            label="Frames at once",
            info="Fewer need less memory",
            min_width=180,
        )
    return controls


def run_controls() -> tuple[gr.Button, gr.Button, gr.HTML]:
    """The button that starts, the one that stops, and the progress between."""
    with gr.Row(elem_classes="bd-run"):
        start = gr.Button("Generate", variant="primary", size="lg", scale=3, elem_id="generate")
        stop = gr.Button(
            "Cancel", variant="secondary", size="lg", scale=1, interactive=False, elem_id="cancel", min_width=96
        )
    return start, stop, progress_panel(idle_panel(), elem_id="progress")


def word_list() -> gr.HTML:
    """The words that the toybox knows, in groups, behind a line that opens."""
    groups = {
        "Things": world.SHAPES, "Colours": world.COLORS, "They": world.MOTIONS.values(), "Floors": world.FLOORS,
        "Light": world.TIMES,
    }  # fmt: skip
    rows = "".join(f"<dt>{name}</dt><dd>{', '.join(words)}</dd>" for name, words in groups.items())
    return gr.HTML(
        '<details class="bd-words"><summary>The words the toybox knows</summary>'
        f"<dl>{rows}</dl><p>and many ways to say so: “a ball hops beside a box at dusk”.</p></details>",
        apply_default_css=False,
    )


def unknown_words(prompt: str) -> str:
    """A line on the words of a prompt that the toybox does not know; empty if it knows all."""
    known = set(vocabulary())
    words = re.findall(r"[^\W_]+", (prompt or "")[:MAX_PROMPT_CHARACTERS].lower())
    strange = [word for word in words if word not in known]
    if not strange:
        return ""
    listed = ", ".join(dict.fromkeys(strange[:6]))
    return f'<p class="bd-hint">The toybox does not know: {listed}. It ignores what it does not know.</p>'


def _steps(value: int, label: str, info: str) -> gr.Slider:
    return gr.Slider(1, 100, value, step=1, label=label, info=info, min_width=160)


def _guidance(value: float, label: str, info: str) -> gr.Slider:
    return gr.Slider(1, 15, value, step=0.5, label=label, info=info, min_width=180)
