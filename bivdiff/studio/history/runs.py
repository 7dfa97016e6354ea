"""What was run: settings, pictures, files and scores of every run, kept from one start of the studio to the next.

Every entry belongs to who made it, and is shown to nobody else. Several threads and processes may use one folder.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.media import carried
from bivdiff.media.reading import probe, read_sound
from bivdiff.media.sound import Sound
from bivdiff.settings import Settings
from bivdiff.studio.history.database import Database
from bivdiff.studio.history.files import (
    FRAMEWISE,
    RunFiles,
    keep_shown,
    names_of,
    packed_pictures,
    thumbnail_of,
    write_framewise,
    write_pictures,
    write_result,
)
from bivdiff.studio.history.locks import Processes
from bivdiff.studio.history.presets import Presets
from bivdiff.studio.history.records import (
    UNFINISHED,
    Changes,
    Run,
    checked_owner,
    run_of,
    searchable,
    settings_as_used,
    storable,
    to_json,
)
from bivdiff.studio.history.trouble import NewerError, Trouble
from bivdiff.studio.limits import check_pixels, sound_seconds
from bivdiff.types import GenerationRequest, GenerationResult
from bivdiff.units import finite, parse_bytes

PUBLISHED = "published"
"""The folder, among a run's files, of what its link shows."""

DEFAULT_BYTES = 5 * 10**9
FAVOURITES_SHARE = 0.5  # of the bound, for one visitor: they leave last, so they may not fill it
PRESETS_SHARE = 0.05  # of the bound, for all presets
INTERRUPTED = "The studio was stopped while this run was waiting or being computed. Restore it to run it again."


