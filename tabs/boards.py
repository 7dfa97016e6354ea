"""What a job shows and leaves behind; here that of a run. Not here: that of a comparison (see comparison)."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
import numpy as np

from bivdiff.errors import BIVDiffError, InputError
from bivdiff.media.carried import carry, pack, settings_of
from bivdiff.media.sound import Sound
from bivdiff.studio import jobs
from bivdiff.studio.history.files import names_of, write_result
from bivdiff.types import GenerationRequest, GenerationResult
from tabs.context import AppContext
from tabs.failures import sentence
from tabs.progress import RunProgress, idle_panel
from tabs.results import LiveTiles, rests_of, result_player, scores_of
from tabs.uploads import upload_folder
from tabs.visitors import address_of_visitor

NOT_KEPT = "The history could not keep this run, so take along here what you want of it."

_log = logging.getLogger(__name__)


class Board(jobs.Board, Protocol):
    """What a page can follow.

    Attributes:
        request: what is made, with its seed.
        run_id: in the history; empty where that does not keep it.
        message: the sentence on how it ended.
    """

    request: GenerationRequest
    run_id: str
    message: str

    @property
    def version(self) -> int:
        """Grows whenever there is something new to see."""

    def panel(self) -> dict[str, Any]:
        """The progress panel's value now."""

    def shown(self) -> dict[str, Any]:
        """All else that shows it now, by the fields of its tab's view."""


def begin_in_history(context: AppContext, request: GenerationRequest, fps: float, owner: str, **more: Any) -> str:
    """Begin a run in the history; returns its id, empty where it cannot be kept: that is no reason not to run it."""
    try:
        return context.runs.begin(request, fps, owner, address=address_of_visitor(), **more)
    except InputError as error:
        _log.warning("A run is made that the history does not keep: %s", error)
        return ""


class RunBoard:
    """A run of a task.

    Args:
        context: knows where runs are kept.
        request: what is made; it has a seed.
        fps: at which its clips play.
        owner: of the run.
        sound: heard with its result.

    Attributes:
        result: once there is one; `scores` of it, and the `files` that were written of it, by the names of
            `Runs.finish`, once it has left the device.
    """

    def __init__(
        self, context: AppContext, request: GenerationRequest, fps: float, owner: str, sound: Sound | None = None
    ) -> None:
        self._runs = context.runs
        self.request, self.fps, self._sound = request, fps, sound
        self.run_id = begin_in_history(context, request, fps, owner)
        self.result: GenerationResult | None = None
        self.scores: Mapping[str, Any] = {}
        self.files: Mapping[str, Path] = {}
        self.message = ""
        self.state: jobs.State = "queued"
        self._framewise: np.ndarray | None = None
        self._in_history = False
        self._progress, self._live = RunProgress(self.request), LiveTiles(self.request, fps)
        self._last_player: dict[str, Any] | None = None
        self._last_panel: dict[str, Any] | None = None

    def take(self, update: Any) -> bool:
        """Note an event, or the result."""
        if isinstance(update, GenerationResult):
            self.result = update
            return True
        if self.state == "queued":
            self.state = "running"
            self._runs.started(self.run_id)
        if self._progress.stage != update.stage:
            _log.info("%s: %s", update.stage, update.message)
        if update.stage == "framewise" and update.step == update.total and update.preview is not None:
            self._framewise = update.preview
        self._progress.take(update)
        self._live.take(update)
        return False

    def write(self, state: jobs.State, error: Exception | None) -> None:
        """Write the result's files, or what there was by the end."""
        if self.result is None:
            self._end_in_history(state, sentence(error) if error else "")
            return
        self._framewise = self.result.framewise_frames
        rests = rests_of(self.result)
        self.scores = scores_of(self.result, rests)
        self.message = self._write_files(self.result)
        self._last_player = result_player(
            self.result, self.fps, self.scores, self.files, self.run_id, self._live.given, rests
        )

    def _write_files(self, result: GenerationResult) -> str:
        """Keep the result in the history; returns the sentence that goes with it."""
        note = self._progress.note or "The clips play in step."
        if not self.run_id:
            return f"{note} {NOT_KEPT}"
        try:
            self.files = self._runs.finish(self.run_id, result, self.scores, self._sound)
        except BIVDiffError as error:  # the clips are shown all the same
            self._end_in_history("failed", sentence(error))
            return sentence(error)
        self._in_history = True
        return note

    def _end_in_history(self, state: jobs.State, message: str) -> None:
        self._runs.end(self.run_id, state, message, self._framewise)
        self._in_history = True

    def end(self, state: jobs.State, error: Exception | None) -> None:
        """Note how it ended."""
        self.state = state
        if state == "done" and self.result is not None:
            spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.result.seconds.items())
            _log.info("done: %s", spent)
        else:
            self.message = sentence(error) if error else ""
            _log.info("%s: %s", state, self.message or "Stopped.")
            if not self._in_history:  # writing failed in a way that nobody foresaw
                self._end_in_history(state, self.message)
        self._last_panel = self._end_panel()

    @property
    def version(self) -> int:
        """Grows with every picture, and with the result."""
        return self._live.version + (self._last_player is not None)

    def shown(self) -> dict[str, Any]:
        """The player's value, and the seed once it has made a clip."""
        seed = self.request.seed if self.state == "done" else gr.skip()
        return {"player": self._last_player or self._live.value(), "seed": seed}

    def panel(self) -> dict[str, Any]:
        """The progress panel's value now."""
        return dict(self._last_panel or self._progress.panel())

    def _end_panel(self) -> dict[str, Any]:
        if self.state == "failed":
            return {**self._progress.panel("failed", self.message), "detail": "", "remaining": None}
        if self.state == "cancelled" or self.result is None:
            return {**idle_panel(self.request.task), "state": "stopped", "headline": "Stopped.", "detail": self.message}
        return self._progress.panel("done", f"Done in {sum(self.result.seconds.values()):.1f} s", self.message)

    def files_beside(self, result: GenerationResult) -> Mapping[str, Path]:
        """The files of this run's result, for a client, where the history could not keep it: they stay for a day.

        Raises:
            InputError: they cannot be written here either.
        """
        folder = upload_folder() / secrets.token_hex(16)
        files = names_of(result)
        try:
            folder.mkdir(parents=True)
            carried = cache(partial(carry, settings_of(result.request, self.fps), pack(result.request)))
            write_result(folder, files, result, self.fps, carried, self._sound)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise InputError(f"The run's files could not be written. {self.message}") from error
            raise
        return {name: folder / file for name, file in files.items()}

    def remaining(self) -> float | None:
        """Seconds until the end, or None while it is too early to say."""
        return self._progress.remaining()

    def progress(self) -> dict[str, Any]:
        """How far it is, ready for JSON."""
        return {**self._progress.progress(), "remaining": self.remaining()}
