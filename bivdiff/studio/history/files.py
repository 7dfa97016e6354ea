"""The files of the runs: a folder for each, with the pictures that it was given and what it made."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from bivdiff.errors import InputError
from bivdiff.media import carried
from bivdiff.media.reading import Clip, read_clip
from bivdiff.media.sound import Sound
from bivdiff.media.writing import MAX_GIF_FPS, Carry, write_gif, write_mp4, write_png_zip
from bivdiff.studio.history.records import checked_id
from bivdiff.studio.history.trouble import Trouble
from bivdiff.types import GenerationRequest, GenerationResult

THUMBNAIL_BYTES = 20_000
ABANDONED_SECONDS = 3600.0  # after which files without an entry have no writer any more
FRAMEWISE = {"framewise": "frame-by-frame.mp4"}

_PICTURES = "pictures.zip"
_THUMBNAILS = ((160, 8, 60), (160, 8, 25), (96, 8, 25), (160, 1, 60), (96, 1, 25), (48, 1, 10))
"""Longer side, frames and quality of thumbnails, the best first."""


class RunFiles:
    """The files in a history folder.

    Args:
        folder: the history folder.
        trouble: is told what cannot be written.

    Attributes:
        folder: of the files of all runs.
    """

    def __init__(self, folder: Path, trouble: Trouble) -> None:
        self.folder = folder / "files"
        self._trouble = trouble

    def of(self, run_id: str) -> Path:
        """The folder of a run's files.

        Raises:
            InputError: that is no id.
        """
        return self.folder / checked_id(run_id)

    @contextmanager
    def new(self, run_id: str) -> Iterator[Path]:
        """Make the folder of a run; all of it is removed unless everything goes well in it.

        Raises:
            InputError: it cannot be written.
        """
        try:
            with self.writing(run_id) as folder:
                yield folder
        except BaseException:
            self.remove([run_id])
            raise

    @contextmanager
    def writing(self, run_id: str, names: Iterable[str] = ()) -> Iterator[Path]:
        """The folder of a run to write files to; those of these names are removed unless everything goes well.

        Raises:
            InputError: it cannot be written.
        """
        folder = self.of(run_id)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            yield folder
        except BaseException as error:
            for name in names:
                with suppress(OSError):
                    (folder / name).unlink(missing_ok=True)
            if isinstance(error, InputError) and isinstance(error.__cause__, OSError):
                self._trouble.unwritten(str(error))
            if isinstance(error, OSError):
                raise self._trouble.later("files", error) from error
            raise
        self._trouble.works("files")

    def size(self, run_id: str) -> int:
        """What the files of a run take, in bytes."""
        total = 0
        for path in self.of(run_id).rglob("*"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def pictures(self, run_id: str) -> carried.Pictures:
        """What a run was given.

        Raises:
            InputError: it is not there, or damaged.
        """
        return carried.unpack(self.of(run_id) / _PICTURES)

    def shape(self, run_id: str) -> tuple[int, int, int]:
        """`(F, H, W)` of what a run was given, which is not decoded.

        Raises:
            InputError: it is not there, or damaged.
        """
        return carried.packed_shape(self.of(run_id) / _PICTURES)

    def remove(self, run_ids: Iterable[str]) -> None:
        """Remove all files of runs, as far as the system lets them go."""
        for run_id in run_ids:
            shutil.rmtree(self.of(run_id), ignore_errors=True)

    def remove_abandoned(self, known: Collection[str]) -> None:
        """Remove old files of runs that never came into the database."""
        for folder in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if folder.name not in known and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)


def write_pictures(folder: Path, request: GenerationRequest) -> None:
    """Write what a run is given, unless it is there: a request is made smaller to fit, and a file may be damaged."""
    path = folder / _PICTURES
    with suppress(InputError):
        if carried.packed_shape(path) == request.frames.shape[:3]:
            return
    part = folder / f"{_PICTURES}.part"
    part.write_bytes(carried.pack(request))
    part.replace(path)


def packed_pictures(folder: Path) -> bytes:
    """The archive of what a run was given.

    Raises:
        OSError: it is not there.
    """
    return (folder / _PICTURES).read_bytes()


def names_of(result: GenerationResult) -> dict[str, str]:
    """The names of a result's files, by what they are."""
    clips = {name: f"{name}.mp4" for name in [*map_names(len(result.control_frames)), *_mask_name(result)]}
    return {"bridged": "bridged.mp4", **FRAMEWISE, **clips, "gif": "bridged.gif", "pngs": "bridged-frames.zip"}


