"""Noise schedules that DDIM does not follow: rectified flows, and what ends in nothing but noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bivdiff.models.loaders.kind import Kind, Source

SCHEDULER = "scheduler_config.json"


def _check_flow(config: Mapping[str, Any]) -> None:
    """Refuse what is no flow's, and levels that are not fixed before the size of a clip is known."""
    name = str(config.get("_class_name"))
    if not (name.startswith("FlowMatch") or config.get("use_flow_sigmas")):
        raise ValueError(f"Its sampler is {name}, which is no rectified flow's.")
    if config.get("use_dynamic_shifting") or config.get("invert_sigmas") or config.get("shift_terminal"):
        raise ValueError("Its noise levels depend on the size of the clip, end before its clean end, or run backwards.")


def _flow(source: Source) -> Any:
    """The levels of a rectified flow; which solver it was released with does not matter, only how far they shift."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    config = _config(source, FlowMatchEulerDiscreteScheduler)
    return FlowMatchEulerDiscreteScheduler(shift=config.get("flow_shift", config.get("shift", 1.0)))


def _check_cogvideox(config: Mapping[str, Any]) -> None:
    """Refuse another's levels, and a prediction that says nothing of the clip where there is nothing but noise."""
    name, predicts = str(config.get("_class_name")), config.get("prediction_type")
    if not name.startswith("CogVideoX"):
        raise ValueError(f"Its sampler is {name}, whose noise levels are not CogVideoX's.")
    if config.get("rescale_betas_zero_snr") and predicts not in {"v_prediction", "sample"}:
        raise ValueError(f"It predicts '{predicts}', and its levels end where that says nothing of the clip.")


def _cogvideox(source: Source) -> Any:
    """CogVideoX's own levels; which of its two solvers it was released with does not matter."""
    from diffusers import CogVideoXDDIMScheduler

    return CogVideoXDDIMScheduler.from_config(_config(source, CogVideoXDDIMScheduler))


def _config(source: Source, scheduler_class: Any) -> dict[str, Any]:
    config = scheduler_class.load_config(source.root, subfolder=source.spec.folder, local_files_only=True)
    return {**config, **dict(source.spec.config)}


KINDS = {
    "flow_scheduler": Kind(
        title="noise levels of a flow", load=_flow, check=_check_flow, holds="schedule", asks_twice_first=True
    ),
    "cogvideox_scheduler": Kind(
        title="noise levels that end in nothing but noise", load=_cogvideox, check=_check_cogvideox, holds="schedule",
        asks_twice_first=True,
    ),
}  # fmt: skip
