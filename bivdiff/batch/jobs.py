"""A job of a batch: a filled-in form, a name, and where its clip goes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bivdiff.catalog.components import components_of
from bivdiff.media.sound import Sound
from bivdiff.studio.form import Form, read_form, read_sound_of
from bivdiff.studio.outputs import output_files
from bivdiff.types import GenerationRequest

Status = Literal["done", "failed", "refused"]
Models = tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What is to be made.

    Attributes:
        id: its name in the batch.
        form: what is filled in.
        output: the clip's path below the batch's folder.
        to_fit: whether the request may be changed so that it fits into the memory.
    """

    id: str
    form: Form
    output: Path
    to_fit: bool = False


@dataclass(frozen=True)
class Checked:
    """A job that can be run, as far as can be told before it runs.

    Attributes:
        job: as it was given.
        hash: of all its settings and inputs.
        models: keys of the models that it needs.
        files: that it writes, below the batch's folder, by what is in them; see `outputs.output_files`.
    """

    job: Job
    hash: str
    models: Models
    files: Mapping[str, Path]

    @property
    def key(self) -> tuple[str, str]:
        """Of what became of it: the same settings and inputs under the same name."""
        return self.job.id, self.hash


@dataclass(frozen=True)
class Outcome:
    """How a job ended: a line of `results.jsonl`.

    Attributes:
        id, hash: of the job; a job that was refused has no hash.
        status: "done"; "failed" while it ran; "refused" before anything ran.
        seconds: from reading the clip until its files were written.
        memory: highest bytes, of the device if it has its own, else of the process.
        sentence: what there is to say: why it failed, or what was changed.
        host: where it ran.
        files: written below the batch's folder, by what is in them.
        scores: see `compare.steadiness.figures_of`.
        record: what the run took, and all its settings, with the seed that was used.
    """

    id: str
    hash: str
    status: Status
    seconds: float = 0.0
    memory: int = 0
    sentence: str = ""
    host: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


def checked(job: Job) -> Checked:
    """A job with its inputs read once, by the same code that reads those of a single run.

    Raises:
        InputError: something of it cannot be used.
        ModelUnavailableError: a model of the user's own cannot be read as such.
    """
    request, fps = read_form(job.form)
    models = tuple(spec.key for spec in components_of(request).every)
    sound = read_sound_of(job.form.source, len(request.frames), fps)
    return Checked(job, hash_of(request, fps, sound, job), models, output_files(job.output, request))


def hash_of(request: GenerationRequest, fps: float, sound: Sound | None, job: Job) -> str:
    """The same for two jobs that make the same files, as far as a seed that was left open lets them."""
    told = {"fps": fps, "output": job.output.as_posix(), "to_fit": job.to_fit, "settings": request.settings()}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    if sound is not None:
        digest.update(sound.samples.tobytes())
    for pictures in (request.frames, request.masks, *(control.frames for control in request.controls)):
        if pictures is None:
            digest.update(b"none")
        else:
            digest.update(repr(pictures.shape).encode())
            digest.update(pictures.data if pictures.flags.c_contiguous else pictures.tobytes())
    return digest.hexdigest()
