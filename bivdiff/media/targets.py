"""Where files may be written: nothing of the user's is written over, and what cannot be written is known at once."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from bivdiff.errors import InputError, quoted_name
from bivdiff.media.pictures import files_of


class Targets:
    """The files that a command is going to write, held against what it reads and against each other.

    Args:
        inputs: what is read, by what it is called in a sentence ("the source clip"): files, folders or patterns.
        force: whether files that are there already are written over; an input never is.
    """

    def __init__(self, inputs: Mapping[str, Path | Iterable[Path] | None], force: bool = False) -> None:
        self._inputs = [(name, file) for name, paths in inputs.items() for file in _files(paths)]
        self._force = force
        self._taken: set[str] = set()

    def named(self, path: Path) -> Path:
        """A file that the user named: the path itself.

        Raises:
            InputError: it is an input, is there already, is another target, or cannot be written.
        """
        name = quoted_name(path)
        if (read := self._input_at(path)) is not None:
            raise InputError(
                f"{name} is {read}, and writing there would destroy it. Choose another name or folder for what is made."
            )
        if _is_there(path) and path.is_dir():
            raise InputError(f"{name} is a folder. Choose the name of a file, such as '{path / 'out.mp4'}'.")
        if _is_there(path) and not self._force:
            raise InputError(
                f"{name} is there already, and nothing is written over. Choose another name, or say --force to write "
                "over it."
            )
        if _is_there(path) and not (path.is_file() or path.is_symlink()):
            raise InputError(f"{name} is not a regular file, so it is not written over. Choose another name.")
        if _key(path) in self._taken:
            raise InputError(f"Two of the files to write have the same name, {name}. Choose another for one of them.")
        return self._take(path)

    def beside(self, path: Path) -> Path:
        """A file that nobody named: the path, or where something else is there already the next free name.

        Raises:
            InputError: it cannot be written.
        """
        for number in count(1):
            free = path if number == 1 else path.with_stem(f"{path.stem}_{number}")
            usable = not _is_there(free) or (self._force and free.is_file() and self._input_at(free) is None)
            if usable and _key(free) not in self._taken:
                return self._take(free)
        raise AssertionError  # numbers do not end

    def folder(self, folder: Path, names: Iterable[str]) -> None:
        """A folder that the user named, for files that nobody named; whoever writes them makes it.

        Raises:
            InputError: one of the files is an input, is there already, or cannot be written.
        """
        there = []
        for path in (folder / name for name in names):
            if (read := self._input_at(path)) is not None:
                raise InputError(
                    f"{quoted_name(path)} in the folder '{folder}' is {read}, and writing there would destroy it. "
                    "Choose another folder."
                )
            if _is_there(path):
                there.append(path)
        if there and not self._force:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise InputError(
                f"The folder '{folder}' has {quoted_name(there[0])}{more} of the files that would be written already, "
                "and nothing is written over. Choose another folder, or say --force to write over them."
            )
        check_writable(folder / "_")

    def at_last(self, path: Path) -> Path:
        """Where a target is written: its own path, unless something has come there since; its folder is made.

        Raises:
            InputError: it can no longer be made.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(path.parent, path, error) from error
        return path if self._force or not _is_there(path) else self.beside(path)

    def _take(self, path: Path) -> Path:
        check_writable(path)
        self._taken.add(_key(path))
        return path

    def _input_at(self, path: Path) -> str | None:
        """What an input is called that is the same file, by whatever name or link."""
        return next((name for name, file in self._inputs if _is_same(path, file)), None)


def check_writable(path: Path) -> None:
    """Try whether a file can be made there, its folder too where it is missing; nothing is left behind.

    Raises:
        InputError: it cannot.
    """
    folder = path.parent
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each) or each == each.parent)
    try:
        # Not in the folder itself: one that was made for a run that is then refused would stay, and to take it away
        # again could take it from another run.
        with tempfile.TemporaryDirectory(dir=there, prefix=".") as trial:
            made = Path(trial) / folder.relative_to(there)
            made.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, there, error) from error
    _is_there(there / path.name)


def _unwritable(folder: Path, there: Path, error: OSError | ValueError) -> InputError:
    how = "may not be written to" if folder == there and there.is_dir() else "could not be made"
    return InputError(f"The folder of the output, '{folder}', {how}: {_reason(error)}. Choose another.")


def _files(paths: Path | Iterable[Path] | None) -> list[Path]:
    if paths is None:
        return []
    several = [paths] if isinstance(paths, Path) else list(paths)
    return [file for path in several for file in files_of(path)]


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # one of them is not there
        return False


def _is_there(path: Path) -> bool:
    """Whether a name is in use, be it by a link that leads nowhere.

    Raises:
        InputError: no file can have that name.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise InputError(
            f"No file can be named {quoted_name(path)} there: {_reason(error)}. Choose another name."
        ) from error
    return True


def _key(path: Path) -> str:
    """The same for names that are one file on some system: case and the ways to write an accent do not count."""
    return unicodedata.normalize("NFC", os.path.realpath(path.parent / "_")[:-1] + path.name).casefold()


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or "the name is not valid"
