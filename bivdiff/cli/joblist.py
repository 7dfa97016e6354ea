"""The jobs of a batch: lines of a file, or one set of flags for many clips; each becomes the form of a single run."""

from __future__ import annotations

import argparse
import difflib
import glob
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from bivdiff.batch.folder import OWN_NAMES
from bivdiff.batch.jobs import Job
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.tasks import TASKS
from bivdiff.cli.arguments import as_path
from bivdiff.cli.filling import form_of, varied
from bivdiff.cli.flags import CONTROL_FLAGS, MASK_FLAGS, REQUEST_FLAGS, SOURCE_FLAGS
from bivdiff.compare.axes import say
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.fields import Entry, table
from bivdiff.media.targets import check_writable
from bivdiff.studio.form import CanvasForm, MaskForm, SourceForm
from bivdiff.types import Control, GenerationRequest

_ID = re.compile(r"[^\W_][\w.,=+ -]{0,119}", re.ASCII)
_NAMES = ("task", "family", "image_model", "video_model", "prompt")
_OWN = ("id", "output", "vary", "preset", "fit_memory")
_NOT_VARIED = ("id", "output", "vary", "video")
_LISTS = ("control_type", *CONTROL_FLAGS, "control_video")
_FILES = ("control_video", "mask")


def _entries() -> dict[str, Entry]:
    """What is known of each field that a line may have, by its name: that of the flag of a single run."""
    request, source, masks, controls = (table(each) for each in (GenerationRequest, SourceForm, MaskForm, Control))
    return {
        **{name: request[name] for name in _NAMES},
        **REQUEST_FLAGS,
        **{name: source[field] for name, field in SOURCE_FLAGS.items()},
        **{name: masks[field] for name, field in MASK_FLAGS.items()},
        **{name: controls[field] for name, field in CONTROL_FLAGS.items()},
        "control_type": controls["control_type"], "control_video": controls["frames"],
        "extend": table(CanvasForm)["extend"], "video": source["video"],
    }  # fmt: skip


ENTRIES: Mapping[str, Entry] = _entries()


@dataclass(frozen=True)
class Refused:
    """A line that no job can be made of, and why."""

    id: str
    sentence: str


class _Names:
    """What jobs are called that have no id: as their clips, and those of one name in several folders as these too."""

    def __init__(self) -> None:
        self._stems: dict[tuple[str, Path], Path] = {}
        self._taken: dict[tuple[str, str], Path] = {}

    def of(self, video: Path, given: str | None) -> str:
        """The name of a clip's job.

        Args:
            video: the clip.
            given: the id of its line, which goes before the name.
        """
        scope = given or ""
        is_first = self._stems.setdefault((scope, video.parent / video.stem), video) == video
        parts = [*video.parts[:-1], video.stem if is_first else video.name]
        names = [_as_id("/".join(parts[-count:])) for count in range(1, len(parts) + 1)]
        return next((name for name in names if self._taken.setdefault((scope, name), video) == video), names[0])


def read_jobs(args: argparse.Namespace) -> list[Job | Refused]:
    """The jobs that the flags of `batch` describe, in their order, each id once.

    Raises:
        InputError: there are none, or the file cannot be read.
    """
    lines = _from_flags(args) if args.jobs is None else _from_file(args.jobs, args)
    found: list[Job | Refused] = []
    ids: set[str] = set()
    for each in lines:
        if each.id in ids:
            told = f"The id '{each.id}' is there twice. Give each line one of its own."
            found.append(Refused(f"{each.id} ({len(found) + 1})", told))
        else:
            ids.add(each.id)
            found.append(each)
    if not found:
        raise InputError("There is no job: the list is empty, or no clip has such a name. Check the name.")
    return found


def _from_flags(args: argparse.Namespace) -> Iterator[Job | Refused]:
    line = {"video": args.videos, "vary": varied(args.vary), **({} if args.prompt is None else {"prompt": args.prompt})}
    yield from _jobs_of(line, "flags", Path(), args, _Names())


