"""A pipeline of diffusers as one component: its networks are moved, counted and dropped together."""

from __future__ import annotations

from typing import Any

from torch import nn


class WholePipeline(nn.Module):
    """Stands for a pipeline where a component is wanted.

    Args:
        pipeline: a DiffusionPipeline, loaded on the CPU.

    Attributes:
        pipeline: as given; it runs where its networks are.
        networks: those of its components that have weights.
    """

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        pipeline.set_progress_bar_config(disable=True)
        self.networks = nn.ModuleDict(
            {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        )
        self.pipeline = pipeline

    @property
    def denoiser(self) -> nn.Module:
        """The network that is evaluated in every step."""
        return next(self.networks[name] for name in ("transformer", "unet") if name in self.networks)
