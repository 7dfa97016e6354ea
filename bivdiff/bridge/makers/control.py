"""Controllable generation: Stable Diffusion makes every frame, steered by control maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bivdiff.bridge.guidance import guided, in_first, position_of, unet_noise
from bivdiff.bridge.sampling import Step, denoising_scheduler, step_through, unfold_step
from bivdiff.types import Sampler


class Steering(NamedTuple):
    """A network that reads control maps, uint8 `(F, H, W, 3)`; weight and share of the steps as in `types.Control`."""

    network: Any
    control_frames: np.ndarray
    conditioning_scale: float
    start: float
    end: float

    def steers(self, position: int, num_steps: int) -> bool:
        """Whether it takes part in step `position` (from 0) of `num_steps`: one that lies wholly in its share."""
        in_share = self.start <= position / num_steps and (position + 1) / num_steps <= self.end
        return in_share and self.conditioning_scale > 0


# What a group of controls adds inside the U-Net: from latents, timestep, embeds, the maps `(B, 3, H, W)` of those that
# steer, and these themselves, to keyword arguments of the U-Net.
Residuals = Callable[[Tensor, Tensor, Tensor, list[Tensor], list[Steering]], dict[str, Any]]


def controlnet_residuals(
    latents: Tensor, timestep: Tensor, embeds: Tensor, maps: list[Tensor], active: list[Steering]
) -> dict[str, Any]:
    """What ControlNetModels add, summed. Source: ControlNet (arXiv:2302.05543)."""
    downs, mids = zip(*(
        control.network(latents, timestep, embeds, guide, conditioning_scale=control.conditioning_scale,
                        return_dict=False)
        for control, guide in zip(active, maps, strict=True)
    ), strict=True)  # fmt: skip
    return {
        "down_block_additional_residuals": [sum(parts) for parts in zip(*downs, strict=True)],
        "mid_block_additional_residual": sum(mids),
    }


def t2i_adapter_residuals(
    latents: Tensor, timestep: Tensor, embeds: Tensor, maps: list[Tensor], active: list[Steering]  # noqa: ARG001 - an adapter reads the map alone
) -> dict[str, Any]:  # fmt: skip
    """What T2IAdapters add, summed. Source: T2I-Adapter (arXiv:2302.08453)."""
    features = [
        [
            control.conditioning_scale * level
            for level in control.network(guide[:, : control.network.config.in_channels])
        ]
        for control, guide in zip(active, maps, strict=True)
    ]
    return {"down_intrablock_additional_residuals": [sum(levels) for levels in zip(*features, strict=True)]}


def generate_with_control(
    unet: Any, scheduler: Any, noise: Tensor, *, controls: Sequence[Steering], residuals: Residuals,
    prompt_embeds: Tensor, negative_embeds: Tensor, guidance_scale: float, num_steps: int, batch_size: int,
    sampler: Sampler = "ddim", guided_share: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """Denoise every frame on its own, steered by its control maps.

    Args:
        unet: the base UNet2DConditionModel.
        scheduler: the family's, whose schedule is walked; itself is left as it is.
        noise: `(F, C, h, w)`; the control maps are eight times as large.
        controls: networks for that U-Net, at least one, all of one kind.
        residuals: what this kind adds: `controlnet_residuals` or `t2i_adapter_residuals`.
        prompt_embeds, negative_embeds: `(1, L, D)`.
        guidance_scale: 1 = off.
        num_steps: number of predictions.
        batch_size: frames evaluated at once; it changes memory, not the result.
        sampler: what follows the schedule.
        guided_share: first share of the steps that are guided.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`.
    """
    walked = denoising_scheduler(scheduler, sampler)
    applies = in_first(guided_share, walked, num_steps)

    def predict(latents: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        position = position_of(timestep, walked)
        active = [control for control in controls if control.steers(position, num_steps)]
        made = []
        for start in range(0, len(latents), batch_size):
            part = slice(start, start + batch_size)
            text = embeds[part]
            # Guidance shows every frame twice, under the same map.
            frames = [row % len(noise) for row in range(start, start + len(text))]
            # Of these frames alone: as numbers the maps of a long clip would take more than its latents do.
            shown = [control_tensor(control.control_frames[frames], prompt_embeds) for control in active]
            steering = residuals(latents[part].to(text.dtype), timestep, text, shown, active) if active else {}
            made.append(unet_noise(unet, latents[part], timestep, text, **steering))
        return torch.cat(made)

    for step in step_through(
        guided(predict, prompt_embeds, negative_embeds, guidance_scale, applies), noise, walked, num_steps
    ):
        yield unfold_step(step)


def control_tensor(control_frames: np.ndarray, like: Tensor) -> Tensor:
    """Control maps uint8 `(F, H, W, 3)` as `(F, 3, H, W)` in [0, 1], of the device and dtype of `like`."""
    control = torch.from_numpy(np.ascontiguousarray(control_frames)).to(like.device).permute(0, 3, 1, 2)
    # Networks round otherwise where the numbers lie in another order.
    return (control.float() / 255).to(like.dtype).contiguous()
