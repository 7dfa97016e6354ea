"""The models that clips of any family can be scored with, where they have been pulled."""

from __future__ import annotations

from collections.abc import Mapping

from bivdiff.catalog.specs import ModelSpec

_CLIP = "openai/clip-vit-base-patch32"
SCORING: Mapping[str, ModelSpec] = {
    "clip": ModelSpec(
        key="scoring/clip", kind="clip", repo=_CLIP, bytes=605_109_252, bytes_per_number=4, licence="not declared",
        size=(224, 224), checked="id; files as copies of the repository list them; bytes from the number of parameters",
    ),
    "clip-tokenizer": ModelSpec(
        key="scoring/clip-tokenizer", kind="tokenizer", repo=_CLIP, licence="not declared",
        checked="id; files as copies of the repository list them",
    ),
    "dino": ModelSpec(
        key="scoring/dino", kind="dino", repo="facebook/dino-vitb16", bytes=343_194_624, bytes_per_number=4,
        size=(224, 224), checked="id, files and licence; bytes from the number of parameters",
    ),
}  # fmt: skip
