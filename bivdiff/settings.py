"""Where and with what this copy of the studio computes, read once from the environment.

In it: `Settings`. Not in it: what a single job asks for (types.py), models (catalog.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True)
class Settings:
    """Settings of the process.

    Attributes:
        device: torch device name; "auto" takes CUDA, then Apple's MPS, then the CPU.
        toybox_folder: the built-in family's weights.
        models_folder: real models as `owner/name` folders; one that is not there is asked of the model hub.
    """

    device: str = "auto"
    toybox_folder: Path = ASSETS / "toybox"
    models_folder: Path = Path.home() / ".cache" / "bivdiff" / "models"

    @classmethod
    def from_env(cls) -> Settings:
        """Read BIVDIFF_DEVICE, BIVDIFF_TOYBOX_FOLDER and BIVDIFF_MODELS_FOLDER."""
        return cls(
            device=os.environ.get("BIVDIFF_DEVICE", cls.device),
            toybox_folder=Path(os.environ.get("BIVDIFF_TOYBOX_FOLDER", cls.toybox_folder)),
            models_folder=Path(os.environ.get("BIVDIFF_MODELS_FOLDER", cls.models_folder)),
        )