def _from_file(path: Path, args: argparse.Namespace) -> Iterator[Job | Refused]:
    """The jobs of a file with a JSON object on each line; the flags are what the lines do not say."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"The list of jobs '{path}' cannot be read: {reason}. Give a file of JSON lines.") from error
    names = _Names()
    for number, line in enumerate(text.split("\n"), 1):  # not where Unicode ends lines: JSON does not
        if line.strip():
            yield from _read_line(line, number, path.parent, args, names)


def _read_line(
    text: str, number: int, folder: Path, args: argparse.Namespace, names: _Names
) -> Iterator[Job | Refused]:
    name = f"line {number}"
    try:
        line = json.loads(text, object_pairs_hook=_each_once)
    except (InputError, ValueError, RecursionError) as error:
        told = "it is nested too deep" if isinstance(error, RecursionError) else error
        yield Refused(name, f"Line {number} is not JSON that can be read: {told}. Write one object on each line.")
        return
    if not isinstance(line, dict):
        yield Refused(name, f'Line {number} is not an object. Write one as in {{"video": "a.mp4"}}.')
        return
    base = {} if args.prompt is None else {"prompt": args.prompt}
    yield from _jobs_of({**base, **line}, name, folder, args, names)


def _each_once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    names = Counter(name for name, _ in fields)
    if twice := next((name for name, times in names.items() if times > 1), None):
        raise InputError(f"it has the field '{twice:.60}' twice")
    return dict(fields)


def _jobs_of(
    line: Mapping[str, Any], name: str, folder: Path, args: argparse.Namespace, names: _Names
) -> Iterator[Job | Refused]:
    """The jobs of a line: one for each clip and each value of what it varies."""
    given = line.get("id")
    try:
        if given is not None and not (isinstance(given, str) and _ID.fullmatch(given)):
            raise InputError(
                f"The id {given!r:.60} is not one. Use letters, digits, spaces and . , = + _ - as in a file's name."
            )
        name = given or name
        videos = _videos(line.get("video"), folder)
        cells = list(_cells(line.get("vary", {})))
    except InputError as error:
        yield Refused(name, str(error))
        return
    for video, cell in product(videos, cells):
        parts = [given] if given and len(videos) == 1 else [*filter(None, [given]), names.of(video, given)]
        parts += [f"{field}={say(value)}" for field, value in cell.items()]
        own = _as_id(" ".join(parts)) if len(parts) > 1 else parts[0]
        try:
            yield _job({**line, **cell, "video": video}, own, folder, args)
        except BIVDiffError as error:
            yield Refused(own, str(error))


def _job(line: Mapping[str, Any], own_id: str, folder: Path, args: argparse.Namespace) -> Job:
    values = {name: value for name, value in line.items() if name not in {"id", "output", "vary"} and value is not None}
    for name, value in values.items():
        _check(name, value)
    for name in _LISTS:
        if name in values and not isinstance(values[name], list):
            values[name] = [values[name]]
    for name in _FILES:
        if name in values:
            found = values[name]
            several = isinstance(found, list)
            values[name] = [folder / as_path(each) for each in found] if several else folder / as_path(found)
    filled = argparse.Namespace(**{**vars(args), **values})
    if filled.prompt is None:
        raise InputError("There is no prompt. Say in the line, or with --prompt for all, what the new clip shows.")
    _check_known("task", filled.task, TASKS)
    _check_known("family", filled.family, FAMILIES)
    output = line.get("output", f"{own_id}.mp4")
    return Job(own_id, _absolute(filled), _checked_output(output), bool(filled.fit_memory))


def _absolute(filled: argparse.Namespace) -> Any:
    """The form with paths that are right in every process."""
    for name in ("video", "mask"):
        if getattr(filled, name) is not None:
            setattr(filled, name, Path(getattr(filled, name)).absolute())
    filled.control_video = [Path(path).absolute() for path in filled.control_video or ()]
    return form_of(filled)


def _check(name: str, value: Any) -> None:
    """Refuse a field that is not known, or a value that is not of its kind; its bounds are the request's affair."""
    if name in _OWN:
        kind: type = bool if name == "fit_memory" else str
        if not isinstance(value, kind):
            raise InputError(f"{name} must be {'true or false' if kind is bool else 'text'}; got {value!r:.60}.")
        return
    if name not in ENTRIES:
        near = difflib.get_close_matches(name, [*ENTRIES, *_OWN], 1)
        hint = f" Do you mean '{near[0]}'?" if near else " `python -m bivdiff run --help` lists them, without dashes."
        raise InputError(f"There is no field '{name:.60}'.{hint}")
    if name in _LISTS and value == []:
        raise InputError(f"{name} is an empty list. Name one at least, or leave the field out.")
    for each in value if name in _LISTS and isinstance(value, list) else [value]:
        if ENTRIES[name].kind == "pictures":
            if not isinstance(each, str | Path):
                raise InputError(f"{name} must be the name of a file; got {each!r:.60}.")
            _check_can_be_a_name(name, str(each))
        else:
            ENTRIES[name].check(name, each)


