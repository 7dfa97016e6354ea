"""What clips are scored with."""

from __future__ import annotations

from typing import Any

from bivdiff.models.loaders.kind import Kind, Load, Source, transformers_loader


def _in_float32(load: Load) -> Load:
    """The same component with all its digits, whatever the others have: scores differ in their third."""

    def load_exactly(source: Source) -> Any:
        import torch

        return load(source._replace(dtype=torch.float32))

    return load_exactly


KINDS = {
    "clip": Kind(
        title="image and text encoder", load=_in_float32(transformers_loader("CLIPModel")), by_transformers=True
    ),
    "dino": Kind(
        title="image encoder", load=_in_float32(transformers_loader("ViTModel", add_pooling_layer=False)),
        by_transformers=True,
    ),
}  # fmt: skip
