"""VidRD's U-Net gives the numbers of the released code, and those of Stable Diffusion's where time plays no part."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.architectures import VIDRD_UNET
from bivdiff.models.vidrd import VidRDUNet, split_checkpoint

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(os.environ.get("VIDRD_GOLDEN", ROOT.parent / "shared" / "golden" / "vidrd_unet_released.safetensors"))
SAME_MATHS = 1e-5  # two orders of the same float32 sums
PLATFORMS = 1e-4  # and of sines on another machine

DOWN, UP, PLAIN_DOWN, PLAIN_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D", "DownBlock2D", "UpBlock2D"
TINY = {
    "in_channels": 4, "out_channels": 4, "block_out_channels": [32, 64], "layers_per_block": 1,
    "down_block_types": [DOWN, PLAIN_DOWN], "up_block_types": [PLAIN_UP, UP], "attention_head_dim": [2, 4],
    "cross_attention_dim": 16, "use_linear_projection": True,
}  # fmt: skip
CONFIGS = {
    "tiny": {},
    "heads as a number": {"attention_head_dim": 4},
    "convolutions around transformers": {"use_linear_projection": False},
    "one level": {
        "block_out_channels": [32], "attention_head_dim": [2], "down_block_types": [DOWN], "up_block_types": [UP],
    },
    "three levels, all with transformers": {
        "block_out_channels": [32, 64, 32], "attention_head_dim": [2, 4, 1], "down_block_types": [DOWN] * 3,
        "up_block_types": [UP] * 3, "layers_per_block": 2,
    },
    "transformers up and not down": {"down_block_types": [PLAIN_DOWN] * 2, "up_block_types": [UP] * 2},
    "widths that 32 groups do not divide": {
        "block_out_channels": [24, 40], "attention_head_dim": [3, 5], "norm_num_groups": 4, "layers_per_block": 3,
    },
    "every number another": {
        "in_channels": 9, "out_channels": 3, "norm_eps": 1e-2, "mid_block_scale_factor": 2,
        "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "upcast_attention": True,
    },
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small lose more time to waiting for each other's threads than they win by them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def build(seed=0, **changes):
    torch.manual_seed(seed)
    return VidRDUNet.from_config({**TINY, **changes}).eval()


def inputs(batch, frames, height=8, width=8, channels=4):
    torch.manual_seed(7)
    timesteps = torch.tensor([900, 20, 500])[:batch]
    return torch.randn(batch, channels, frames, height, width), timesteps, torch.randn(batch, 5, 16)


def silence(unet):
    """Make the temporal layers add nothing."""
    for name, module in unet.named_modules():
        if name.endswith(("temp_attn.to_out.0", "convs.15")):
            module.weight.zero_()
            module.bias.zero_()
    return unet


def without_time(unet):
    """Stable Diffusion's own U-Net with the same spatial weights."""
    config = {key: value for key, value in unet.config.items() if not key.startswith(("add_temp", "_"))}
    twin = UNet2DConditionModel.from_config(config).eval()
    twin.load_state_dict({name: weight for name, weight in unet.state_dict().items() if "temp_" not in name})
    return twin


def close(ours, expected, tolerance=SAME_MATHS):
    return ours.shape == expected.shape and torch.allclose(ours, expected, rtol=0, atol=tolerance)


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"{GOLDEN} is not there")
def test_released_weights_and_output():
    with safe_open(GOLDEN, "pt") as golden:
        tensors = {name: golden.get_tensor(name) for name in golden.keys()}  # noqa: SIM118 - it is no dict
        unet = VidRDUNet.from_config(json.loads(golden.metadata()["config"])).eval()
    state = {name.removeprefix("state."): weight for name, weight in tensors.items() if name.startswith("state.")}
    unet.load_state_dict(state, strict=True)
    ours = unet(tensors["sample"], tensors["timestep"], tensors["encoder_hidden_states"]).sample
    assert close(ours, tensors["output"])


def waves(shape, step, size):
    """Numbers that any machine makes alike."""
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return ((numbers * step).sin() * size).reshape(shape).float()


