"""Whole pipelines of diffusers, as they lie in a folder: what makes or edits one picture, whatever is inside."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.loaders.kind import Footprint, Kind, Source, diffusers_loader

if TYPE_CHECKING:
    from torch import nn

    from bivdiff.catalog.specs import ModelSpec

INDEX = "model_index.json"
"""The file in which a pipeline names its class and its components."""
Use = Literal["edit", "fill", "control"]
_READS: Mapping[Use, tuple[str, ...]] = {
    "edit": ("prompt", "image"), "fill": ("prompt", "image", "mask_image"), "control": ("prompt",),
}  # fmt: skip
"""What a pipeline must be able to be given for a use; that it reads a control map, has no one name."""
_DOES: Mapping[Use, str] = {
    "edit": "changes a picture by a prompt", "fill": "fills a picture's holes by a prompt",
    "control": "makes a picture of a control map by a prompt",
}  # fmt: skip
_ENDINGS = ("Img2ImgPipeline", "InpaintPipeline", "Pipeline")


def class_of(index: Path, use: Use, with_controlnet: bool = False) -> Any:
    """The class of diffusers that is to be loaded for a use: the one named, or its sibling for that use.

    Args:
        index: the pipeline's `INDEX`.
        use: what it is to do.
        with_controlnet: whether it is put together with a ControlNet that its folder does not hold.

    Raises:
        ModelUnavailableError: the index cannot be read, names code of its own or no class of diffusers, or nothing of
            its kind can be used so. Says so before any weight is read.
    """
    import diffusers

    try:
        parts = json.loads(index.read_text("utf-8"))
        named = parts["_class_name"]
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
    usable = next((each for each in (found, _sibling(named, use)) if each is not None and _can(each, use)), None)
    if usable is None:
        reads = "control_image, or an image and controlnet_conditioning_scale" if use == "control" else ""
        raise ModelUnavailableError(
            f"'{named}' is no pipeline that {_DOES[use]}, and diffusers has no sibling of it that is. Choose one that "
            f"takes {reads or ', '.join(_READS[use])}."
        )
    if use == "control":
        _check_controlnet(usable, has_own="controlnet" in parts, is_named=with_controlnet)
    return usable


def _sibling(named: str, use: Use) -> Any:
    """The class of diffusers that does with the same networks what is wanted, by diffusers' own tables and names."""
    import diffusers
    from diffusers.pipelines import auto_pipeline

    if use == "control":
        stem = next((named.removesuffix(ending) for ending in _ENDINGS if named.endswith(ending)), "")
        return getattr(diffusers, f"{stem}ControlNetPipeline", None) if stem else None
    siblings = {
        "edit": auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, "fill": auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    }  # fmt: skip
    return auto_pipeline._get_task_class(siblings[use], named, throw_error_if_not_exist=False)


def _check_controlnet(pipeline_class: Any, has_own: bool, is_named: bool) -> None:
    """Refuse a pipeline that lacks the ControlNet that it needs, and a ControlNet that it would not read."""
    name, needs = pipeline_class.__name__, "controlnet" in inspect.signature(pipeline_class.__init__).parameters
    if needs and not (has_own or is_named):
        raise ModelUnavailableError(
            f"As a {name} the pipeline needs a ControlNet, and its folder holds none. Name one that was made for it in "
            "pipeline_controlnet."
        )
    if is_named and not needs:
        raise ModelUnavailableError(
            f"A {name} reads control maps by itself, and no ControlNet. Clear pipeline_controlnet."
        )


def check_index(index: Path, spec: ModelSpec) -> None:
    """Refuse a pipeline that cannot be used, as `class_of`, from its index alone."""
    class_of(index, _USES[spec.kind], spec.base is not None)


def check_controlnet(config: Mapping[str, Any]) -> None:
    """Refuse the config of what is no ControlNet that a pipeline of diffusers may have."""
    import diffusers

    named = str(config.get("_class_name"))
    if not named.endswith("ControlNetModel") or not inspect.isclass(getattr(diffusers, named, None)):
        raise ValueError(
            f"Its config says that it is a {named}, and a ControlNet of diffusers for one kind of map is needed, such "
            "as a ControlNetModel."
        )
    if config.get("num_mode"):
        raise ValueError("It is for several kinds of maps (num_mode), and one for one kind is needed.")