def write_result(
    folder: Path, files: Mapping[str, str], result: GenerationResult, fps: float, carry: Callable[[str], Carry],
    sound: Sound | None = None,
) -> None:  # fmt: skip
    """Write the files of a result.

    Args:
        folder: where to.
        files: as `names_of` gives them.
        result: what was made.
        fps: playback rate.
        carry: what each of them carries, by which clip it shows.
        sound: heard with the bridged clip.
    """
    clips = {"bridged": result.frames, "framewise": result.framewise_frames}
    clips |= dict(zip(map_names(len(result.control_frames)), result.control_frames, strict=True))
    if result.request.masks is not None:
        clips |= dict.fromkeys(_mask_name(result), np.repeat(result.request.masks[..., None], 3, axis=-1))
    for name, frames in clips.items():
        write_mp4(folder / files[name], frames, fps, carry(name), sound if name == "bridged" else None)
    write_gif(folder / files["gif"], result.frames, min(fps, MAX_GIF_FPS), carry("bridged"))
    write_png_zip(folder / files["pngs"], result.frames, carry("bridged"))


def write_framewise(folder: Path, framewise: np.ndarray, fps: float, carry: Carry) -> None:
    """Write the only file of a run that ended before its result: the image model's frames."""
    write_mp4(folder / FRAMEWISE["framewise"], framewise, fps, carry)


def keep_shown(
    folder: Path, path: Path, shows: str, request: GenerationRequest
) -> tuple[dict[str, str], Clip | None]:  # fmt: skip
    """Keep an mp4 of the studio, from wherever it comes, as the clip of the run that it shows.

    Args:
        folder: of the run's files.
        path: the mp4.
        shows: which of the run's clips it says that it shows.
        request: that it carries.

    Returns:
        Its name by what it is, as `Run.files` has it, and its frames; neither where it is no such clip.
    """
    count, height, width = request.frames.shape[:3]
    written = (width + width % 2, height + height % 2)  # as `write_mp4` writes it

    def as_written(*size: int) -> tuple[int, int]:
        if size != written:
            raise InputError("This is no clip of the run that the file carries: it has another size.")
        return written

    names = {name: f"{name}.mp4" for name in ("bridged", "mask", *map_names(len(request.controls)))} | FRAMEWISE
    try:
        clip = read_clip(path, num_frames=count, size=as_written) if shows in names else None
    except InputError:
        return {}, None
    if clip is None or clip.taken is None or clip.taken.source.frames_from(0) != count:
        return {}, None
    shutil.copyfile(path, folder / names[shows])
    return {shows: names[shows]}, clip


def thumbnail_of(frames: np.ndarray, fps: float) -> bytes:
    """A WebP of at most `THUMBNAIL_BYTES`: moving if that fits, else smaller, coarser and at last still.

    Args:
        frames: uint8 `(F, H, W, 3)`.
        fps: playback rate.
    """
    for side, count, quality in _THUMBNAILS:
        size = _within(frames.shape[2], frames.shape[1], side)
        pictures = [Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR) for frame in frames[:count]]
        milliseconds = round(min(max(1000 / fps, 20), 1000))
        buffer = io.BytesIO()
        pictures[0].save(
            buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, quality=quality,
            method=2,
        )  # fmt: skip
        if buffer.tell() <= THUMBNAIL_BYTES:
            return buffer.getvalue()
    return b""


def map_names(count: int) -> list[str]:
    """What the control maps of a run are called among its files: control, control-2, control-3, ..."""
    return [f"control-{number}" if number > 1 else "control" for number in range(1, count + 1)]


def _mask_name(result: GenerationResult) -> list[str]:
    return [] if result.request.masks is None else ["mask"]


def _within(width: int, height: int, side: int) -> tuple[int, int]:
    scale = min(side / max(width, height), 1)
    return max(round(width * scale), 1), max(round(height * scale), 1)
