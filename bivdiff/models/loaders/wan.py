"""Wan: a transformer over latents that are compressed in time, and their autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bivdiff.models.architectures import WAN_1_3B, WAN_VAE, Architecture
from bivdiff.models.loaders.kind import Footprint, Kind, diffusers_loader, is_a, is_of_text

if TYPE_CHECKING:
    from torch import Tensor


def _call(network: Any, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
    predicted: Tensor = network(latents, timestep.expand(len(latents)), prompt_embeds).sample
    return predicted


KINDS = {
    "wan_transformer": Kind(
        title="video model", load=diffusers_loader("WanTransformer3DModel"), check=is_of_text("WanTransformer3DModel"),
        architecture=Architecture("diffusers", "WanTransformer3DModel", WAN_1_3B), in_every_step=True, wide=True,
        footprint=Footprint(2689, 49.6e6, 193.3), call=_call,
    ),
    "wan_vae": Kind(
        title="autoencoder of clips", load=diffusers_loader("AutoencoderKLWan"), check=is_a("AutoencoderKLWan"),
        architecture=Architecture("diffusers", "AutoencoderKLWan", WAN_VAE), codes="clips", precise=True,
        footprint=Footprint(6868, 2860.6e6), encoding=Footprint(4105, 1949.0e6),
    ),
}  # fmt: skip

# From `benchmarks/footprint.py`: transformers at five latents, autoencoders at three, where all of it lives at once.
FOOTPRINTS: Mapping[str, Footprint] = {
    "wan2.1-14b/transformer": Footprint(25351, 118.5e6, 859.0),
    "wan2.2-5b/transformer": Footprint(2392, 21.6e6, 24.2),
    "wan2.2-5b/vae": Footprint(14853, 2835.3e6),
}
"""Of entries of another size than the smallest Wan, by key."""
ENCODINGS: Mapping[str, Footprint] = {"wan2.2-5b/vae": Footprint(2849, 995.4e6)}
