"""LTX-Video: a transformer over places of a clip, each told where and when it is, and an autoencoder that denoises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bivdiff.models.architectures import LTX_2B, LTX_VAE, Architecture
from bivdiff.models.loaders.kind import Footprint, Kind, diffusers_loader, is_a, is_of_text

if TYPE_CHECKING:
    from torch import Tensor

    from bivdiff.models.words import Words

FRAMES_A_SECOND = 25  # as the pipelines of diffusers tell it, unless they are told otherwise
SIDE, GROUP = 32, 8  # pixels and frames of a latent


def _call(network: Any, latents: Tensor, timestep: Tensor, words: Words) -> Tensor:
    places = latents.flatten(2).transpose(1, 2)
    predicted: Tensor = network(
        places, words.states, timestep.expand(len(latents)), words.mask, num_frames=latents.shape[2],
        video_coords=_coordinates(latents),
    ).sample  # fmt: skip
    return predicted.transpose(1, 2).unflatten(2, latents.shape[2:])


def _coordinates(latents: Tensor) -> Tensor:
    """Seconds, and pixels down and across, at which each place of latents begins: `(B, 3, T*h*w)`.

    The first latent is one frame, and so begins all of its group later than its number says.
    """
    import torch

    counts = (torch.arange(count, device=latents.device, dtype=torch.float32) for count in latents.shape[2:])
    number, down, across = torch.meshgrid(*counts, indexing="ij")
    seconds = (number * GROUP + 1 - GROUP).clamp(min=0) / FRAMES_A_SECOND
    return torch.stack([seconds, down * SIDE, across * SIDE]).flatten(1).expand(len(latents), -1, -1)


# Footprints by `benchmarks/footprint.py`: of the transformer at five and thirteen latents, the autoencoder at three.
KINDS = {
    "ltx_transformer": Kind(
        title="video model", load=diffusers_loader("LTXVideoTransformer3DModel"),
        check=is_of_text("LTXVideoTransformer3DModel", patch_size=1, patch_size_t=1),
        architecture=Architecture("diffusers", "LTXVideoTransformer3DModel", LTX_2B), in_every_step=True, wide=True,
        footprint=Footprint(892, 17.0e6, 13.1), call=_call,
    ),
    "ltx_vae": Kind(
        title="autoencoder of clips", load=diffusers_loader("AutoencoderKLLTXVideo"),
        check=is_a("AutoencoderKLLTXVideo", spatial_compression_ratio=SIDE, temporal_compression_ratio=GROUP),
        architecture=Architecture("diffusers", "AutoencoderKLLTXVideo", LTX_VAE), codes="clips", holds_clip=True,
        footprint=Footprint(2004, 148.9e6), encoding=Footprint(4588, 166.4e6),
    ),
}  # fmt: skip
