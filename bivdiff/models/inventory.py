"""Which models there are, where each is at the moment, and whether its files are whole."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import FAMILIES, family_named
from bivdiff.catalog.requests import blank_request
from bivdiff.catalog.scoring import SCORING
from bivdiff.catalog.specs import TOYBOX_REPO, ModelSpec, with_bases
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.models import hub
from bivdiff.models.loaders import KINDS, load_component
from bivdiff.settings import Settings

if TYPE_CHECKING:
    from bivdiff.models.manager import ModelManager

SCORING_NAME = "scoring"
"""Stands in the place of a family for what clips of any family are scored with."""
IN_MEMORY = ("in memory", "on device")
SIMILAR = 0.75
LONGEST_HEADER = 100 * 2**20
"""Bytes; safetensors' own bound."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A component as lists show it.

    Attributes:
        key: its name, which no other has.
        kind: in words.
        place: repository and folder or file, or where among the app's own files.
        state: "absent", "on disk", "in memory" or "on device".
        bytes: of its files if they are here, else the catalog's; 0 where nobody knows.
        licence: as its model card has it.
        size, num_frames: what it was trained at, where that matters.
        checked: what of the catalog's entry was looked up, and what was not.
        families: those it belongs to.
        on_hub: whether it can be pulled.
        spec: what it is loaded by.
    """

    key: str
    kind: str
    place: str
    state: str
    bytes: int
    licence: str
    size: tuple[int, int] | None
    num_frames: int | None
    checked: str
    families: tuple[str, ...]
    on_hub: bool
    spec: ModelSpec

    @property
    def non_commercial(self) -> bool:
        """Whether its licence forbids to earn money with it."""
        return "-nc" in self.licence.lower()

    @property
    def native(self) -> str:
        """Size and frames it was trained at, in words; empty where neither matters."""
        size = f"{self.size[0]} x {self.size[1]}" if self.size else ""
        return ", ".join(part for part in (size, f"{self.num_frames} frames" if self.num_frames else "") if part)


def named_specs() -> dict[str, ModelSpec]:
    """Every component of the catalog by its name.

    A family that was derived from another keeps the keys of what it replaces; those bear its own name instead.
    """
    found: dict[str, ModelSpec] = {}
    for family_name, family in FAMILIES.items():
        for spec in family.components:
            known = found.setdefault(spec.key, spec)
            if known != spec:
                found[f"{family_name}/{spec.key.partition('/')[2]}"] = spec
    return found | {spec.key: spec for spec in SCORING.values()}


def inventory(manager: ModelManager | None, settings: Settings, family: str | None = None) -> list[Entry]:
    """Every component of the catalog, or of one family, once.

    Args:
        manager: knows what is in memory; None where nothing can be.
        settings: say where files may lie.
        family: key of the catalog's families; None is all of them.

    Raises:
        InputError: there is no such family.
    """
    if family is not None:
        family_named(family)
    families: dict[ModelSpec, list[str]] = {}
    for name, each in FAMILIES.items():
        for spec in each.components:
            families.setdefault(spec, []).append(name)
    families |= {spec: [SCORING_NAME] for spec in SCORING.values()}
    keys = {spec: key for key, spec in reversed(named_specs().items())}
    return [
        _entry(keys[spec], spec, tuple(names), manager, settings)
        for spec, names in families.items()
        if family is None or family in names
    ]


def _entry(
    key: str, spec: ModelSpec, families: tuple[str, ...], manager: ModelManager | None, settings: Settings
) -> Entry:
    root = hub.find(spec, settings)
    state = manager.state(spec) if manager else "absent" if root is None else "on disk"
    place = spec.place if spec.repo != TOYBOX_REPO else f"with the app: {spec.place}"
    return Entry(
        key=key, kind=KINDS[spec.kind].title, place=place, state=state,
        bytes=hub.bytes_on_disk(spec, root) if root else spec.bytes, licence=spec.licence, size=spec.size,
        num_frames=spec.num_frames, checked=spec.checked, families=families,
        on_hub=spec.on_hub and spec.repo != TOYBOX_REPO, spec=spec,
    )  # fmt: skip


def find_specs(name: str) -> tuple[ModelSpec, ...]:
    """The components that a name stands for.

    Args:
        name: a component's key, as "sd15/controlnet-canny"; a family, "sd15", for all of it; a family and a task,
            "sd15/control", for what the task needs with its defaults: a first run; a video model, "sd15/zeroscope",
            for all that it runs with; or "scoring", for what clips can be scored with.

    Raises:
        InputError: there is nothing of that name; the message lists similar ones.
    """
    family, _, part = name.partition("/")
    if family in FAMILIES and part in FAMILIES[family].video_models:
        components = FAMILIES[family].video_models[part].components
        return with_bases(components)
    named = named_specs()
    if name in named:
        return (named[name],)
    if name in FAMILIES:
        return FAMILIES[name].components
    if name == SCORING_NAME:
        return tuple(SCORING.values())
    if family in FAMILIES and part in TASKS:
        return _needed(family, part)
    known = [*named, *FAMILIES, SCORING_NAME, *(f"{family}/{task}" for family in FAMILIES for task in TASKS)]
    near = sorted((each for each in known if _likeness(name, each) > SIMILAR), key=lambda each: -_likeness(name, each))
    hint = f"Similar names: {', '.join(near[:5])}." if near else "`python -m bivdiff models list` lists all names."
    raise InputError(f"There is no model '{name}'. {hint}")


def find_spec(key: str) -> ModelSpec:
    """The one component of that key.

    Raises:
        InputError: there is none, or the name stands for several.
    """
    if key in (named := named_specs()):
        return named[key]
    specs = find_specs(key)
    if len(specs) > 1:
        raise InputError(f"'{key}' stands for {len(specs)} models. Name one of them, such as '{specs[0].key}'.")
    return specs[0]


def _likeness(name: str, known: str) -> float:
    """How much two names look alike; the last word counts, too, since it is what tells components apart."""

    def ratio(one: str, other: str) -> float:
        return SequenceMatcher(None, one.lower(), other.lower()).ratio()

    whole, last = ratio(name, known), ratio(*(re.split("[/-]", each)[-1] for each in (name, known)))
    return max(whole, last) + 0.1 * whole


def _needed(family_name: str, task: str) -> tuple[ModelSpec, ...]:
    """What a run of a task loads, with the family's and the task's defaults."""
    specs = components_of(blank_request(task, family_name)).every
    return tuple(dict.fromkeys([*specs, *(spec.base for spec in specs if spec.base)]))


# Files on the disk


def check(spec: ModelSpec, settings: Settings, *, thorough: bool = False) -> str | None:
    """What is wrong with a component's files on this machine, as a sentence; None if nothing is.

    Args:
        spec: the component.
        settings: say where its files may lie.
        thorough: also load it, on the CPU, which takes its time and its memory.
    """
    root = hub.find(spec, settings)
    if root is None:
        return f"The files of '{spec.key}' are not on this machine, or not all of them. Pull it first."
    for path in hub.files_of(spec, root):
        if wrong := _what_is_wrong(path):
            return f"The file {path} cannot be used: {wrong}. Delete it, and pull '{spec.key}' again."
    return _what_fails_to_load(spec, settings) if thorough else None


def _what_is_wrong(path: Path) -> str:
    checks = {".safetensors": _wrong_in_safetensors, ".json": _wrong_in_json, ".txt": _wrong_in_text}
    try:
        return checks.get(path.suffix, _wrong_in_pickle)(path)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


def _wrong_in_safetensors(path: Path) -> str:
    there = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, there - 8):
            return "it has no safetensors header, so it is cut off or something else"
        try:
            header = json.loads(file.read(length))
            wanted = (
                8 + length + max((each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"))
            )
        except (ValueError, TypeError, LookupError, AttributeError):
            return "its safetensors header cannot be read"
    if there < wanted:
        return f"it is cut off, with {there:,} of {wanted:,} bytes"
    return f"it has {there:,} bytes, and its header says {wanted:,}" if there > wanted else ""


def _wrong_in_json(path: Path) -> str:
    try:
        json.loads(path.read_text("utf-8"))
    except ValueError:
        return "it holds no JSON"
    return ""


def _wrong_in_text(path: Path) -> str:
    return "" if path.stat().st_size else "it is empty"


def _wrong_in_pickle(path: Path) -> str:
    import torch

    try:
        # Nothing but the table of contents is read of a file in today's format, and of one in yesterday's all of it.
        torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged pickle may raise anything
        reason = (str(error).strip() or type(error).__name__).split("\n")[0].split(". ")[0].rstrip(".")
        return f"it holds no weights that can be read safely ({reason})"
    return ""


def _what_fails_to_load(spec: ModelSpec, settings: Settings) -> str | None:
    try:
        _load(spec, settings)
    except BIVDiffError as error:
        return str(error)
    return None


def _load(spec: ModelSpec, settings: Settings) -> object:
    import torch

    from bivdiff.errors import ModelUnavailableError

    root = hub.find(spec, settings)
    if root is None:
        raise ModelUnavailableError(f"It needs '{spec.key}', whose files are not on this machine. Pull that first.")
    base = _load(spec.base, settings) if spec.base else None
    return load_component(hub.source_of(spec, root, settings, torch.float16, base))
