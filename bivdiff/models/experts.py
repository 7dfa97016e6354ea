"""Two networks of one shape that share a schedule: one for its noisy end, the other for the clean one."""

from __future__ import annotations

from typing import Any

from diffusers import WanTransformer3DModel
from torch import Tensor, nn

BOUNDARY = 875  # the least timestep that the network of the noisy end is asked at, as Wan 2.2 A14B has it


class WanExperts(nn.Module):
    """Stands for Wan's transformer where there are two, and asks the one whose level it is.

    Args:
        high, low: for the noisy end and for the clean one; both are made of `config` where there are none.
        config: as of a WanTransformer3DModel.
    """

    high: Any
    low: Any

    def __init__(self, high: nn.Module | None = None, low: nn.Module | None = None, **config: Any) -> None:
        super().__init__()
        self.high = high or WanTransformer3DModel(**config)
        self.low = low or WanTransformer3DModel(**config)

    @property
    def config(self) -> Any:
        """That of each."""
        return self.high.config

    def forward(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Any:
        """As a WanTransformer3DModel's, at a timestep that all of a batch have in common."""
        network = self.high if float(timestep[0]) >= BOUNDARY else self.low
        return network(latents, timestep, prompt_embeds)

    def enable_layerwise_casting(self, **options: Any) -> None:
        """As a WanTransformer3DModel's."""
        for network in (self.high, self.low):
            network.enable_layerwise_casting(**options)
