"""What the toybox's networks compute: they are of the real networks' kinds, and of another size."""

from __future__ import annotations

from collections.abc import Mapping

from bivdiff.models.loaders.kind import Footprint

# From `benchmarks/footprint.py`, on as many pixels as those of the real networks.
FOOTPRINTS: Mapping[str, Footprint] = {
    "unet": Footprint(23.4, 12.8e6),
    "controlnet": Footprint(11.8, 17.3e6),
    "t2i_adapter": Footprint(2.1, 2.1e6),
    "video_unet": Footprint(32.2, 21.5e6),
    "vae": Footprint(77.2, 75.5e6),
}
"""By kind."""
ENCODINGS: Mapping[str, Footprint] = {"vae": Footprint(23.4, 50.3e6)}