@pytest.mark.parametrize(
    ("frames", "first", "second", "means"),
    [
        (1, [0.42275494], [0.20522437], [0.06249100, 0.06234650]),
        (3, [0.20907933, -1.16706753, 0.96197677], [1.04088938, 0.27255148, -0.60297781], [0.07155725, 0.06968752]),
    ],
)
def test_numbers_of_the_released_code(frames, first, second, means):
    """What the released code made of these weights and inputs, at one place of each clip and on average."""
    unet = build()
    unet.load_state_dict({
        name: waves(weight.shape, 0.7 + 0.01 * index, 0.1) + float(weight.ndim == 1 and name.endswith("weight"))
        for index, (name, weight) in enumerate(sorted(unet.state_dict().items()))
    })  # fmt: skip
    noise = unet(waves((2, 4, frames, 5, 6), 0.37, 1), torch.tensor([7, 400]), waves((2, 3, 16), 0.53, 1)).sample
    assert close(noise[0, 0, :, 2, 3], torch.tensor(first), PLATFORMS)
    assert close(noise[1, 3, :, 4, 5], torch.tensor(second), PLATFORMS)
    assert close(noise.mean((1, 2, 3, 4)), torch.tensor(means), PLATFORMS)


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_one_frame_is_a_picture(changes):
    unet = build(add_temp_embed=False, **changes)
    sample, timesteps, text = inputs(2, 1, channels=unet.config.in_channels)
    expected = without_time(unet)(sample[:, :, 0], timesteps, text).sample
    assert close(unet(sample, timesteps, text).sample[:, :, 0], expected)


def test_one_frame_keeps_its_position():
    unet = build()
    twin = without_time(unet)
    for name, module in twin.named_modules():
        if name.endswith("attn2.to_out.0"):
            module.bias[1::2] += 1  # the cosines of position 0
    sample, timesteps, text = inputs(2, 1)
    assert close(unet(sample, timesteps, text).sample[:, :, 0], twin(sample[:, :, 0], timesteps, text).sample)


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(("frames", "height", "width"), [(2, 9, 7), (5, 5, 12)])
def test_a_still_clip_is_a_picture_where_time_is_silent(changes, frames, height, width):
    unet = silence(build(add_temp_embed=False, **changes))
    picture, timesteps, text = inputs(2, 1, height, width, unet.config.in_channels)
    expected = without_time(unet)(picture[:, :, 0], timesteps, text).sample
    ours = unet(picture.expand(-1, -1, frames, -1, -1), timesteps, text).sample
    assert close(ours, expected[:, :, None].expand(-1, -1, frames, -1, -1))


@pytest.mark.parametrize("changes", [{}, {"add_temp_embed": False}, {"add_temp_conv": False}])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 8, 8), (2, 7, 9), (5, 8, 5)])
def test_clips_of_a_batch_are_apart(changes, frames, height, width):
    unet = build(**changes)
    sample, timesteps, text = inputs(3, frames, height, width)
    together = unet(sample, timesteps, text).sample
    for clip in range(3):
        rows = slice(clip, clip + 1)
        assert close(unet(sample[rows], timesteps[rows], text[rows]).sample, together[rows])


@pytest.mark.parametrize("add_temp_embed", [True, False])
@pytest.mark.parametrize("add_temp_conv", [True, False])
def test_order_of_frames(add_temp_embed, add_temp_conv):
    unet = build(add_temp_embed=add_temp_embed, add_temp_conv=add_temp_conv)
    sample, timesteps, text = inputs(1, 5)
    order = [3, 0, 4, 1, 2]
    shuffled = unet(sample[:, :, order], timesteps, text).sample
    knows_order = add_temp_embed or add_temp_conv
    assert close(shuffled, unet(sample, timesteps, text).sample[:, :, order]) != knows_order


def test_a_changed_frame_changes_the_others():
    unet = build()
    sample, timesteps, text = inputs(1, 5)
    changed = sample.clone()
    changed[:, :, 4] += 1
    reach, reach_of_norms = (
        (network(sample, timesteps, text).sample - network(changed, timesteps, text).sample).abs().mean((0, 1, 3, 4))
        for network in (unet, silence(build()))
    )
    assert (reach[:4] > 1.5 * reach_of_norms[:4]).all()


