"""CogVideoX: a transformer that reads frames before channels and words among the places, and its autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bivdiff.models.architectures import COGVIDEOX_2B, COGVIDEOX_VAE, Architecture
from bivdiff.models.loaders.kind import Footprint, Kind, diffusers_loader, is_a, is_of_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def _call(network: Any, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
    frames_first = latents.transpose(1, 2)
    predicted: Tensor = network(
        frames_first, prompt_embeds, timestep.expand(len(latents)),
        image_rotary_emb=_turns(network.config, frames_first.shape, latents.device),
    ).sample  # fmt: skip
    return predicted.transpose(1, 2)


def _turns(config: Any, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines of the places of latents `(B, T, C, h, w)`, each `(T*h/p*w/p, D)`.

    A picture of another shape lies in the middle of the one that the network was trained on. None where it has learned
    no turns, and adds its places itself.
    """
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    if not config.use_rotary_positional_embeddings:
        return None
    height, width, trained_height, trained_width = (
        side // config.patch_size for side in (*shape[-2:], config.sample_height, config.sample_width)
    )
    region = get_resize_crop_region_for_grid((height, width), trained_width, trained_height)
    turns: tuple[Tensor, Tensor] = get_3d_rotary_pos_embed(
        config.attention_head_dim, region, (height, width), shape[1], device=device
    )
    return turns


KINDS = {
    "cogvideox_transformer": Kind(
        title="video model", load=diffusers_loader("CogVideoXTransformer3DModel"),
        # CogVideoX 1.5 joins latents in time.
        check=is_of_text("CogVideoXTransformer3DModel", patch_size_t=None, ofs_embed_dim=None),
        architecture=Architecture("diffusers", "CogVideoXTransformer3DModel", COGVIDEOX_2B), in_every_step=True,
        wide=True, footprint=Footprint(2996, 49.5e6, 232.1), call=_call,
    ),
    "cogvideox_vae": Kind(
        title="autoencoder of clips", load=diffusers_loader("AutoencoderKLCogVideoX"),
        check=is_a("AutoencoderKLCogVideoX"),
        architecture=Architecture("diffusers", "AutoencoderKLCogVideoX", COGVIDEOX_VAE), codes="clips",
        footprint=Footprint(14855, 9010.7e6), encoding=Footprint(7284, 3962.6e6),
    ),
}  # fmt: skip
# From `benchmarks/footprint.py`: transformers at five and thirteen latents, autoencoders at three.
FOOTPRINTS: Mapping[str, Footprint] = {"cogvideox-5b/transformer": Footprint(10585, 83.5e6, 507.6)}
"""Of the larger one; the autoencoders are of one shape."""
