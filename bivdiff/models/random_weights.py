"""Full-size networks with random weights, which take the time and memory of the real ones: for benchmarks and tests."""

from __future__ import annotations

import math
import zlib
from typing import Any

import torch
from torch import Tensor, nn

from bivdiff.catalog.specs import ModelSpec
from bivdiff.models.architectures import COGVIDEOX_LEVELS, build_empty
from bivdiff.models.loaders import architecture_of
from bivdiff.models.loaders.video import between_layers

TEXT_LENGTH = 77  # tokens that CLIP reads
_SPREAD = 0.02  # of what is added, or multiplied with: biases, and the scales of normalisations around 1
_DRAWN = 4_194_301  # random numbers per network; the greatest prime below 2^22


def read_random(spec: ModelSpec, base: Any, dtype: torch.dtype, seed: int = 0) -> Any:
    """Make a component of the catalog, on the CPU, ready to infer.

    Args:
        spec: of the component. A tokenizer is the toybox's, at CLIP's length; a scheduler is Stable Diffusion 1.5's
            Wan's or CogVideoX 2B's, with the entry's changes.
        base: the loaded component of `spec.base`, if it has one; its weights are shared, not copied.
        dtype: of the weights.
        seed: decides the weights, together with what `spec` loads: no two entries have the same ones.

    Raises:
        InputError: the shape of the component is not known.
    """
    if spec.kind in _WITHOUT_WEIGHTS:
        return _WITHOUT_WEIGHTS[spec.kind](spec)
    network = build_empty(architecture_of(spec))
    weights = _random_weights(network, dtype, seed + zlib.crc32(spec.load_id.encode()))
    network.load_state_dict(weights, strict=False, assign=True)  # buffers are as they were built
    for buffer in network.buffers():
        buffer.data = buffer.data.to(dtype) if buffer.is_floating_point() else buffer.data
    if spec.kind == "motion_unet":
        network = between_layers(base, network)
    return network.eval().requires_grad_(False)


def _tokenizer(_: ModelSpec) -> Any:
    from bivdiff.toybox.networks import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.model_max_length = TEXT_LENGTH
    return tokenizer


def _scheduler(spec: ModelSpec) -> Any:
    from diffusers import DDIMScheduler

    from bivdiff.toybox.networks import build_scheduler

    return DDIMScheduler.from_config({**build_scheduler().config, **dict(spec.config)})


def _flow_scheduler(spec: ModelSpec) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **dict(spec.config)})


def _cogvideox_scheduler(spec: ModelSpec) -> Any:
    from diffusers import CogVideoXDDIMScheduler

    return CogVideoXDDIMScheduler.from_config({**COGVIDEOX_LEVELS, **dict(spec.config)})


_WITHOUT_WEIGHTS = {
    "tokenizer": _tokenizer, "scheduler": _scheduler, "t5_tokenizer": _tokenizer, "flow_scheduler": _flow_scheduler,
    "cogvideox_scheduler": _cogvideox_scheduler,
}  # fmt: skip


def _random_weights(network: nn.Module, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """A value for every parameter.

    One draw goes around through all of them, since drawing is slow and copying is not. Each starts elsewhere in it, and
    its length is prime, so that no row of a matrix falls upon another.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty(_DRAWN).uniform_(-1, 1, generator=generator).to(dtype).repeat(2)
    weights = {}
    for name, parameter in network.named_parameters():
        center, spread = _distribution(name, parameter.shape)
        middle = torch.tensor(center, dtype=dtype)
        start = int(torch.randint(_DRAWN, (), generator=generator))
        weights[name] = torch.empty(parameter.shape, dtype=dtype)
        for piece in weights[name].view(-1).split(_DRAWN):
            torch.add(middle, drawn[start : start + len(piece)], alpha=spread, out=piece)
    return weights


def _distribution(name: str, shape: torch.Size) -> tuple[float, float]:
    """The middle of a parameter's values, and how far from it they go: for a matrix or convolution torch's own default.

    Layers that start at zero in training are no exception, so that nothing is left out of what is computed.
    """
    if len(shape) > 1:
        return 0.0, 1 / math.sqrt(math.prod(shape[1:]))
    return (0.0 if name.endswith("bias") else 1.0), _SPREAD
