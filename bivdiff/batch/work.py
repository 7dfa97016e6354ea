"""What a worker does for a batch: one job from its files to its files."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from bivdiff.batch.folder import made_of, write_record
from bivdiff.batch.jobs import Checked, Outcome
from bivdiff.errors import OutOfMemoryError
from bivdiff.studio.form import read_form, read_sound_of
from bivdiff.studio.outputs import report_of, slowed, write_outputs
from bivdiff.types import GenerationResult, StepEvent
from bivdiff.workers.worker import Tools


def make(tools: Tools, checked: Checked, place: Path) -> Iterator[StepEvent | Outcome]:
    """Make a job's clips; yields its steps, and its outcome last.

    Args:
        tools: of the worker.
        checked: the job.
        place: a folder that is made; the files and their record lie there afterwards.

    Raises:
        BIVDiffError: it cannot be made.
    """
    from bivdiff.bridge.pipeline import run
    from bivdiff.compare.planning import planned
    from bivdiff.compare.steadiness import figures_of

    began, manager = time.monotonic(), tools.manager()
    told: list[str] = []
    request, fps = read_form(checked.job.form, told.append)
    sound = read_sound_of(checked.job.form.source, len(request.frames), fps)
    with manager.policy_restored():
        request, expected, note = planned(request, manager, checked.job.to_fit)
        if not expected.fits:
            raise OutOfMemoryError(f"{expected.advice} Or let --fit-memory do it.")
        notes = [*told, *filter(None, (slowed(checked.job.output, fps), note))]
        for event in run(request, manager, tools.stages()):
            if isinstance(event, GenerationResult):
                result = event
            else:
                notes += [event.note] if event.note else []
                yield StepEvent(event.stage, event.step, event.total, event.message)  # pictures would travel for nobody
    place.mkdir(parents=True)
    files = {name: path.as_posix() for name, path in checked.files.items()}
    write_outputs({name: made_of(place, name, file) for name, file in files.items()}, result, fps, sound)
    outcome = Outcome(
        checked.job.id, checked.hash, "done", round(time.monotonic() - began, 3), result.peak_memory_bytes,
        " ".join(notes), socket.gethostname(), files, figures_of(result), {"fps": fps, **report_of(result)},
    )  # fmt: skip
    write_record(place, outcome)
    yield outcome


def unseen(_: Tools, token: Path, inputs: Iterable[Path]) -> Iterator[Path]:
    """Work that tells which of the files that a batch needs are not seen from where the worker is.

    Args:
        token: in the batch's folder, with the name of its own folder as its content.
        inputs: of all jobs.
    """
    try:
        if token.read_text("utf-8") != token.parent.name:
            yield token
    except OSError:
        yield token
    yield from (path for path in inputs if not path.is_file())
