"""What a model's files may not ask for: code that is not installed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.loaders.kind import Source

BUILT_IN = (None, "eager", "sdpa", "flex_attention")
"""Ways of attention that are part of torch and transformers; others are packages, or code fetched from the hub."""


def check_configs(source: Source, *, of_all_folders: bool = False) -> None:
    """Refuse a component whose configs ask for code from elsewhere, before any library reads them.

    Args:
        source: what it is read from; a single file has no config.
        of_all_folders: whether those below its folder are read too.

    Raises:
        ModelUnavailableError: one does; names the file and the line.
    """
    folder = source.root / source.spec.folder
    for path in sorted((folder.rglob if of_all_folders else folder.glob)("*config.json")):
        config: Any = None
        with suppress(OSError, ValueError):  # whoever loads the component says what is wrong with it
            config = json.loads(path.read_text("utf-8"))
        for name, value in _asked(config):
            raise ModelUnavailableError(
                f"The model '{source.spec.place}' asks for code that is not installed here: '{name}' is "
                f"{json.dumps(value):.80} in {path.relative_to(source.root)}. Such code is never run. Choose another "
                "model, or take that line out of the file if the model does without."
            )


def _asked(config: Any) -> Iterator[tuple[str, Any]]:
    """The entries of a config, and of those within it, that make a library run code from elsewhere."""
    entries = config.items() if isinstance(config, dict) else ()
    for name, value in entries:
        if name == "auto_map" or (name.endswith("attn_implementation") and not _are_built_in(value)):
            yield name, value
        else:
            yield from _asked(value)


def _are_built_in(value: Any) -> bool:
    """Whether a way of attention, or that of each part of a model, is."""
    return all(each in BUILT_IN for each in (value.values() if isinstance(value, dict) else [value]))
