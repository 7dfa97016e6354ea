"""How many numbers the weights of a component are, before they are loaded: what memory is planned by.

A file may hold more than one component, and numbers of any width; so what counts is what its own table of contents says
of the component's part. Where there is no file, it is the catalog's bytes, or the published shape.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

from bivdiff.catalog.specs import WEIGHT_FILES, ModelSpec
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import hub
from bivdiff.models.architectures import build_empty
from bivdiff.models.loaders import KINDS, architecture_of
from bivdiff.models.single_file import prefix_of
from bivdiff.models.weight_files import contents_of


def numbers_of(spec: ModelSpec, root: Path | None) -> int:
    """The numbers in a component's own weights, those of its base not counted; 0 where nothing is known of it.

    Args:
        spec: the component.
        root: of its files, as `hub.find` gives it; None where they are not there.
    """
    if KINDS[spec.kind].holds not in {"weights", "pipeline"}:
        return 0
    files = hub.files_of(spec, root) if root else []
    weights = [path for path in files if path.suffix in WEIGHT_FILES]
    if not weights:
        return spec.bytes // spec.bytes_per_number or _published(spec)
    # A file of everything has each component's weights under names that begin alike.
    alone = KINDS[spec.kind].alone and root is not None and (root.is_file() or bool(spec.file))
    prefix = KINDS[spec.kind].prefix or (prefix_of(spec.kind) if alone else "")
    return sum(_in_file(path, prefix, path.stat().st_mtime_ns) for path in weights)


@lru_cache(maxsize=256)
def _in_file(path: Path, prefix: str, _date: int) -> int:
    """The numbers of all weights in a file whose names begin so; none of them is read.

    One that cannot be read counts as nothing: loading it says what is wrong with it.
    """
    try:
        shapes = contents_of(path).shapes
    except ModelUnavailableError:
        return 0
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))


@lru_cache(maxsize=64)
def _published(spec: ModelSpec) -> int:
    """The numbers of a network of the real shape; 0 where that is not known."""
    try:
        network = build_empty(architecture_of(spec))
    except InputError:
        return 0
    return sum(parameter.numel() for parameter in network.parameters())
