"""How each kind of component is read, from a folder in diffusers' layout or from a repository of the model hub.

In it: one loader per kind, and the sentence a user gets when one cannot be loaded.
Not in it: caching and placement (manager.py), which components there are (catalog.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bivdiff.catalog import ModelSpec
from bivdiff.errors import ModelUnavailableError

Load = Callable[[str, str, torch.dtype], Any]  # a folder or repository, a folder inside it, the dtype of the weights


def _diffusers(class_name: str) -> Load:
    def load(place: str, subfolder: str, dtype: torch.dtype) -> torch.nn.Module:
        import diffusers

        model = getattr(diffusers, class_name).from_pretrained(place, subfolder=subfolder, torch_dtype=dtype)
        return model.eval().requires_grad_(False)

    return load


def _transformers(class_name: str) -> Load:
    def load(place: str, subfolder: str, dtype: torch.dtype) -> torch.nn.Module:
        import transformers

        model = getattr(transformers, class_name).from_pretrained(place, subfolder=subfolder, dtype=dtype)
        return model.eval().requires_grad_(False)

    return load


def _tokenizer(place: str, subfolder: str, _: torch.dtype) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(place, subfolder=subfolder)


def _scheduler(place: str, subfolder: str, _: torch.dtype) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_pretrained(place, subfolder=subfolder)


def _annotator(kind: str) -> Load:
    def load(place: str, subfolder: str, _: torch.dtype) -> torch.nn.Module:
        from huggingface_hub import hf_hub_download

        from bivdiff.annotators import loading

        folder = Path(place)
        if not folder.is_dir():
            folder = Path(hf_hub_download(place, loading.FILES[kind])).parent
        return loading.LOADERS[kind](folder / subfolder)

    return load


LOADERS: dict[str, Load] = {
    "vae": _diffusers("AutoencoderKL"),
    "unet": _diffusers("UNet2DConditionModel"),
    "video_unet": _diffusers("UNet3DConditionModel"),
    "controlnet": _diffusers("ControlNetModel"),
    "t2i_adapter": _diffusers("T2IAdapter"),
    "text_encoder": _transformers("CLIPTextModel"),
    "depth_estimator": _transformers("DepthAnythingForDepthEstimation"),
    **{kind: _annotator(kind) for kind in ("body_pose", "hed", "lineart", "normalbae", "pidinet")},
    "tokenizer": _tokenizer,
    "scheduler": _scheduler,
}


def load_component(spec: ModelSpec, folder: Path, dtype: torch.dtype) -> Any:
    """Load a component on the CPU.

    Args:
        spec: which one.
        folder: where the files of its family or repository lie; a repository that is not there is asked of the hub,
            or found in the hub library's own cache.
        dtype: of the weights.

    Raises:
        ModelUnavailableError: the files are missing, or what they hold is broken or of another architecture.
    """
    name = f"{spec.repo}/{spec.folder}".strip("/")
    if not spec.repo and not (folder / spec.folder).is_dir():
        raise ModelUnavailableError(
            f"The toybox's model '{spec.folder}' is not among the app's files. Choose another image model, or fetch "
            "the app's assets folder again; assets/toybox/README.md lists what it holds."
        )
    place = spec.repo if spec.repo and not folder.is_dir() else str(folder)
    try:
        return LOADERS[spec.kind](place, spec.folder, dtype)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        remedy = "The files are incomplete or of another architecture; fetch them again."
        if place == spec.repo:
            remedy = (
                "Check the connection, or put the repository's files into the folder that BIVDIFF_MODELS_FOLDER names, "
                f"as {spec.repo}."
            )
        raise ModelUnavailableError(
            f"The model '{name}' could not be loaded as {spec.kind}: {reason} {remedy}"
        ) from error
