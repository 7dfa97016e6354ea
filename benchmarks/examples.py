"""Make the examples that the page shows before the first run anew, with the shipped weights.

    python benchmarks/examples.py

Every task is run on the first sample with its tab's first settings; what its player then shows goes to
`assets/examples`, and with it the pictures of "How it works".
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.bridge.pipeline import blended_picture
from bivdiff.media.sheets import sprite_sheet
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.types import GenerationResult
from tabs import control, edit, inpaint, outpaint, smooth
from tabs.context import AppContext
from tabs.examples import FOLDER
from tabs.results import result_player, scores_of, shown_masks

QUALITY = 82
STRIP_FRAMES = (0, 2, 4, 6)
SEED = 1
NOTE = ("Example", "made with this tab's first settings. Press Generate for your own.")


def main() -> None:
    """Run every task on the first sample, and write what its player then shows."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        context = AppContext.from_settings(replace(Settings(), history_folder=Path(folder), cache_size="0"))
        for tab in (control, edit, inpaint, outpaint, smooth):
            job = tab.read_job(context, _values(context, tab.TASK))
            *_, result = context.run(job.request, False)
            shown = result_player(result, job.fps, scores_of(result), {})
            pictures = _pictures(result)
            for tile, frames in zip(shown["tiles"], pictures, strict=True):
                tile["sheet"] = _sheet(frames)
            shown["facts"] = [NOTE, *(fact for fact in shown["facts"] if fact[0] == "Mixing ratio")]
            _write(f"{tab.TASK}.json", shown)
            if tab is control:
                _write("how.json", {key: _strip(frames) for key, frames in _stages(result).items()})


def _values(context: AppContext, task: str) -> dict[str, Any]:
    """What a task's tab is filled in with at first."""
    sample = context.samples[0]
    prompts = {"control": sample.prompt, "inpaint": sample.erased}
    return {
        "sample": 0, "prompt": prompts.get(task, sample.caption), "instruction": sample.instruction,
        "source_prompt": sample.caption, "left": "25%", "right": "25%", "random_seed": False, "seed": SEED,
    }  # fmt: skip


def _pictures(result: GenerationResult) -> list[np.ndarray]:
    """The clips of a result in the order of its tiles."""
    request, task = result.request, result.request.task
    shown = [] if task == "outpaint" else [request.frames]
    if request.masks is not None:
        shown.append(shown_masks(request.frames, request.masks))
    shown += result.control_frames
    return [*shown, *([] if task == "smooth" else [result.framewise_frames]), result.frames]


def _stages(result: GenerationResult) -> dict[str, np.ndarray]:
    """The clips of "How it works"; the inversion is shown as what the decoder makes of its noise."""
    noise = blended_picture(result.request, ModelManager(Settings()))
    return {
        "source": result.request.frames, "framewise": result.framewise_frames, "inverted": noise,
        "bridged": result.frames,
    }  # fmt: skip


def _sheet(frames: np.ndarray) -> dict[str, Any]:
    return sprite_sheet(frames, lossless=False, quality=QUALITY)


def _strip(frames: np.ndarray) -> str:
    """Some frames beside each other, as a data address."""
    return _sheet(np.concatenate(list(frames[list(STRIP_FRAMES)]), axis=1)[None])["src"]


def _write(name: str, value: Any) -> None:
    (FOLDER / name).write_text(json.dumps(value) + "\n", "utf-8")


if __name__ == "__main__":
    main()
