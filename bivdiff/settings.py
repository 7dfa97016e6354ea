"""Where and with what this copy of the studio computes, read once from the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from annotated_types import Ge
from platformdirs import user_cache_path, user_data_path

from bivdiff.errors import InputError
from bivdiff.units import parse_bytes

if TYPE_CHECKING:
    from pydantic import ValidationError

ASSETS = Path(__file__).resolve().parent.parent / "assets"
Amount = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]

WRITTEN = {
    "device": ("auto|cpu|mps|cuda(:[0-9]+)?", "auto, cpu, cuda, cuda:0 or mps"),
    "dtype": ("auto|float16|bfloat16|float32", "auto, float16, bfloat16 or float32"),
    "offload": ("auto|none|model|group|zerogpu", "auto, none, model, group or zerogpu"),
    "own_models": ("yes|no|auto", "yes, no or auto"),
    "links": ("yes|no|auto", "yes, no or auto"),
}
"""What settings that are words may be, as a pattern and in a sentence."""

SIZES = ("device_memory", "host_memory", "cache_size", "history_size", "uploads_size")


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
        catalog: a file that adds models of one's own, see `catalog.own_catalog`.
        history_folder: what was run, with its clips, see `runs.Runs`.
        history_size: how much of that is kept, such as "5GB".
        own_models: whether who uses the page may name models by path or repository, and pull and unload models: yes,
            no, or "auto", which means yes only for who sits at this machine.
        links: whether who made a result may publish it at a link of its own: yes, no, or "auto", which means yes unless
            the page asks for a password.
        workers: how many runs the page makes at once, each on a card of its own: a number, or "ray" for all cards of a
            Ray cluster, see `workers.crew.parse_workers`.
        max_frames: of a clip made on the page; 0 is no bound. None is decided by who can reach the page: none for who
            sits at this machine, else 64.
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
    links: str = "auto"
    workers: str = "1"
    max_frames: Amount | None = None
    max_queue: Count = 24
    max_jobs: Count = 6
    max_minutes: Amount = 0

    @classmethod
    def from_env(cls) -> Settings:
        """Read the environment; what is not set there, or is empty, stays as it is.

        Raises:
            InputError: a variable does not hold what its setting is.
        """
        from pydantic import ValidationError

        try:
            found = _of_environment()
        except ValidationError as error:
            raise InputError(_refusal(error)) from None
        given: dict[str, Any] = {
            name: value.expanduser() if isinstance(value, Path) else value for name, value in found.items()
        }
        settings = cls(**given)
        _check_words(settings)
        return settings


def _of_environment() -> dict[str, Any]:
    """The settings that the environment has, each of the type that its field is annotated with."""
    from pydantic import create_model
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Variables(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="BIVDIFF_", env_ignore_empty=True)

    kinds = get_type_hints(Settings, include_extras=True)
    described: Any = {item.name: (kinds[item.name], item.default) for item in fields(Settings)}
    model = create_model("Environment", __base__=Variables, **described)
    return model().model_dump(exclude_unset=True)


def _check_words(settings: Settings) -> None:
    """Refuse words that no part of the studio reads, now and not when the first visitor's run comes to them.

    Raises:
        InputError: names the variable.
    """
    for name, (pattern, wanted) in WRITTEN.items():
        if re.fullmatch(pattern, value := getattr(settings, name)) is None:
            raise InputError(f"'{value}' is not a valid value for BIVDIFF_{name.upper()}. Set it to {wanted}.")
    for name in SIZES:
        if not _is_amount(value := getattr(settings, name)):
            raise InputError(
                f"'{value}' is not a valid value for BIVDIFF_{name.upper()}. Set it to an amount such as 8GB, or auto."
            )
    if not settings.toybox_folder.is_dir():
        raise InputError(
            f"'{settings.toybox_folder}' is not a valid value for BIVDIFF_TOYBOX_FOLDER: there is no such folder. "
            "Leave it out to use the weights that come with the studio."
        )


def _is_amount(text: str) -> bool:
    try:
        parse_bytes(text)
    except InputError:
        return False
    return True


def _refusal(error: ValidationError) -> str:
    """What is wrong with the first variable that cannot be read, and what to write there."""
    first = error.errors()[0]
    name = str(first["loc"][0]).upper().removeprefix("BIVDIFF_")
    least = f"a whole number from {first.get('ctx', {}).get('ge', 0)}"
    wanted = {"bool_parsing": "1 or 0", "int_parsing": "a whole number", "greater_than_equal": least}
    if first["type"] in wanted:
        return f"'{first['input']}' is not a valid value for BIVDIFF_{name}. Set it to {wanted[first['type']]}."
    return f"'{first['input']}' is not a valid value for BIVDIFF_{name}: {first['msg']}."
