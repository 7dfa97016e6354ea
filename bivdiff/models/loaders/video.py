"""Video models: ModelScope's shape, motion modules in an image model, VidRD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bivdiff.models.architectures import (
    CLIP_VIT_H,
    MODELSCOPE_UNET,
    MOTION_ADAPTER,
    VIDRD_TEXT_PREFIX,
    VIDRD_UNET,
    VIDRD_UNET_PREFIX,
    Architecture,
    build_empty,
)
from bivdiff.models.loaders.kind import Footprint, Kind, Source, diffusers_loader, or_single_file

if TYPE_CHECKING:
    from torch import Tensor, nn

_VIDRD_UNET = Architecture("bivdiff.models.vidrd", "VidRDUNet", VIDRD_UNET)
_VIDRD_TEXT_ENCODER = Architecture("transformers", "CLIPTextModel", CLIP_VIT_H)


def _motion_unet(source: Source) -> nn.Module:
    return between_layers(source.base, or_single_file(diffusers_loader("MotionAdapter"))(source))


def between_layers(base: Any, adapter: nn.Module) -> nn.Module:
    """AnimateDiff's U-Net: the image model's layers, and motion modules between them.

    The image model's tensors are taken as they are, not copied: on the host both models share them.
    """
    import torch
    from diffusers import UNetMotionModel

    with torch.device("meta"):
        unet: nn.Module = UNetMotionModel.from_unet2d(base, adapter, load_weights=False)
    unet.load_state_dict({**base.state_dict(), **adapter.state_dict()}, strict=True, assign=True)
    return unet


def _vidrd_unet(source: Source) -> nn.Module:
    from bivdiff.models.vidrd import split_checkpoint

    return _filled(source, _VIDRD_UNET, split_checkpoint(source.root / source.spec.file)[0])


def _vidrd_text_encoder(source: Source) -> nn.Module:
    from bivdiff.models.vidrd import split_checkpoint

    return _filled(source, _VIDRD_TEXT_ENCODER, split_checkpoint(source.root / source.spec.file)[1])


def _filled(source: Source, architecture: Architecture, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network of a known shape, since its file holds weights alone."""
    network = build_empty(architecture)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.to(source.dtype)


def _on_clip(unet: Any, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
    predicted: Tensor = unet(latents, timestep, prompt_embeds).sample
    return predicted


def _with_motion(unet: Any, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
    """AnimateDiff's layers are the image model's, so every frame brings its own copy of the prompt."""
    return _on_clip(unet, latents, timestep, prompt_embeds.repeat_interleave(latents.shape[2], 0))


KINDS = {
    "video_unet": Kind(
        title="video model", load=diffusers_loader("UNet3DConditionModel"),
        architecture=Architecture("diffusers", "UNet3DConditionModel", MODELSCOPE_UNET), in_every_step=True,
        footprint=Footprint(1301, 86.7e6), call=_on_clip,
    ),
    "motion_unet": Kind(
        title="motion modules", load=_motion_unet, alone=True,
        architecture=Architecture("diffusers", "MotionAdapter", MOTION_ADAPTER), in_every_step=True,
        footprint=Footprint(1109, 68.2e6), call=_with_motion, sees_frames_by_base=True,
    ),
    "vidrd_unet": Kind(
        title="video model", load=_vidrd_unet, architecture=_VIDRD_UNET, prefix=VIDRD_UNET_PREFIX, in_every_step=True,
        footprint=Footprint(1024, 63.1e6), call=_on_clip,
    ),
    "vidrd_text_encoder": Kind(
        title="text encoder", load=_vidrd_text_encoder, architecture=_VIDRD_TEXT_ENCODER, prefix=VIDRD_TEXT_PREFIX,
    ),
}  # fmt: skip
