"""What frames see of each other: by equivalence with attention written out, and whatever the batches are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from bivdiff.bridge.attention import FrameLooks
from bivdiff.bridge.pipeline import framewise_frames
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import default_request

ROUNDING = 1e-5
MAKING = [name for name, model in IMAGE_MODELS.items() if model.in_paper]
OTHERS = {"first": (0,), "previous": (-1,), "both": (0, -1)}


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=6, attention_head_dim=4,
        norm_num_groups=4, layers_per_block=1,
    ).eval()  # fmt: skip


def given(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 4, 8, 8, generator=generator), torch.randn(count, 3, 6, generator=generator)


def looking(unet, mode: str, pictures: torch.Tensor, text: torch.Tensor, frames: int, batch: int) -> torch.Tensor:
    with torch.inference_mode(), FrameLooks(mode, frames).put_into(unet):
        parts = zip(pictures.split(batch), text.split(batch), strict=True)
        return torch.cat([unet(part, 5, words).sample for part, words in parts])


class Written:
    """A processor that attends frame by frame, in a loop, to the frame's own places and those of the others."""

    def __init__(self, mode: str, frames: int) -> None:
        self.mode, self.frames = mode, frames

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):  # noqa: ARG002 - as diffusers calls it
        made = []
        for row, states in enumerate(hidden_states):
            seen = states
            if encoder_hidden_states is not None:
                seen = encoder_hidden_states[row]
            else:
                clip, frame = divmod(row, self.frames)
                for other in OTHERS[self.mode]:
                    place = 0 if other == 0 else max(0, frame - 1)
                    seen = torch.cat([seen, hidden_states[clip * self.frames + place]])
            query, key, value = (
                layer(part).unflatten(-1, (attn.heads, -1)).transpose(0, 1)
                for layer, part in ((attn.to_q, states), (attn.to_k, seen), (attn.to_v, seen))
            )
            found = torch.softmax(query @ key.transpose(1, 2) * attn.scale, -1) @ value
            made.append(attn.to_out[0](found.transpose(0, 1).flatten(1)))
        return torch.stack(made)


@pytest.mark.parametrize("mode", OTHERS)
def test_each_frame_attends_to_its_own_places_and_to_those_of_the_others(unet, mode):
    pictures, text = given(6)  # two clips of three frames, as guidance lays them out
    before = unet.attn_processors
    unet.set_attn_processor(Written(mode, 3))
    with torch.inference_mode():
        expected = unet(pictures, 5, text).sample
    unet.set_attn_processor(before)
    made = looking(unet, mode, pictures, text, frames=3, batch=6)
    assert torch.allclose(made, expected, atol=ROUNDING)
    alone = looking(unet, "none", pictures, text, frames=3, batch=6)
    assert torch.allclose(made[0], alone[0], atol=ROUNDING), "the first frame sees itself, and nothing else"
    assert (made[2] - alone[2]).abs().max() > 100 * ROUNDING


@pytest.mark.parametrize("batch", [1, 2, 4, 5])
@pytest.mark.parametrize("mode", OTHERS)
def test_batches_change_memory_and_not_the_result(unet, mode, batch):
    pictures, text = given(6)
    whole = looking(unet, mode, pictures, text, frames=3, batch=6)
    assert torch.allclose(looking(unet, mode, pictures, text, frames=3, batch=batch), whole, atol=ROUNDING)


def test_copies_in_one_batch_are_clips_of_their_own(unet):
    """As Prompt2Prompt lays them out: each batch holds some frames of the source, and the same of the edit."""
    pictures, text = given(6)
    whole = looking(unet, "both", pictures, text, frames=3, batch=6)
    looks = FrameLooks("both", 3)
    looks.copies = 2
    with torch.inference_mode(), looks.put_into(unet):
        parts = [unet(pictures[rows], 5, text[rows]).sample for rows in ([0, 1, 3, 4], [2, 5])]
    assert torch.allclose(torch.cat(parts)[[0, 1, 4, 2, 3, 5]], whole, atol=ROUNDING)


@pytest.mark.parametrize("mode", ["none", *OTHERS])
def test_afterwards_the_network_is_as_it_was_whatever_happened(unet, mode):
    before = dict(unet.attn_processors)

    def fail_inside() -> None:
        with FrameLooks(mode, 3).put_into(unet):
            assert (unet.attn_processors == before) == (mode == "none")
            raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        fail_inside()
    assert unet.attn_processors == before
    assert not unet._forward_pre_hooks


def test_nothing_of_a_finished_clip_is_kept(unet):
    pictures, text = given(3)
    with torch.inference_mode(), FrameLooks("both", 3).put_into(unet):
        unet(pictures[:2], 5, text[:2])
        layers = [layer for name, layer in unet.attn_processors.items() if "attn1" in name]
        assert all(len(layer._keys) == len(layer._values) == 2 for layer in layers)
        unet(pictures[2:], 5, text[2:])
        assert not any(layer._keys or layer._values for layer in layers)


def test_what_is_kept_of_the_first_frame_is_copied_once(unet):
    pictures, text = given(4)
    with torch.inference_mode(), FrameLooks("both", 4).put_into(unet):
        layer = next(layer for name, layer in unet.attn_processors.items() if "attn1" in name)
        kept = []
        for frame in range(3):
            unet(pictures[frame : frame + 1], 5, text[frame : frame + 1])
            kept.append({other: keys for (other, _), keys in layer._keys.items()})
    assert kept[0]["first"] is kept[1]["first"] is kept[2]["first"]
    assert len({id(each["previous"]) for each in kept}) == 3


def test_no_more_of_a_batch_is_kept_than_is_needed_of_it(unet):
    pictures, text = given(6)
    with torch.inference_mode(), FrameLooks("first", 6).put_into(unet):
        unet(pictures[:5], 5, text[:5])
        layers = [layer for name, layer in unet.attn_processors.items() if "attn1" in name]
        for kept in [keys for layer in layers for keys in (*layer._keys.values(), *layer._values.values())]:
            assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


@pytest.mark.parametrize("image_model", MAKING)
def test_in_every_image_model_the_first_frame_stays_as_it_is_and_the_others_see_it(image_model, source_frames, manager):
    frames = source_frames[:3]
    masks = np.zeros(frames.shape[:3], np.uint8)
    masks[:, 16:48, 16:48] = 255
    own = {"inpainting": {"masks": masks}, "prompt2prompt": {"source_prompt": "a red cube on a grey floor"}}
    request = replace(
        default_request(
            IMAGE_MODELS[image_model].tasks[0], "toybox", frames, "a blue cube on a grey floor",
            image_model=image_model, seed=3, **own.get(image_model, {}),
        ),
        num_inference_steps=4, frame_batch_size=2, frame_attention="none",
    )  # fmt: skip
    alone, seen = (
        framewise_frames(replace(request, frame_attention=mode), manager).astype(int) for mode in ("none", "first")
    )
    changed = np.abs(seen - alone).max((1, 2, 3))
    assert changed[0] <= 2, "roundings of float32 over a few steps"
    assert (changed[1:] > 4).all()
