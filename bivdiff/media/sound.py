"""Sound as samples, as it passes from a reader to a film to a writer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SAMPLE_RATE = 44100  # samples a second, of all sound here
MAX_SECONDS = 60.0  # of a film


class Sound(NamedTuple):
    """`samples`: int16 `(N, 2)`, left and right, at `SAMPLE_RATE`."""

    samples: np.ndarray

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / SAMPLE_RATE