def parameters_of(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """What a pipeline, or its class, can be given when it is called."""
    called = pipeline.__call__ if inspect.isclass(pipeline) else type(pipeline).__call__
    return inspect.signature(called).parameters


def shows_maps_as(takes: Mapping[str, inspect.Parameter]) -> str:
    """The name by which a pipeline is given a control map; empty where it reads none, or wants a frame beside it."""
    if "control_image" in takes:
        return "" if "image" in takes else "control_image"
    return "image" if {"image", "controlnet_conditioning_scale"} <= takes.keys() else ""


def _can(pipeline: Any, use: Use) -> bool:
    parameters = parameters_of(pipeline)
    if use == "control" and not shows_maps_as(parameters):
        return False
    reads = {*_READS[use], "num_inference_steps", "generator"}
    given = {*reads, "self", "kwargs", "args"}
    needed = {name for name, each in parameters.items() if each.default is inspect.Parameter.empty}
    of_steps = "callback_on_step_end" in parameters or "callback" in parameters
    masked = use != "fill" and "mask_image" in parameters  # it would want a mask of an edit
    return reads <= parameters.keys() and needed <= given and of_steps and not masked


def _load(source: Source, use: Use) -> nn.Module:
    from bivdiff.models.whole_pipeline import WholePipeline

    pipeline_class = class_of(source.root / source.spec.folder / INDEX, use, source.base is not None)
    others = {}
    if source.base is not None:
        _check_fit(source, pipeline_class)
        others["controlnet"] = source.base
    pipeline = pipeline_class.from_pretrained(
        source.root / source.spec.folder, local_files_only=True, torch_dtype=source.dtype, **others,
        **source.weights._asdict(),
    )  # fmt: skip
    return WholePipeline(pipeline)


def _check_fit(source: Source, pipeline_class: Any) -> None:
    """Refuse a ControlNet that is of no class that the pipeline takes, or reads words of another width than it has."""
    taken = str(inspect.signature(pipeline_class.__init__).parameters["controlnet"].annotation)
    name, width = type(source.base).__name__, source.base.config.get("cross_attention_dim")
    if re.search(rf"\b{name}\b", taken) is None:
        raise ModelUnavailableError(
            f"A {pipeline_class.__name__} takes no {name}. Name a ControlNet that was made for it in "
            "pipeline_controlnet."
        )
    try:
        unet = json.loads((source.root / source.spec.folder / "unet" / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return  # it has none; or whoever loads it says what is wrong
    if width and unet.get("cross_attention_dim", width) != width:
        raise ModelUnavailableError(
            f"The ControlNet reads words of {width} numbers, and the pipeline's have {unet['cross_attention_dim']}: it "
            "was made for another model. Name one that was made for this pipeline in pipeline_controlnet."
        )


def _load_controlnet(source: Source) -> nn.Module:
    config = json.loads((source.root / source.spec.folder / "config.json").read_text("utf-8"))
    return cast("nn.Module", diffusers_loader(config["_class_name"])(source))


_USES: Mapping[str, Use] = {f"{use}_pipeline": use for use in _READS}
_OF_SDXL = Footprint(1589, 41.3e6)  # its U-Net: what is inside another is not known before it is there
_STEERED_SDXL = Footprint(2301, 56.4e6)  # with its ControlNet

KINDS = {
    kind: Kind(
        title=f"pipeline that {_DOES[use]}",
        load=partial(_load, use=use),
        holds="pipeline",
        wide=True,
        footprint=_STEERED_SDXL if use == "control" else _OF_SDXL,
    )
    for kind, use in _USES.items()
}
KINDS["pipeline_controlnet"] = Kind(
    title="ControlNet of a pipeline", load=_load_controlnet, check=check_controlnet, wide=True
)
