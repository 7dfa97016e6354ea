"""Depth maps, by a depth model of transformers."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from bivdiff.errors import ModelUnavailableError
from bivdiff.pixels.annotators.sizes import working_shape

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_WORKING_SIZE = 518
"""Depth Anything's, for a model whose config names none."""

DEFAULT_PATCH_SIZE = 32
"""Suits every architecture that halves at most five times, for a model whose config names none."""

CHUNK_SIZE = 4
"""Frames that go through the model at once; the memory needed grows with it and not with the clip."""


def annotate_depth(
    frames: np.ndarray, *, model: "PreTrainedModel", chunk_size: int = CHUNK_SIZE, working_size: int | None = None
) -> Generator[int, None, np.ndarray]:
    """Draw how near each pixel is: near is white, far is black.

    One range serves the whole clip. A range for each frame would make the map, and what is made from it, flicker.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        model: `DepthAnythingForDepthEstimation` or another of `AutoModelForDepthEstimation` that predicts inverse
            depth, in eval mode, on its device; a Depth Anything of the "metric" kind is inverted.
        chunk_size: frames that go through the model at once, >= 1.
        working_size: the shorter side, in pixels, of what the model sees; None is the size it was trained at.

    Returns:
        uint8 `(F, H, W, 3)`, the same in all channels; all 0 for a clip without any depth.

    Raises:
        ModelUnavailableError: the model's answer is not a finite number everywhere.
    """
    import torch

    target = _working_shape(frames.shape[1], frames.shape[2], model, working_size)
    depth = torch.empty(frames.shape[:3], dtype=torch.float32)
    for start in range(0, len(frames), chunk_size):
        chunk = slice(start, start + chunk_size)
        depth[chunk] = _inverse_depth(frames[chunk], model, target)
        yield min(start + chunk_size, len(frames))
    if not torch.isfinite(depth).all():
        raise ModelUnavailableError(
            "The depth model gave numbers that are not finite. Its file may be damaged, or its dtype too small: "
            "load it in float32, or download it again."
        )
    depth -= depth.min()
    levels = (depth * (255 / depth.max().clamp(min=torch.finfo(depth.dtype).tiny))).round().to(torch.uint8).numpy()
    return np.repeat(levels[..., None], 3, axis=3)


def _working_shape(height: int, width: int, model: "PreTrainedModel", working_size: int | None) -> tuple[int, int]:
    """Height and width of what the model sees, in whole patches."""
    backbone = getattr(model.config, "backbone_config", None) or model.config
    patch_size: Any = getattr(backbone, "patch_size", None) or getattr(model.config, "patch_size", DEFAULT_PATCH_SIZE)
    trained_at = getattr(backbone, "image_size", None) or DEFAULT_WORKING_SIZE
    return working_shape(height, width, working_size or trained_at, patch_size)


def _inverse_depth(frames: np.ndarray, model: "PreTrainedModel", target: tuple[int, int]) -> "Tensor":
    """Predict inverse depth, float32 `(F, H, W)` on the CPU, of a few frames, shown to the model at `target`."""
    import torch
    from torch.nn.functional import interpolate

    with torch.inference_mode():
        pixel_values = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        pixel_values = pixel_values.to(model.device, torch.float32) / 255
        pixel_values = interpolate(pixel_values, target, mode="bicubic", align_corners=False, antialias=True)
        mean, std = (pixel_values.new_tensor(value).view(1, 3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
        predicted = model(pixel_values=((pixel_values - mean) / std).to(model.dtype)).predicted_depth.float()
        if getattr(model.config, "depth_estimation_type", "relative") == "metric":
            predicted = 1 / predicted.clamp(min=1e-3)
        return interpolate(predicted[:, None], frames.shape[1:3], mode="bilinear", align_corners=False)[:, 0].cpu()
