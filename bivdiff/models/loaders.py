"""How each kind of component is read from the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from bivdiff.catalog.specs import ModelSpec
from bivdiff.errors import BIVDiffError, ModelUnavailableError
from bivdiff.models import personal
from bivdiff.models.architectures import architecture_of, build_empty
from bivdiff.models.hub import weights_of

UNREADABLE = (
    OSError, EOFError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, UnpicklingError,
    SafetensorError,
)  # fmt: skip
"""What the libraries raise for files that are damaged, or not what they are taken for."""


class Source(NamedTuple):
    """Where a component is read from: the root of its repository, or a single file; and the dtype of its weights.

    `base` is the loaded component of `spec.base`, if it has one. `additions` are the files of its LoRAs and textual
    inversions, by the names that `spec` has for them.
    """

    spec: ModelSpec
    root: Path
    dtype: torch.dtype
    base: Any = None
    additions: Mapping[str, Path] = MappingProxyType({})


Load = Callable[[Source], Any]


def load_component(source: Source) -> Any:
    """Load a component on the CPU, ready to infer.

    Raises:
        ModelUnavailableError: what the files hold is broken or of another architecture.
    """
    spec = source.spec
    try:
        component = LOADERS[spec.kind](source)
    except BIVDiffError:
        raise
    except UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ModelUnavailableError(
            f"The model '{spec.place}' could not be loaded as {spec.kind}: {reason} "
            f"The files in {source.root} are incomplete or of another architecture; fetch them again."
        ) from error
    return component.eval().requires_grad_(False) if isinstance(component, torch.nn.Module) else component


def _diffusers(class_name: str) -> Load:
    def load(source: Source) -> torch.nn.Module:
        import diffusers

        return _from_pretrained(getattr(diffusers, class_name), source, torch_dtype=source.dtype)

    return load


def _transformers(class_name: str, **options: Any) -> Load:
    def load(source: Source) -> torch.nn.Module:
        import transformers

        return _from_pretrained(getattr(transformers, class_name), source, dtype=source.dtype, **options)

    return load


def _from_pretrained(kind: Any, source: Source, **options: Any) -> torch.nn.Module:
    """A component in its library's layout; weights that are missing would be random, so they are refused."""
    spec, found = source.spec, weights_of(source.spec, source.root)
    model, report = kind.from_pretrained(
        source.root, subfolder=spec.folder, variant=found.variant, use_safetensors=found.use_safetensors,
        local_files_only=True, output_loading_info=True, **options,
    )  # fmt: skip
    if missing := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"{len(missing)} of its weights are missing or of another shape, such as {missing[0]}.")
    return model


def _or_single_file(load: Load, part: str) -> Load:
    """The same component from a folder, or from a checkpoint that holds all of Stable Diffusion in one file."""

    def load_either(source: Source) -> torch.nn.Module:
        if not source.root.is_file():
            return load(source)
        from bivdiff.models.single_file import read_part

        return read_part(source.root, part).to(source.dtype)

    return load_either


def _loras(source: Source) -> list[tuple[Path, float]]:
    return [(source.additions[name], scale) for name, scale in source.spec.loras]


def _embeddings(source: Source) -> list[Path]:
    return [source.additions[name] for name in source.spec.embeddings]


def _unet(source: Source) -> torch.nn.Module:
    plain = _or_single_file(_diffusers("UNet2DConditionModel"), "unet")(source)
    return personal.merge_loras(plain, "unet", _loras(source))


def _text_encoder(source: Source) -> torch.nn.Module:
    plain = _or_single_file(_transformers("CLIPTextModel"), "text_encoder")(source)
    merged = personal.merge_loras(plain, "text_encoder", _loras(source))
    return personal.widen_text_encoder(merged, _embeddings(source))


def _tokenizer(source: Source) -> Any:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(source.root, subfolder=source.spec.folder, local_files_only=True)
    return personal.widen_tokenizer(tokenizer, _embeddings(source))


def _scheduler(source: Source) -> Any:
    """A schedule the bridge can walk both ways: DDIM over the model's own noise levels.

    Inversion and denoising must meet the same timesteps, whatever sampler the model was released with: so spacing and
    offset are Stable Diffusion's.

    Raises:
        ValueError: the model is no diffusion model with noise levels of that kind.
    """
    from diffusers import DDIMScheduler

    spec = source.spec
    config = DDIMScheduler.load_config(source.root, subfolder=spec.folder, local_files_only=True)
    if "Flow" in config.get("_class_name", "") or config.get("beta_schedule") is None:
        raise ValueError(f"Its sampler is {config.get('_class_name')}, and DDIM cannot invert such a model.")
    walkable = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False,
                "thresholding": False}  # fmt: skip
    return DDIMScheduler.from_config({**config, **dict(spec.config), **walkable})


def _motion_unet(source: Source) -> torch.nn.Module:
    return between_layers(source.base, _diffusers("MotionAdapter")(source))


def between_layers(base: torch.nn.Module, adapter: torch.nn.Module) -> torch.nn.Module:
    """AnimateDiff's U-Net: the image model's layers, and motion modules between them.

    The image model's tensors are taken as they are, not copied: on the host both models share them.
    """
    from diffusers import UNetMotionModel

    with torch.device("meta"):
        unet = UNetMotionModel.from_unet2d(base, adapter, load_weights=False)
    unet.load_state_dict({**base.state_dict(), **adapter.state_dict()}, strict=True, assign=True)
    return unet


def _vidrd_unet(source: Source) -> torch.nn.Module:
    from bivdiff.models.vidrd import split_checkpoint

    return _filled(source, split_checkpoint(source.root / source.spec.file)[0])


def _vidrd_text_encoder(source: Source) -> torch.nn.Module:
    from bivdiff.models.vidrd import split_checkpoint

    return _filled(source, split_checkpoint(source.root / source.spec.file)[1])


def _filled(source: Source, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The network that the catalog knows the shape of, since its file holds weights alone."""
    network = build_empty(architecture_of(source.spec))
    network.load_state_dict(weights, strict=True, assign=True)
    return network.to(source.dtype)


def _in_float32(load: Load) -> Load:
    """The same component with all its digits, whatever the others have: scores differ in their third."""
    return lambda source: load(source._replace(dtype=torch.float32))


def _annotator(kind: str) -> Load:
    def load(source: Source) -> torch.nn.Module:
        from bivdiff.pixels.annotators import loading

        return loading.LOADERS[kind](source.root / source.spec.folder)

    return load


LOADERS: dict[str, Load] = {
    "vae": _or_single_file(_diffusers("AutoencoderKL"), "vae"),
    "unet": _unet,
    "text_encoder": _text_encoder,
    "tokenizer": _tokenizer,
    "scheduler": _scheduler,
    "controlnet": _diffusers("ControlNetModel"),
    "t2i_adapter": _diffusers("T2IAdapter"),
    "video_unet": _diffusers("UNet3DConditionModel"),
    "motion_unet": _motion_unet,
    "vidrd_unet": _vidrd_unet,
    "vidrd_text_encoder": _vidrd_text_encoder,
    "depth_estimator": _transformers("DepthAnythingForDepthEstimation"),
    "clip": _in_float32(_transformers("CLIPModel")),
    "dino": _in_float32(_transformers("ViTModel", add_pooling_layer=False)),
    **{kind: _annotator(kind) for kind in ("body_pose", "hed", "lineart", "normalbae", "pidinet")},
}