def _check_can_be_a_name(what: str, name: str) -> None:
    try:
        possible = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise InputError(f"{what} is {name!r:.60}, a name that no file can have. Check the name.")


def _check_known(what: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise InputError(f"Unknown {what} '{name}'. Choose one of: {', '.join(known)}.")


def _videos(given: Any, folder: Path) -> list[Path]:
    """The clips of a line: a name, a pattern, or a list of such, beside the list of jobs."""
    names = given if isinstance(given, list) else [given]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f"video must be the name of a clip, a pattern such as clips/*.mp4, or a list; got {given!r:.60}."
        )
    found: list[Path] = []
    for name in names:
        _check_can_be_a_name("video", name)
        if glob.has_magic(name) and not os.path.lexists(folder / name):
            matching = sorted(glob.glob(str(folder / as_path(name)), recursive=True))  # noqa: PTH207 - of any folder
            if not matching:
                raise InputError(f"No clip matches '{name}'. Check the pattern, or the folder that it starts from.")
            found += [Path(each) for each in matching]
        else:
            found.append(folder / as_path(name))
    return found


def _cells(vary: Any) -> Iterator[dict[str, Any]]:
    """Every combination of the values that a line varies."""
    if not isinstance(vary, dict) or not all(isinstance(values, list) and values for values in vary.values()):
        raise InputError(f"vary must name settings, each with a list of values; got {vary!r:.60}.")
    if named := next((name for name in _NOT_VARIED if name in vary), None):
        raise InputError(
            f"vary cannot name '{named}', which is no setting. Give clips as a list in video; each job has an id and "
            "an output by itself."
        )
    for values in product(*vary.values()):
        yield dict(zip(vary, values, strict=True))


def _as_id(text: str) -> str:
    return re.sub(r"[^\w.,=+ -]+", "-", text, flags=re.ASCII).strip("-. _")[:120] or "clip"


def _checked_output(given: Any) -> Path:
    """A path below the batch's folder."""
    if not isinstance(given, str) or not given or any(unicodedata.category(each) in {"Cc", "Cs"} for each in given):
        raise InputError(f"output must be the name of a file; got {given!r:.60}.")
    path = PurePosixPath(given)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise InputError(f"The output '{given}' is not below the batch's folder. Name it as in 'cats/one.mp4'.")
    if path.parts[0].casefold() in OWN_NAMES:
        raise InputError(
            f"The output '{given}' would be in the place of the batch's own '{path.parts[0]}'. Name another."
        )
    return Path(path)


def colliding(jobs: Sequence[tuple[Job, Sequence[Path]]], folder: Path) -> dict[str, str]:
    """Jobs that would write where another writes, or to an input of any, or where nothing can be written.

    Args:
        jobs: each with all files that it writes, below the batch's folder.
        folder: of the batch.

    Returns:
        By id, why.
    """
    from bivdiff.batch.driver import inputs_of

    read = {path.resolve() for job, _ in jobs for path in inputs_of(job)}
    written: dict[Path, str] = {}
    above: dict[Path, str] = {}  # folders that jobs need
    refused: dict[str, str] = {}
    for job, files in jobs:
        targets = {(folder / path).resolve(): path for path in files}
        try:
            check_writable(folder / max(files, key=lambda path: len(os.fsencode(path))))
        except InputError as error:
            refused[job.id] = str(error)
            continue
        for target, path in targets.items():
            if under := next((each for each in target.parents if each in written), None):
                refused[job.id] = _clash(f"below '{under.name}', which is a file of '{written[under]}'")
            elif target in above:
                refused[job.id] = _clash(f"to '{path}', below which '{above[target]}' writes")
            elif target in read:
                refused[job.id] = _clash(f"to '{path}', which is an input of the batch")
            elif target in written:
                refused[job.id] = _clash(f"to '{path}', as '{written[target]}' does")
        if job.id not in refused:
            written |= dict.fromkeys(targets, job.id)
            above |= dict.fromkeys((each for target in targets for each in target.parents), job.id)
    return refused


def _clash(where: str) -> str:
    return f"It would write {where}. Give it another output."
