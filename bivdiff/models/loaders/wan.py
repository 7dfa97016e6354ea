"""Wan: a transformer over latents that are compressed in time, and their autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bivdiff.models.architectures import WAN_1_3B, WAN_14B, WAN_VAE, Architecture
from bivdiff.models.loaders.kind import Footprint, Kind, Source, diffusers_loader, is_a, is_of_text

if TYPE_CHECKING:
    from torch import Tensor, nn


def _call(network: Any, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
    predicted: Tensor = network(latents, timestep.expand(len(latents)), prompt_embeds).sample
    return predicted


def _experts(source: Source) -> nn.Module:
    """The two networks of Wan 2.2 A14B, from a folder each."""
    from bivdiff.models.experts import WanExperts

    load, folders = diffusers_loader("WanTransformer3DModel"), (source.spec.folder, *source.spec.also)
    return WanExperts(*(load(source._replace(spec=replace(source.spec, folder=folder))) for folder in folders))


_OF_14B = Footprint(25351, 118.5e6, 859.0)
KINDS = {
    "wan_transformer": Kind(
        title="video model", load=diffusers_loader("WanTransformer3DModel"), check=is_of_text("WanTransformer3DModel"),
        architecture=Architecture("diffusers", "WanTransformer3DModel", WAN_1_3B), in_every_step=True, wide=True,
        footprint=Footprint(2689, 49.6e6, 193.3), call=_call,
    ),
    "wan_experts": Kind(
        title="video model of two networks", load=_experts, check=is_of_text("WanTransformer3DModel"),
        architecture=Architecture("bivdiff.models.experts", "WanExperts", {**WAN_1_3B, **WAN_14B}), in_every_step=True,
        wide=True, footprint=_OF_14B, call=_call,
    ),
    "wan_vae": Kind(
        title="autoencoder of clips", load=diffusers_loader("AutoencoderKLWan"), check=is_a("AutoencoderKLWan"),
        architecture=Architecture("diffusers", "AutoencoderKLWan", WAN_VAE), codes="clips", precise=True,
        footprint=Footprint(6868, 2860.6e6), encoding=Footprint(4105, 1949.0e6),
    ),
}  # fmt: skip

# From `benchmarks/footprint.py`: transformers at five latents, autoencoders at three, where all of it lives at once.
FOOTPRINTS: Mapping[str, Footprint] = {
    "wan2.1-14b/transformer": _OF_14B,
    "wan2.2-5b/transformer": Footprint(2392, 21.6e6, 24.2),
    "wan2.2-5b/vae": Footprint(14853, 2835.3e6),
}
"""Of entries of another size than the smallest Wan, by key."""
ENCODINGS: Mapping[str, Footprint] = {"wan2.2-5b/vae": Footprint(2849, 995.4e6)}
