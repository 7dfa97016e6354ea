"""What an earlier run made that a later one need not make again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Output: TypeAlias = "np.ndarray | Tensor"
"""Of a stage: frames uint8 `(F, H, W, 3)`, or latents `(1, C, F, h, w)`."""


class StageCache:
    """Keeps the last outputs of stages, the least recently used one leaving first.

    Args:
        entries: outputs kept; a run with both inversions makes three.
    """

    def __init__(self, entries: int = 12) -> None:
        self._entries = entries
        self._outputs: OrderedDict[str, Output] = OrderedDict()

    def get(self, key: str) -> Output | None:
        """The output kept under a key, or None."""
        if key in self._outputs:
            self._outputs.move_to_end(key)
        return self._outputs.get(key)

    def put(self, key: str, output: Output) -> None:
        """Keep an output; whoever reads it must not change it."""
        self._outputs[key] = output
        self._outputs.move_to_end(key)
        while len(self._outputs) > self._entries:
            self._outputs.popitem(last=False)
