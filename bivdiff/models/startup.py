"""One line on what computes here and with which versions, for people to paste where they report something."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from bivdiff.catalog.families import FAMILIES
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.units import say_bytes
from bivdiff.version import __version__

LIBRARIES = ("torch", "diffusers", "transformers", "gradio")


def startup_line(settings: Settings) -> str:
    """The studio's version, Python's and the libraries', the device with its memory, dtype, offloading, families.

    Raises:
        InputError: a setting cannot be used here, such as a device that is not there.
    """
    manager = ModelManager(settings)
    memory = manager.readout().device_memory
    parts = [
        f"BIVDiff Studio {__version__}",
        f"Python {platform.python_version()}",
        *(f"{name} {_version(name)}" for name in LIBRARIES),
        f"{_device(manager.device)}, {say_bytes(memory.total)}",
        f"{manager.dtype}".removeprefix("torch."),
        f"offload {manager.policy}",
        f"families {', '.join(FAMILIES) if settings.families == 'all' else settings.families}",
    ]
    return " | ".join(parts)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _device(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
