"""Where and how models run: the device, the dtype of weights, the offload policy, compilation."""

from __future__ import annotations

import os
import shutil

import torch

from bivdiff.errors import InputError
from bivdiff.models.placement import POLICIES, OffloadPolicy

COMPILED_VARIANTS = 64  # torch gives up after 8
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def choose_device(name: str) -> torch.device:
    """The device of that name, or the best there is for "auto".

    Raises:
        InputError: there is none.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"Unknown device '{name}'. Use auto, cpu, cuda, cuda:0 or mps.") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise InputError(f"The device '{name}' is not there. Use --device cpu, or auto to take the best there is.")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name, or what the device computes best for "auto".

    Raises:
        InputError: there is none.
    """
    if name != "auto":
        if name not in DTYPES:
            raise InputError(f"Unknown dtype '{name}'. Choose one of: auto, {', '.join(DTYPES)}.")
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    # bfloat16 never runs over; cards before Ampere compute it slowly.
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def choose_policy(name: str, device: torch.device) -> OffloadPolicy:
    """The offload policy of that name, or what suits the device for "auto".

    Raises:
        InputError: there is none.
    """
    if name == "auto":
        if "SPACES_ZERO_GPU" in os.environ:
            return "zerogpu"
        return "model" if device.type == "cuda" else "none"
    if name not in POLICIES:
        raise InputError(f"Unknown offload policy '{name}'. Choose one of: auto, {', '.join(POLICIES)}.")
    return name


def allow_compiling() -> None:
    """Let every kind, size and batch of network be compiled; diffusers' U-Nets all count as one function.

    Raises:
        InputError: there is no compiler.
    """
    if not any(map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))):
        raise InputError("BIVDIFF_COMPILE is set, and there is no C++ compiler. Install g++ or clang, or unset it.")
    torch._dynamo.config.recompile_limit = COMPILED_VARIANTS


def free_memory(device: torch.device) -> None:
    """Return memory that an accelerator's libraries keep, and nothing refers to any more, to its driver."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch._C._host_emptyCache()  # of pinned host memory; torch has no public name for it
    elif device.type == "mps":
        torch.mps.empty_cache()