def test_one_timestep_serves_all_clips():
    unet = build()
    sample, _, text = inputs(2, 3)
    expected = unet(sample, torch.tensor([300, 300]), text).sample
    for timestep in (300, 300.0, torch.tensor(300), torch.tensor([300.0])):
        assert torch.equal(unet(sample, timestep, text).sample, expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.1)])
def test_half_precision(dtype, tolerance):
    unet = build()
    sample, timesteps, text = inputs(2, 3)
    expected = unet(sample, timesteps, text).sample
    assert close(unet(sample.to(dtype), timesteps, text.to(dtype)).sample, expected, tolerance)
    ours = unet.to(dtype)(sample.to(dtype), timesteps, text.to(dtype)).sample
    assert ours.dtype == dtype
    assert close(ours.float(), expected, tolerance)


def test_inputs_are_left_alone():
    sample, timesteps, text = inputs(1, 2)
    before = sample.clone(), text.clone()
    build()(sample, timesteps, text)
    assert torch.equal(sample, before[0])
    assert torch.equal(text, before[1])


def test_saved_and_loaded(tmp_path):
    unet = build(add_temp_embed=False, layers_per_block=2)
    unet.save_pretrained(tmp_path)
    loaded = VidRDUNet.from_pretrained(tmp_path)
    assert loaded.config.add_temp_embed is False
    assert loaded.config.add_temp_conv is True
    assert torch.equal(loaded(*inputs(2, 3)).sample, unet(*inputs(2, 3)).sample)


def test_attention_processors_are_found():
    layers = {name.split(".transformer_blocks.0.")[1] for name in build().attn_processors}
    assert layers == {"attn1.processor", "attn2.processor", "temp_attn.processor"}


@pytest.mark.parametrize(
    "changes", [{"add_temp_conv": False}, {"layers_per_block": 2}, {"use_linear_projection": False}]
)
def test_weights_of_another_network_are_refused(changes):
    with pytest.raises(RuntimeError, match=r"Missing key|Unexpected key|size mismatch"):
        build().load_state_dict(build(**changes).state_dict())


def test_weights_of_a_network_for_pictures_are_refused():
    with pytest.raises(RuntimeError, match="temp_attn"):
        build().load_state_dict(without_time(build()).state_dict())


@pytest.mark.parametrize("changes", [{"attention_head_dim": [2]}, {"down_block_types": [DOWN]}, {"norm_num_groups": 5}])
def test_configs_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match=r"zip|divisible"):
        build(**changes)


def test_the_real_network():
    types = {"down_block_types": [DOWN] * 3 + [PLAIN_DOWN], "up_block_types": [PLAIN_UP] + [UP] * 3}
    spatial = {key: value for key, value in VIDRD_UNET.items() if not key.startswith("add_temp")}
    with torch.device("meta"):
        unet = VidRDUNet.from_config(VIDRD_UNET)
        stable_diffusion = UNet2DConditionModel.from_config({**spatial, **types})
    shapes = {name: weight.shape for name, weight in unet.state_dict().items()}
    expected = {name: weight.shape for name, weight in stable_diffusion.state_dict().items()}
    assert stable_diffusion.num_parameters() == 865_910_724  # Stable Diffusion 2.1 base's
    assert unet.num_parameters() == 1_182_401_284
    assert {name: shape for name, shape in shapes.items() if "temp_" not in name} == expected
    block = "up_blocks.3.attentions.2.transformer_blocks.0"
    assert shapes[f"{block}.temp_attn.to_out.0.weight"] == (320, 320)
    assert shapes[f"{block}.temp_norm.bias"] == (320,)
    assert shapes["mid_block.temp_convs.1.convs.15.weight"] == (1280, 1280, 3, 1, 1)
    assert shapes["up_blocks.0.temp_convs.2.convs.0.weight"] == (1280,)


@pytest.fixture
def networks():
    """What the checkpoint holds, small: a U-Net and a text encoder."""
    torch.manual_seed(1)
    text_config = CLIPTextConfig(
        vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=19,
    )  # fmt: skip
    return build(), CLIPTextModel(text_config).eval()


