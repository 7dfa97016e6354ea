"""Where and how this copy of the app runs, read once from the environment.

In it: `Settings`. Not in it: what a single job asks for (types.py), models (catalog.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bivdiff.errors import InputError

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True)
class Settings:
    """Settings of the process.

    Attributes:
        device: torch device name; "auto" takes CUDA, then Apple's MPS, then the CPU.
        output_folder: where clips are written when no path is given.
        toybox_folder: the built-in family's weights.
        host, port: where the page is served; port None takes the first free one from 7860.
    """

    device: str = "auto"
    output_folder: Path = Path("outputs")
    toybox_folder: Path = ASSETS / "toybox"
    host: str = "127.0.0.1"
    port: int | None = None

    @classmethod
    def from_env(cls) -> Settings:
        """Read BIVDIFF_DEVICE, BIVDIFF_OUTPUT_FOLDER, BIVDIFF_TOYBOX_FOLDER, BIVDIFF_HOST and BIVDIFF_PORT.

        Raises:
            InputError: BIVDIFF_PORT is not a port number.
        """
        env = os.environ
        port = env.get("BIVDIFF_PORT")
        if port is not None and not (port.isdigit() and 0 < int(port) < 65536):
            raise InputError(f"BIVDIFF_PORT must be a port number from 1 to 65535; got '{port}'.")
        return cls(
            device=env.get("BIVDIFF_DEVICE", cls.device),
            output_folder=Path(env.get("BIVDIFF_OUTPUT_FOLDER", cls.output_folder)),
            toybox_folder=Path(env.get("BIVDIFF_TOYBOX_FOLDER", cls.toybox_folder)),
            host=env.get("BIVDIFF_HOST", cls.host),
            port=int(port) if port else None,
        )
