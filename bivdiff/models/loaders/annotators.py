"""What draws control maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bivdiff.models.architectures import DEPTH_ANYTHING, Architecture
from bivdiff.models.loaders.kind import Kind, Load, Source, transformers_loader

if TYPE_CHECKING:
    from torch import nn


def _detector(kind: str) -> Load:
    def load(source: Source) -> nn.Module:
        from bivdiff.pixels.annotators.loading import LOADERS

        return LOADERS[kind](source.root / source.spec.folder)

    return load


KINDS = {
    "depth_estimator": Kind(
        title="depth estimator", load=transformers_loader("DepthAnythingForDepthEstimation"), by_transformers=True,
        architecture=Architecture("transformers", "DepthAnythingForDepthEstimation", DEPTH_ANYTHING),
    ),
    "body_pose": Kind(title="pose estimator", load=_detector("body_pose")),
    "hed": Kind(title="soft edge detector", load=_detector("hed")),
    "lineart": Kind(title="line detector", load=_detector("lineart")),
    "normalbae": Kind(title="surface estimator", load=_detector("normalbae")),
    "pidinet": Kind(title="sketch detector", load=_detector("pidinet")),
}  # fmt: skip
