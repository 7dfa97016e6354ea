"""What reads control maps and steers a U-Net."""

from __future__ import annotations

from bivdiff.models.architectures import CONTROLNET, T2I_ADAPTER, Architecture
from bivdiff.models.loaders.kind import Footprint, Kind, diffusers_loader, or_single_file

KINDS = {
    "controlnet": Kind(
        title="ControlNet", load=or_single_file(diffusers_loader("ControlNetModel")),
        architecture=Architecture("diffusers", "ControlNetModel", CONTROLNET), alone=True, in_every_step=True,
        footprint=Footprint(283, 62.9e6),
    ),
    "t2i_adapter": Kind(
        title="T2I-Adapter", load=or_single_file(diffusers_loader("T2IAdapter")),
        architecture=Architecture("diffusers", "T2IAdapter", T2I_ADAPTER), alone=True, footprint=Footprint(60, 10.5e6),
    ),
}  # fmt: skip
