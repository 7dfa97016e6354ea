"""How alike a clip's frames are, and how well they show the prompt, to networks that know pictures: CLIP and DINO.

- `clip_frame_consistency`: mean cosine of CLIP's image embeddings over pairs of consecutive frames, as in ControlVideo
  (arXiv:2305.13077).
- `clip_frame_consistency_all_pairs`: the same over all pairs of frames, as in Tune-A-Video (arXiv:2212.11565).
- `dino_subject_consistency`: mean over the frames after the first of the cosines, at least 0, of DINO's features to the
  frame before and to the first, as in VBench (arXiv:2311.17982).
- `clip_prompt_alignment`: mean over the frames of 100 times the cosine of CLIP's embeddings of frame and prompt, as
  both of the first.

These few lines stand on transformers, which the app needs anyway; torchmetrics has a CLIPScore, but it would be one
more requirement, fetches its weights when it is first asked, and cuts off below 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bivdiff.bridge.sampling import in_batches
from bivdiff.catalog.prompt_syntax import plain_prompt
from bivdiff.catalog.scoring import SCORING
from bivdiff.models.manager import ModelManager

_AT_ONCE = 8  # frames
_RESERVE = _AT_ONCE * 25_000_000  # bytes that these are computed with, in float32


@torch.inference_mode()
def semantic_scores(frames: np.ndarray, prompt: str, manager: ModelManager) -> dict[str, float]:
    """The scores of one clip whose weights are on this machine; none is fetched for a score.

    Args:
        frames: uint8 `(F, H, W, 3)`.
        prompt: what the clip should show; CLIP reads its first 77 tokens.
        manager: gives the networks.

    Returns:
        Those of the keys above whose networks are here; NaN where there is a single frame, or no prompt.

    Raises:
        ModelUnavailableError: the files of a network are here, but damaged.
        OutOfMemoryError: the device is too small for it.
    """
    scores: dict[str, float] = {}
    if _are_here(manager, "clip", "clip-tokenizer"):
        scores |= _with_clip(frames, prompt, manager)
    if _are_here(manager, "dino"):
        scores["dino_subject_consistency"] = _with_dino(frames, manager)
    return scores


def _are_here(manager: ModelManager, *names: str) -> bool:
    return all(manager.state(SCORING[name]) != "absent" for name in names)


def _with_clip(frames: np.ndarray, prompt: str, manager: ModelManager) -> dict[str, float]:
    from transformers import CLIPImageProcessor

    with manager.use(SCORING["clip"], SCORING["clip-tokenizer"], reserve=_RESERVE) as (model, tokenizer):
        side = model.config.vision_config.image_size
        prepare = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        images = _directions(prepare, frames, model, lambda pixels: model.get_image_features(pixels).pooler_output)
        alignment = math.nan
        if prompt.strip():
            length = model.config.text_config.max_position_embeddings
            ids = tokenizer([plain_prompt(prompt)], truncation=True, max_length=length, return_tensors="pt").input_ids
            text = _unit(model.get_text_features(ids.to(model.device)).pooler_output)
            alignment = float(100 * (images @ text.T).mean())
    similar = images @ images.T
    return {
        "clip_frame_consistency": _mean(similar.diagonal(1)),
        "clip_frame_consistency_all_pairs": _mean(similar[torch.ones_like(similar).triu(1).bool()]),
        "clip_prompt_alignment": alignment,
    }


def _with_dino(frames: np.ndarray, manager: ModelManager) -> float:
    from transformers import ViTImageProcessor
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    with manager.use(SCORING["dino"], reserve=_RESERVE) as (model,):
        prepare = ViTImageProcessor(
            size={"shortest_edge": model.config.image_size},  # as VBench has it: a wide clip stays wide
            image_mean=IMAGENET_DEFAULT_MEAN, image_std=IMAGENET_DEFAULT_STD,
        )  # fmt: skip
        features = _directions(
            prepare, frames, model,
            lambda pixels: model(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0],
        )  # fmt: skip
    similar = (features @ features.T).clamp(min=0)
    return _mean((similar.diagonal(1) + similar[0, 1:]) / 2)


def _directions(
    prepare: Callable[..., Any], frames: np.ndarray, model: nn.Module, embed: Callable[[Tensor], Tensor]
) -> Tensor:
    """Unit vectors `(F, D)`, one for each frame."""
    pixels = prepare(list(frames), input_data_format="channels_last", return_tensors="pt").pixel_values
    return _unit(in_batches(lambda part: embed(part.to(model.device)), _AT_ONCE, pixels))


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else math.nan
