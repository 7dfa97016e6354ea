"""“Try five ratios”: a comparison of one request at five mixing ratios, which the ratio's slider then plays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from bivdiff.catalog.image_models import IMAGE_MODELS, frames_name
from bivdiff.catalog.tasks import TASKS
from bivdiff.late import importing
from bivdiff.studio.jobs import Job
from bivdiff.types import StepEvent
from tabs.binding import Values
from tabs.comparison import ComparisonBoard, with_last_seed
from tabs.context import AppContext
from tabs.following import Place, enqueue, submit_and_follow
from tabs.requests import ReadJob, Submission
from tabs.results import LiveTiles, fill_scores, series_of
from tabs.widgets.player import ComparedClip, film_buttons, served

if TYPE_CHECKING:
    from bivdiff.compare.sweep import Cell, SweepResult

RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
PLAYED = "Move the mixing ratio: its clip plays here."


class RatiosBoard(ComparisonBoard):
    """A comparison of five ratios as a task's player shows it: one bridged clip, and those of the others at hand."""

    def __init__(self, context: AppContext, submission: Submission, owner: str) -> None:
        super().__init__(context, submission, {"mixing_ratio": RATIOS}, owner)
        self._live = LiveTiles(self.request, submission.fps)
        self._clips: dict[int, ComparedClip] = {}

    def take(self, update: Any) -> bool:
        """Note an event, a finished clip, or the result."""
        if isinstance(update, StepEvent) and not self._made:  # a clip that is there is not drawn over by the next
            before = self._live.version
            self._live.take(update)
            self.version += self._live.version - before
        return super().take(update)

    def _find(self, result: SweepResult) -> None:
        """Nothing: the task's player shows the clips alone."""

    def shown(self) -> dict[str, Any]:
        """The player's value, and the seed once it has made a clip."""
        made, value = list(self._made), self._live.value()
        if self.state not in ("queued", "running"):
            for each in value["tiles"]:
                each["pending"] = False
        if not made:
            return {"player": value, "seed": gr.skip()}
        nearest = min(made, key=lambda cell: abs(cell.request.mixing_ratio - self.request.mixing_ratio))
        tiles = {each["label"]: each for each in value["tiles"]}
        before = frames_name(self.request.image_model)
        tiles[before] |= self._filled(nearest, before=True)
        tiles["Bridged"] |= self._filled(nearest)
        value |= {
            "series": series_of(nearest.request), "ratio": nearest.request.mixing_ratio,
            "ratios": [{"ratio": cell.request.mixing_ratio, **self._filled(cell)} for cell in made],
            "facts": [["Seed", str(nearest.request.seed)]],
        }  # fmt: skip
        if self.files:
            zipped = {"label": "Everything (zip)", "file": served(self.files["zip"])}
            value["downloads"] = [zipped, *film_buttons(self.run_id)]
        return {"player": value, "seed": nearest.request.seed if self.state == "done" else gr.skip()}

    def _filled(self, cell: Cell, *, before: bool = False) -> dict[str, Any]:
        """What a tile is filled with: the clip of a cell, or the frames that it was made of."""
        with importing():
            from bivdiff.compare.steadiness import steadiness_of_scores

        figures = steadiness_of_scores(cell.request.image_model, cell.scores, cell.framewise_scores)
        source = "framewise" if IMAGE_MODELS[cell.request.image_model].makes_frames else "source"
        tiles: dict[str, dict[str, Any]] = {source: {}, "bridged": {}}
        fill_scores(tiles, figures, cell.request.image_model, None, {})
        told = tiles[source if before else "bridged"]
        clip = self._clip(cell, told, before=before)
        shown = {**told, "sheet": clip.served_sheet, "heat": clip.served_heat, "pending": False}
        file = self.files.get("framewise" if before else f"cell {cell.index + 1}")
        return shown if file is None else {**shown, "file": served(file)}

    def _clip(self, cell: Cell, told: dict[str, Any], *, before: bool) -> ComparedClip:
        """The clip, which is encoded once."""
        key = -1 if before else cell.index
        if key not in self._clips:
            frames, heat = (
                (cell.framewise_frames, cell.framewise_heat) if before else (cell.frames, cell.heat)
            )  # fmt: skip
            self._clips[key] = ComparedClip("", frames, rest=told.get("rest"), heat=heat)
        return self._clips[key]

    def panel(self) -> dict[str, Any]:
        """The progress panel's value."""
        panel = super().panel()
        return panel | {"detail": f"{self.why} {PLAYED}"} if self.state == "done" and not self._note else panel


def submit(context: AppContext, place: Place, task: str, submission: Submission, owner: str) -> Job[RatiosBoard]:
    """Give the five ratios of a request to the queue.

    Raises:
        InputError: too many wait, or the owner does not allow what is asked for.
    """
    submission = submission._replace(request=with_last_seed(context, submission.request, owner))
    request = submission.request
    return enqueue(
        context, place, lambda: RatiosBoard(context, submission, owner),
        lambda board: context.sweep(board.request, {"mixing_ratio": RATIOS}, submission.to_fit), request=request,
        owner=owner, title=f"Five ratios, {TASKS[task].title.lower()}: {request.prompt or request.video_prompt}",
    )  # fmt: skip


def try_ratios(context: AppContext, place: Place, read: ReadJob, task: str, values: Values) -> Iterator[Any]:
    """Make the five ratios of what is filled in, and show them as they come.

    Args:
        context: makes them.
        place: where the runs of the task are shown.
        read: makes a submission of the values.
        task: key of the catalog's tasks.
        values: of all controls.

    Yields:
        What to show, step by step.
    """

    def submitted(owner: str) -> Job[RatiosBoard]:
        return submit(context, place, task, read(context, values), owner)

    yield from submit_and_follow(context, place, submitted, values.get("visitor", ""))
