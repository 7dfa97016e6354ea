"""Whole pipelines of diffusers, as they lie in a folder: what makes or edits one picture, whatever is inside."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.loaders.kind import Footprint, Kind, Source

if TYPE_CHECKING:
    from torch import nn

INDEX = "model_index.json"
"""The file in which a pipeline names its class and its components."""
Use = Literal["edit", "fill"]
_READS: Mapping[Use, tuple[str, ...]] = {"edit": ("prompt", "image"), "fill": ("prompt", "image", "mask_image")}
"""What a pipeline must be able to be given for a use."""
_DOES: Mapping[Use, str] = {"edit": "changes a picture by a prompt", "fill": "fills a picture's holes by a prompt"}


def class_of(index: Path, use: Use) -> Any:
    """The class of diffusers that is to be loaded for a use: the one named, or its sibling for that use.

    Args:
        index: the pipeline's `INDEX`.
        use: what it is to do.

    Raises:
        ModelUnavailableError: the index cannot be read, names code of its own or no class of diffusers, or nothing of
            its kind can be used so. Says so before any weight is read.
    """
    import diffusers
    from diffusers.pipelines import auto_pipeline

    try:
        named = json.loads(index.read_text("utf-8"))["_class_name"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelUnavailableError(f"'{index}' names no pipeline: {error!r:.80}. Fetch it again.") from error
    if not isinstance(named, str):
        raise ModelUnavailableError(
            f"The pipeline in '{index.parent.name}' brings code of its own ({named!r:.60}), which is never run here. "
            "Choose one whose class is of diffusers."
        )
    found = getattr(diffusers, named, None)
    if not (inspect.isclass(found) and issubclass(found, diffusers.DiffusionPipeline)):
        raise ModelUnavailableError(
            f"The installed diffusers {diffusers.__version__} has no pipeline '{named}'. Update it, or choose another."
        )
    siblings = {
        "edit": auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, "fill": auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    }  # fmt: skip
    for candidate in (found, auto_pipeline._get_task_class(siblings[use], named, throw_error_if_not_exist=False)):
        if candidate is not None and _can(candidate, use):
            return candidate
    raise ModelUnavailableError(
        f"'{named}' is no pipeline that {_DOES[use]}, and diffusers has no sibling of it that is. Choose one that "
        f"takes {', '.join(_READS[use])}."
    )


def check_index(index: Path, kind: str) -> None:
    """Refuse a pipeline of a kind that cannot be used, as `class_of`, from its index alone."""
    class_of(index, _USES[kind])


def parameters_of(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """What a pipeline, or its class, can be given when it is called."""
    called = pipeline.__call__ if inspect.isclass(pipeline) else type(pipeline).__call__
    return inspect.signature(called).parameters


def _can(pipeline: Any, use: Use) -> bool:
    parameters = parameters_of(pipeline)
    reads = {*_READS[use], "num_inference_steps", "generator"}
    given = {*reads, "self", "kwargs", "args"}
    needed = {name for name, each in parameters.items() if each.default is inspect.Parameter.empty}
    of_steps = "callback_on_step_end" in parameters or "callback" in parameters
    masked = use == "edit" and "mask_image" in parameters  # it would want a mask of an edit
    return reads <= parameters.keys() and needed <= given and of_steps and not masked


def _load(source: Source, use: Use) -> nn.Module:
    from bivdiff.models.whole_pipeline import WholePipeline

    pipeline_class = class_of(source.root / source.spec.folder / INDEX, use)
    pipeline = pipeline_class.from_pretrained(
        source.root / source.spec.folder, local_files_only=True, torch_dtype=source.dtype, **source.weights._asdict()
    )
    return WholePipeline(pipeline)


_USES: Mapping[str, Use] = {f"{use}_pipeline": use for use in _READS}
_FOOTPRINT = Footprint(1589, 41.3e6)  # of SDXL's U-Net: what is inside another is not known before it is there

KINDS = {
    kind: Kind(
        title=f"pipeline that {_DOES[use]}",
        load=partial(_load, use=use),
        holds="pipeline",
        wide=True,
        footprint=_FOOTPRINT,
    )
    for kind, use in _USES.items()
}
