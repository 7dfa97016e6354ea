"""Where and with what this copy of the studio computes, read once from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path, user_data_path

from bivdiff.errors import InputError

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def user_folder(system: Path, earlier: str) -> Path:
    """Where this system keeps what programs store for their user.

    Args:
        system: where it says that it does. On Linux that is `earlier`, unless XDG_CACHE_HOME or XDG_DATA_HOME is set.
        earlier: the place in the user's home on every system in earlier versions, which stays in use if it is there.
    """
    place = Path.home() / earlier
    return place if place.is_dir() else system


CACHE = user_folder(user_cache_path("bivdiff", appauthor=False), ".cache/bivdiff")
DATA = user_folder(user_data_path("bivdiff", appauthor=False), ".local/share/bivdiff")


@dataclass(frozen=True)
class Settings:
    """Settings of the process. Each is read from the variable of its name, BIVDIFF_DEVICE and so on.

    Attributes:
        device: torch device name; "auto" takes CUDA, then Apple's MPS, then the CPU.
        dtype: of the models' weights: float16, bfloat16 or float32; "auto" goes by the device.
        offload: how models share the device: none, model, group or zerogpu; "auto" takes model on CUDA.
        device_memory, host_memory: budgets such as "8GB"; "auto" takes most of what is free at the start.
        tiling: decode pictures in tiles, which needs less memory and may show seams.
        fp8: keep the U-Nets' weights in eight bits, which halves their memory.
        compile: compile the U-Nets, which pays after many runs of one size.
        toybox_folder: the built-in family's weights.
        models_folder: real models as `owner/name` folders; one that is not there is asked of the model hub.
        families: names of the families that the page offers, between commas, the first as its front; "all" is all.
        cache_folder: what earlier runs made and later ones need not make again, see `store.StageStore`.
        cache_size: how much of it is kept, such as "2GB", which "auto" means too; 0 keeps nothing on the disk.
        catalog: a file that adds models of one's own, see `own_models.read_catalog`.
        history_folder: what was run, with its clips, see `runs.Runs`.
        history_size: how much of that is kept, such as "5GB".
        own_models: whether who uses the page may name models by path or repository, and pull and unload models: yes,
            no, or "auto", which means yes only for who sits at this machine.
        max_frames: of a clip made on the page.
        max_queue: runs that may wait in all; max_jobs: runs of one visitor that may wait or work.
        uploads_size: how much of what visitors send, and the page shows, lies on the disk for the day that it is kept,
            such as "20GB"; beyond it uploads are refused.
        max_minutes: what a run on the page is expected to take at most; 0 is no bound.
    """

    device: str = "auto"
    dtype: str = "auto"
    offload: str = "auto"
    device_memory: str = "auto"
    host_memory: str = "auto"
    tiling: bool = False
    fp8: bool = False
    compile: bool = False
    toybox_folder: Path = ASSETS / "toybox"
    models_folder: Path = CACHE / "models"
    families: str = "all"
    cache_folder: Path = CACHE / "stages"
    cache_size: str = "2GB"
    catalog: Path | None = None
    history_folder: Path = DATA
    history_size: str = "5GB"
    uploads_size: str = "20GB"
    own_models: str = "auto"
    max_frames: int = 64
    max_queue: int = 24
    max_jobs: int = 6
    max_minutes: int = 0

    @classmethod
    def from_env(cls) -> Settings:
        """Read the environment; what is not set there stays as it is.

        Raises:
            InputError: a switch is neither on nor off, or a number is none.
        """
        given = {
            item.name: text for item in fields(cls) if (text := os.environ.get(f"BIVDIFF_{item.name.upper()}"))
        }  # fmt: skip
        return cls(**{name: _read(name, text) for name, text in given.items()})


def _read(name: str, text: str) -> Any:
    if name.startswith("max_"):
        if not text.isdecimal():
            raise InputError(f"BIVDIFF_{name.upper()} is '{text}'. Set it to a whole number.")
        return int(text)
    if name in {"toybox_folder", "models_folder", "cache_folder", "catalog", "history_folder"}:
        return Path(text).expanduser()
    if name in {"tiling", "fp8", "compile"}:
        if text.lower() not in SWITCH:
            raise InputError(f"BIVDIFF_{name.upper()} is '{text}'. Set it to 1 or 0.")
        return SWITCH[text.lower()]
    return text
