"""What earlier runs made, kept on the disk: the next process starts from there.

A file bears its key as its name and is never changed, only replaced as a whole, so that any number of processes may
read and write one folder. When the folder grows over its bound, what was used least recently leaves.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from bivdiff.bridge.reuse import StageCache
from bivdiff.settings import Settings
from bivdiff.units import parse_bytes

ENDING = ".stage"
UNFINISHED = ".part"
ABANDONED_SECONDS = 3600.0  # after which an unfinished file has no writer any more
DEFAULT_BYTES = 2 * 10**9
_DIGEST = hashlib.sha256().digest_size


class StageStore(StageCache):
    """Keeps outputs of stages in a folder, and the last of them in memory too.

    A folder that cannot be read or written costs reuse and nothing else: no run fails for it.

    Args:
        settings: name the folder and its bound.
        entries: outputs kept in memory.
    """

    def __init__(self, settings: Settings, entries: int = 12) -> None:
        super().__init__(entries)
        self._folder = settings.cache_folder
        bound = parse_bytes(settings.cache_size)
        self._bound = DEFAULT_BYTES if bound is None else bound

    def get(self, key: str) -> Any | None:
        """The output kept under a key, or None; what is damaged counts as not there, and is removed."""
        output = super().get(key)
        if output is None:
            output = self._read(key)
            if output is not None:
                super().put(key, output)
        return output

    def put(self, key: str, output: Any) -> None:
        """Keep an output, frames `(F, H, W, 3)` or latents; whoever reads it must not change it."""
        super().put(key, output)
        with suppress(OSError):
            self._write(key, output)
            self._trim()

    def _read(self, key: str) -> Any | None:
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, stored = content[:_DIGEST], content[_DIGEST:]
        whole = hashlib.sha256(stored).digest() == digest
        with suppress(OSError):
            # Its date tells when it was used last.
            os.utime(path) if whole else path.unlink(missing_ok=True)
        return _unpacked(stored) if whole else None

    def _write(self, key: str, output: Any) -> None:
        stored = _packed(output)
        if len(stored) + _DIGEST > self._bound:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f"{uuid.uuid4().hex}{UNFINISHED}"
        try:
            with unfinished.open("wb") as file:
                file.write(hashlib.sha256(stored).digest())
                file.write(stored)
            unfinished.replace(self._path(key))
        finally:
            unfinished.unlink(missing_ok=True)

    def _trim(self) -> None:
        """Remove what was used least recently, until the folder is within its bound, and what writers left behind."""
        files = sorted(_sizes(self._folder, ENDING), key=lambda found: found[1])
        total = sum(size for _, _, size in files)
        for path, _, size in files:
            if total <= self._bound:
                break
            path.unlink(missing_ok=True)
            total -= size
        for path, written, _ in _sizes(self._folder, UNFINISHED):
            if time.time() - written > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{ENDING}"


def _sizes(folder: Path, ending: str) -> Iterator[tuple[Path, float, int]]:
    """Path, date and bytes of the files with an ending; other processes may be removing them."""
    for path in folder.glob(f"*{ending}"):
        with suppress(FileNotFoundError):
            stat = path.stat()
            yield path, stat.st_mtime, stat.st_size


def _packed(output: np.ndarray | Tensor) -> bytes:
    if isinstance(output, np.ndarray):
        return safetensors.torch.save({"frames": torch.from_numpy(np.ascontiguousarray(output))})
    return safetensors.torch.save({"latents": output.detach().cpu().contiguous()})


def _unpacked(stored: bytes) -> np.ndarray | Tensor:
    ((kind, tensor),) = safetensors.torch.load(stored).items()
    return tensor.numpy() if kind == "frames" else tensor