def released_names(networks):
    """The networks' weights under the names that the training script gave them, with what else it saved."""
    unet, text_encoder = networks
    return OrderedDict({
        **{f"unet.{name}": weight for name, weight in unet.state_dict().items()},
        **{f"text_encoder.text_model.{name}": weight for name, weight in text_encoder.state_dict().items()},
        "text_encoder.text_model.embeddings.position_ids": torch.arange(8)[None],
        "vae.encoder.conv_in.weight": torch.ones(3),
    })  # fmt: skip


def lightning(weights, **more):
    return {"epoch": 3, "global_step": 10, "pytorch-lightning_version": "1.9.5", "state_dict": weights, **more}


@pytest.mark.parametrize("kind", ["released", "before torch 1.6", "weights alone", "safetensors", "names of today"])
def test_checkpoint(tmp_path, networks, kind):
    weights = released_names(networks)
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.pth")
    if kind == "safetensors":
        save_file(weights, path)
    elif kind == "weights alone":
        torch.save(weights, path)
    elif kind == "before torch 1.6":
        torch.save(lightning(weights), path, _use_new_zipfile_serialization=False)
    else:
        old = ".text_model" if kind == "names of today" else "no name has this"
        torch.save(lightning({name.replace(old, ""): weight for name, weight in weights.items()}), path)

    torch.manual_seed(2)
    unet, text_encoder = build(seed=9), CLIPTextModel(networks[1].config).eval()
    unet_state, text_state = split_checkpoint(str(path))
    unet.load_state_dict(unet_state, strict=True)
    text_encoder.load_state_dict(text_state, strict=True)
    tokens = torch.tensor([[0, 5, 3, 19]])
    assert torch.equal(unet(*inputs(1, 2)).sample, networks[0](*inputs(1, 2)).sample)
    assert torch.equal(text_encoder(tokens).last_hidden_state, networks[1](tokens).last_hidden_state)


def refusal(path):
    """The sentence a user gets, which names the file and says what to do."""
    with pytest.raises(ModelUnavailableError) as caught:
        split_checkpoint(path)
    sentence = str(caught.value)
    assert path.name in sentence
    assert re.search(r"Download it again, from .*MCG-NJU/BIVDiff\.", sentence)
    return sentence


def test_missing_checkpoint(tmp_path):
    assert "is missing" in refusal(tmp_path / "ModelT2V.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_checkpoint_cut_short(tmp_path, networks, suffix, share):
    path = tmp_path / f"model.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(released_names(networks), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "incomplete or damaged" in refusal(path)


def test_a_web_page_is_no_checkpoint(tmp_path):
    path = tmp_path / "ModelT2V.pth"
    path.write_text("<!DOCTYPE html><html>Quota exceeded</html>", "utf-8")
    assert "is damaged" in refusal(path)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("written_by", ["torch", "pickle"])
def test_a_checkpoint_that_would_run_code_is_left_alone(tmp_path, networks, written_by, zipped):
    path, trace = tmp_path / "model.pth", tmp_path / "trace"
    content = lightning(released_names(networks), callbacks=Bomb(trace))
    if written_by == "torch":
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    else:
        path.write_bytes(pickle.dumps(Bomb(trace), protocol=2 if zipped else None))
    sentence = refusal(path)
    assert "holds more than weights" in sentence
    assert "run code" in sentence
    assert not trace.exists()


def test_a_checkpoint_with_other_objects_says_so(tmp_path, networks):
    path = tmp_path / "model.pth"
    torch.save(lightning(released_names(networks), hyper_parameters={"folder": Path("assets")}), path)
    assert "holds more than weights" in refusal(path)


@pytest.mark.parametrize("content", [
    {}, [torch.ones(2)], torch.ones(2), {"state_dict": {}}, lightning({"unet.conv_in.bias": torch.ones(2)}),
    lightning({"text_encoder.final_layer_norm.bias": torch.ones(2)}), {"unet.": "no weight", 3: torch.ones(2)},
    {"model.diffusion_model.out.0.bias": torch.ones(2)},
])  # fmt: skip
def test_a_checkpoint_of_another_model(tmp_path, content):
    path = tmp_path / "model.ckpt"
    torch.save(content, path)
    assert "is not VidRD's" in refusal(path)