class Runs:
    """The history in a folder, for as long as the process lives.

    Making one never fails. Where the folder cannot be used the history is kept in a temporary one until the process
    ends, and `trouble` says so.

    Args:
        settings: name the folder and its bound.

    Attributes:
        presets: settings that visitors keep under a name.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trouble = Trouble()
        self._use(settings.history_folder.absolute())
        try:
            self._open()
        except (OSError, sqlite3.Error, NewerError) as error:
            self._trouble.at_start(error)
            with suppress(OSError, sqlite3.Error):
                self._use(Path(tempfile.mkdtemp(prefix="bivdiff-history-")))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
                self._open()

    @property
    def trouble(self) -> str:
        """A sentence for the user where runs are not kept as they should be, else nothing."""
        return self._trouble.sentence

    @property
    def files_folder(self) -> Path:
        """The only folder whose files are served; each run has one in it, named by its id."""
        return self._files.folder

    def folder(self, run_id: str) -> Path:
        """The folder of a run's files, which is there once the run has begun.

        Raises:
            InputError: that is no id.
        """
        return self._files.of(run_id)

    # The life of a run

    def begin(
        self,
        request: GenerationRequest,
        fps: float,
        owner: str,
        *,
        kind: str = "run",
        axes: Mapping[str, Sequence[Any]] | None = None,
        address: str = "",
    ) -> str:
        """Keep what is about to be run, in the state "queued", with its pictures.

        Args:
            request: what is asked.
            fps: playback rate.
            owner: who asks.
            kind: "run" or "comparison"; axes: the values that are compared, kept as `settings["axes"]`.
            address: the owner's, where that is known; it is not stored.

        Returns:
            The run's id.

        Raises:
            InputError: it cannot be kept; nothing is left behind.
        """
        settings = carried.settings_of(request, fps, axes)
        return self._insert(settings, request, owner, address, state="queued", kind=kind)

    def started(self, run_id: str) -> None:
        """Note that it is being computed. Does not fail: `trouble` says what could not be kept."""
        with suppress(InputError):
            self._update(run_id, Changes(state="running"))

    def finish(
        self, run_id: str, result: GenerationResult, scores: Mapping[str, Any], sound: Sound | None = None
    ) -> dict[str, Path]:
        """Write a result's files, each of which carries the run, and make room for them.

        Args:
            run_id: the run.
            result: its request has the settings that were used.
            scores: numbers by name.
            sound: heard with the bridged clip.

        Returns:
            The files by what they are, see `Run.files`.

        Raises:
            InputError: they cannot be written; of the result nothing is left behind.
        """
        row = self._database.row(run_id)
        settings = settings_as_used(row, result.request)
        files = names_of(result)
        with self._files.writing(run_id, files.values()) as folder:
            write_pictures(folder, result.request)
            carry = cache(partial(carried.carry, settings, packed_pictures(folder)))
            write_result(folder, files, result, row["fps"], carry, sound)
            self._update(run_id, Changes(
                state="done", message="", settings=to_json(settings), words=searchable(settings),
                seed=settings["seed"], scores=to_json(finite(scores)), seconds=to_json(finite(result.seconds)),
                files=to_json(files), thumbnail=thumbnail_of(result.frames, row["fps"]),
            ))  # fmt: skip
        self._make_room(run_id)
        return {name: folder / file for name, file in files.items()}

    def finish_comparison(
        self, run_id: str, request: GenerationRequest, files: Mapping[str, Path], scores: Mapping[str, Any],
        thumbnail_frames: np.ndarray, *, state: str = "done", message: str = "",
    ) -> None:  # fmt: skip
        """Note what a comparison has made, and make room for it.

        Args:
            run_id: the run.
            request: has the settings that were used, the seed among them.
            files: in the run's folder, by what they are.
            scores: whatever there is to say, ready for JSON.
            thumbnail_frames: uint8 `(F, H, W, 3)`.
            state: how it ended: one that was cancelled or failed has the clips that were ready.
            message: why it ended so.

        Raises:
            InputError: it cannot be kept.
        """
        row = self._database.row(run_id)
        settings = settings_as_used(row, request)
        with self._files.writing(run_id) as folder:
            write_pictures(folder, request)
            self._update(run_id, Changes(
                state=state, message=message, settings=to_json(settings), words=searchable(settings),
                seed=settings["seed"], scores=to_json(finite(scores)),
                files=to_json({name: path.relative_to(folder).as_posix() for name, path in files.items()}),
                thumbnail=thumbnail_of(thumbnail_frames, row["fps"]),
            ))  # fmt: skip
        self._make_room(run_id)

    def end(self, run_id: str, state: str, message: str = "", framewise: np.ndarray | None = None) -> None:
        """Note how a run ended that has no result. Does not fail: `trouble` says what could not be kept.

        Args:
            run_id: the run.
            state: failed, cancelled or interrupted.
            message: why.
            framewise: the image model's frames, if they were made, uint8 `(F, H, W, 3)`; they are kept.
        """
        if state not in {"failed", "cancelled", "interrupted"}:
            raise ValueError(f"a run without a result does not end as '{state}'")
        with suppress(InputError):
            self._update(run_id, Changes(state=state, message=message))
            if framewise is not None:
                self._add_framewise(run_id, framewise)
        self._make_room(run_id)

    def adopt(self, path: str | Path, owner: str, address: str = "") -> str:
        """Make a run, in the state "dropped", of what a file carries, for an owner at an address, see `begin`.

        An mp4 that shows one of the run's clips is kept as that clip. Clips that are larger than the owner of the
        studio allows are not decoded.

        Returns:
            The run's id. Its message says so where the file carries settings without pictures.

        Raises:
            InputError: it carries nothing that can be restored here, or it cannot be kept.
        """
        found = carried.read(path, lambda shape: check_pixels(shape, self._settings))
        settings = found.settings
        if settings["task"] not in TASKS or settings["image_model"] not in TASKS[settings["task"]].every_image_model:
            raise InputError(
                "This file was made for a task that this version of the studio does not have. Update it and try again."
            )
        message = "" if found.request else carried.NO_PICTURES
        kind = "comparison" if "axes" in settings else "run"
        run_id = self._insert(settings, found.request, owner, address, state="dropped", kind=kind, message=message)
        if found.request is not None and kind == "run":
            self._keep_shown(run_id, Path(path), found.shows, found.request)
        self._make_room(run_id)
        return run_id

    def _keep_shown(self, run_id: str, path: Path, shows: str, request: GenerationRequest) -> None:
        """Keep the clip that a dropped file shows; the run is there whether or not that can be kept."""
        with suppress(InputError), self._files.writing(run_id) as folder:
            files, clip = keep_shown(folder, path, shows, request)
            if clip is not None:
                self._update(run_id, Changes(files=to_json(files), thumbnail=thumbnail_of(clip.frames, clip.fps)))

    # What a visitor asks

    def get(self, run_id: str, owner: str) -> Run:
        """One run.

        Raises:
            InputError: it is not there, or not the owner's.
        """
        return run_of(self._database.owned_row(run_id, owner), self._files.of(run_id))

    def find(
        self,
        owner: str,
        *,
        search: str = "",
        task: str = "",
        state: str = "",
        favourites: bool = False,
        limit: int = 60,
        offset: int = 0,
    ) -> list[Run]:
        """The owner's runs, newest first.

        Args:
            owner: who asks.
            search: words that must all occur in the prompt or in another setting, in any case.
            task, state: keys; nothing means every one.
            favourites: only those.
            limit, offset: which part of the list; at most 500 at once.

        Raises:
            InputError: the history cannot be read.
        """
        with suppress(InputError):
            self._note_interrupted()
        rows = self._database.find(
            owner, search=search, task=task, state=state, favourites=favourites, limit=limit, offset=offset
        )
        return [run_of(row, self._files.of(row["id"])) for row in rows]

    def set_favourite(self, run_id: str, owner: str, on: bool) -> None:
        """Say whether a run stays when others leave to make room.

        Raises:
            InputError: it is not there or not the owner's, or favourites take up too much already.
        """
        self._database.owned_row(run_id, owner)
        if not self._database.set_favourite(run_id, on, FAVOURITES_SHARE * self._bound()):
            raise InputError(
                f"Your favourites may take up {FAVOURITES_SHARE:.0%} of the history, and with this one it would be "
                "more. Take the mark from another one first."
            )

    def delete(self, run_id: str, owner: str) -> None:
        """Remove a run and its files for good.

        Raises:
            InputError: it is not there or not the owner's, or it has not ended yet.
        """
        with suppress(InputError):
            self._note_interrupted()
        if self._database.owned_row(run_id, owner)["state"] in UNFINISHED:
            raise InputError("This run is still waiting or being computed. Stop it first, then delete it.")
        self._database.delete(run_id)
        self._files.remove([run_id])

    def job(self, run_id: str, owner: str) -> tuple[GenerationRequest, float]:
        """The request of a run with all its pictures and the seed that was used, and its frames a second.

        Raises:
            InputError: it is not there or not the owner's, or its pictures are not.
        """
        run = self.get(run_id, owner)
        if run.message == carried.NO_PICTURES:
            raise InputError(run.message)
        return carried.request_of(run.settings, self._files.pictures(run_id)), run.fps

    def sound(self, run_id: str, owner: str) -> Sound | None:
        """What is heard with a run's result; None where that is silent, or there is none.

        A dropped file's may last longer than the owner allows, and ends there.

        Raises:
            InputError: the run is not there or not the owner's.
        """
        run = self.get(run_id, owner)
        if "bridged" not in run.files:
            return None
        path = run.files["bridged"]
        return read_sound(path, seconds=min(probe(path).duration, sound_seconds(self._settings)))

    def shape(self, run_id: str, owner: str) -> tuple[int, int, int]:
        """`(F, H, W)` of the clip that a run was given, which is not decoded.

        Raises:
            InputError: it is not there or not the owner's, or its pictures are not.
        """
        run = self.get(run_id, owner)
        if run.message == carried.NO_PICTURES:
            raise InputError(run.message)
        return self._files.shape(run_id)

    @contextmanager
    def adding(self, run_id: str, *names: str) -> Iterator[Path]:
        """Write further files into a run's folder; where that fails, those of these names are removed.

        Raises:
            InputError: they cannot be written.
        """
        with self._files.writing(run_id, names) as folder:
            yield folder
        self._update(run_id, Changes())
        self._make_room(run_id)

    # Links

    def publish(self, run_id: str, owner: str, write: Callable[[Run, Path], None]) -> str:
        """Let whoever has its link see a run; returns the link's id, which it keeps as long as it is switched on.

        Args:
            run_id: a run that is done.
            owner: who asks.
            write: writes into a folder of the run what the link shows.

        Raises:
            InputError: the run is not there or not the owner's, has no result, or the files cannot be written.
        """
        run = self.with_result(run_id, owner, "A link")
        if link := self._database.link(run_id):
            return link
        with self._files.writing(run_id) as folder:
            place = folder / PUBLISHED
            place.mkdir(exist_ok=True)
            write(run, place)
        self._update(run_id, Changes())
        link = secrets.token_urlsafe(12)
        self._database.set_link(run_id, link)
        return link

    def unpublish(self, run_id: str, owner: str) -> None:
        """Switch the link of a run off; whoever follows it finds nothing any more, and a later link is another.

        Raises:
            InputError: the run is not there or not the owner's.
        """
        run = self.get(run_id, owner)
        self._database.set_link(run.id, "")
        shutil.rmtree(self.folder(run.id) / PUBLISHED, ignore_errors=True)

    def link(self, run_id: str, owner: str) -> str:
        """The id of a run's link; empty where it is switched off.

        Raises:
            InputError: the run is not there or not the owner's.
        """
        return self._database.link(self.get(run_id, owner).id)

    def published(self, link_id: str) -> tuple[Run, Path]:
        """The run that a link shows, and the folder with what `publish` had written.

        Raises:
            InputError: there is no such link.
        """
        row = self._database.linked_row(link_id)
        folder = self._files.of(row["id"])
        return run_of(row, folder), folder / PUBLISHED

    def copy_published(self, link_id: str, owner: str, address: str = "") -> str:
        """Take what a link shows into the owner's history, in the state "dropped": settings and pictures.

        Args:
            link_id: of the link.
            owner: who takes it, from which `address`.

        Returns:
            The new run's id; the run's own where it is the owner's already.

        Raises:
            InputError: there is no such link, or the copy cannot be kept.
        """
        run, _ = self.published(link_id)
        if run.owner == owner:
            return run.id
        request, _ = self.job(run.id, run.owner)
        made = self._insert(run.settings, request, owner, address, state="dropped", kind=run.kind)
        self._make_room(made)
        return made

    def with_result(self, run_id: str, owner: str, what: str) -> Run:
        """A run that has clips to make something of: `what`, in a sentence's first words.

        Raises:
            InputError: it is not there or not the owner's, or has none.
        """
        run = self.get(run_id, owner)
        if not ({"scores_json"} if run.kind == "comparison" else {"framewise", "bridged"}) <= run.files.keys():
            raise InputError(f"{what} needs a result, and this run has none. Choose a run that is done.")
        return run

    # Opening

    def _use(self, folder: Path) -> None:
        self._folder = folder
        self._processes = Processes(folder)
        self._database = Database(folder, self._trouble)
        self._files = RunFiles(folder, self._trouble)
        self.presets = Presets(self._database, partial(_room_of_presets, self._settings, self._trouble))

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files_folder.mkdir(exist_ok=True)
        with self._processes.alone():
            self._processes.enter()
            self._processes.remove_gone()
            if self._database.is_broken():
                self._trouble.lasting = self._move_aside()
            self._database.upgrade()
        with suppress(InputError):
            self._note_interrupted()
            self._files.remove_abandoned(self._database.ids())

    def _move_aside(self) -> str:
        """Give a damaged database, and the files that it knew, names of their own; returns what the user should do."""
        ending = time.strftime(".broken-%Y%m%d-%H%M%S")
        for path in (self._database.path, self._folder / "runs.sqlite-journal", self.files_folder):
            with suppress(FileNotFoundError):
                path.rename(path.with_name(f"{path.name}{ending}"))
        self.files_folder.mkdir()
        return (
            "The database of earlier runs was damaged, so a new history was started. The old one stays beside it, "
            f"under names that end in “{ending}”: its clips can still be watched, or dropped on the page. Delete them "
            "when you no longer need them."
        )

    def _note_interrupted(self) -> None:
        """Mark as interrupted what processes left unfinished that are gone."""
        others = self._database.others_unfinished(self._processes.own)
        if gone := [name for name in others if not self._processes.lives(name)]:
            self._database.interrupt(gone, INTERRUPTED)

    # Writing

    def _insert(
        self, settings: dict[str, Any], request: GenerationRequest | None, owner: str, address: str, *, state: str,
        kind: str, message: str = "",
    ) -> str:  # fmt: skip
        run_id, settings = secrets.token_hex(16), json.loads(to_json(settings))
        shown = ("task", "family", "image_model", "video_model", "prompt", "seed", "fps")
        row = {
            "id": run_id, "owner": checked_owner(owner), "process": self._processes.own, "created": time.time(),
            "state": state, "kind": kind, "message": message, **{name: settings[name] for name in shown},
            "settings": storable(to_json(settings)), "words": searchable(settings),
            "thumbnail": b"" if request is None else thumbnail_of(request.frames[:1], settings["fps"]),
        }  # fmt: skip
        with self._files.new(run_id) as folder:
            if request is not None:
                write_pictures(folder, request)
            size = self._files.size(run_id) + len(row["settings"]) + len(row["thumbnail"])
            self._database.insert({**row, "bytes": size}, address)
        return run_id

    def _update(self, run_id: str, changes: Changes) -> None:
        self._database.update(run_id, changes, self._files.size(run_id))

    def _add_framewise(self, run_id: str, framewise: np.ndarray) -> None:
        row = self._database.row(run_id)
        with self._files.writing(run_id, FRAMEWISE.values()) as folder:
            carry = carried.carry(json.loads(row["settings"]), packed_pictures(folder), "framewise")
            write_framewise(folder, framewise, row["fps"], carry)
            thumbnail = thumbnail_of(framewise, row["fps"])
            self._update(run_id, Changes(files=to_json(FRAMEWISE), thumbnail=thumbnail))

    def _make_room(self, stays: str) -> None:
        """Let old runs leave; what was made stays whether or not they can."""
        with suppress(InputError):
            self._files.remove(self._database.make_room(self._bound(), stays))

    def _bound(self) -> int:
        return _bound(self._settings, self._trouble)


def _bound(settings: Settings, trouble: Trouble) -> int:
    """How many bytes the owner lets the history take."""
    try:
        bound = parse_bytes(settings.history_size)
    except InputError as error:
        trouble.lasting = f"BIVDIFF_HISTORY_SIZE cannot be read: {error}"
        bound = None
    return DEFAULT_BYTES if bound is None else bound


def _room_of_presets(settings: Settings, trouble: Trouble) -> float:
    return PRESETS_SHARE * _bound(settings, trouble)
