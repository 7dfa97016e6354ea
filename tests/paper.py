"""The bridge of the paper, whatever the presets: for tests of the stages in general."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER_BRIDGE: Mapping[str, Any] = {
    "mixing_rule": "linear", "frame_prior": "image", "start_level": 1.0, "frame_attention": "none", "sampler": "ddim",
    "guided_share": 1.0,
}  # fmt: skip
TWO_STEPS: Mapping[str, Any] = {
    "num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2,
}  # fmt: skip
