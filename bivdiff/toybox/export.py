"""Trained components as a family that loads: fp16 safetensors in diffusers' folder layout."""

from __future__ import annotations

import shutil
from pathlib import Path

from bivdiff.toybox import networks, preview


def save_trained(folder: Path, target: Path) -> list[str]:
    """Write what was trained in `folder` to `target`; returns the names of the components that were not."""
    family = networks.build_family()
    missing = []
    for name, component in networks.trainable(family).items():
        if (folder / name).is_dir():
            family[name] = component.from_pretrained(folder / name)
        else:
            missing.append(name)
            del family[name]
    networks.save_family(target, family)
    if (folder / preview.FILE).is_file():
        shutil.copyfile(folder / preview.FILE, target / preview.FILE)
    return missing
