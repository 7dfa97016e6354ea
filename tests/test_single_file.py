"""Checkpoints that hold a whole Stable Diffusion: small ones, named as the original code names its layers."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from bivdiff.catalog.families import FAMILIES
from bivdiff.errors import ModelUnavailableError
from bivdiff.models import single_file
from bivdiff.models.architectures import CLIP_VIT_L, SD15_UNET, SD15_VAE
from bivdiff.models.loaders import load_component
from bivdiff.models.loaders.kind import Source, Weights
from bivdiff.models.single_file import read_part

UNET = {**SD15_UNET, "block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8, "cross_attention_dim": 24}
VAE = {**SD15_VAE, "block_out_channels": [8, 8, 16, 16], "norm_num_groups": 8}
TEXT = {**CLIP_VIT_L, "vocab_size": 100, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4}  # fmt: skip
PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}

# From diffusers' names back to the original ones; a function makes the numbers of layers anew.
UNET_NAMES = [
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^down_blocks\.(\d)\.resnets\.(\d)", lambda m: f"input_blocks.{3 * int(m[1]) + int(m[2]) + 1}.0"),
    (r"^down_blocks\.(\d)\.attentions\.(\d)", lambda m: f"input_blocks.{3 * int(m[1]) + int(m[2]) + 1}.1"),
    (r"^down_blocks\.(\d)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{3 * int(m[1]) + 3}.0.op"),
    (r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.0"),
    (r"^up_blocks\.(\d)\.attentions\.(\d)", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.1"),
    # The coarsest level has no attention, so there the upsampling is the second of the block.
    (r"^up_blocks\.(\d)\.upsamplers\.0", lambda m: f"output_blocks.{3 * int(m[1]) + 2}.{2 if int(m[1]) else 1}"),
    (r"(?<!transformer_blocks\.\d)\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"(?<!transformer_blocks\.\d)\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.conv_shortcut\.", ".skip_connection."),
]
VAE_NAMES = [
    (r"^encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block"),
    (r"^encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample"),
    (r"^decoder\.up_blocks\.(\d)\.resnets", lambda m: f"decoder.up.{3 - int(m[1])}.block"),
    (r"^decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{3 - int(m[1])}.upsample"),
    (r"\.mid_block\.resnets\.(\d)", lambda m: f".mid.block_{int(m[1]) + 1}"),
    (r"\.mid_block\.attentions\.0", ".mid.attn_1"),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
]


def renamed(name, rules):
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name


def networks(in_channels=4):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(in_channels)
    made = {
        "unet": UNet2DConditionModel(**{**UNET, "in_channels": in_channels}),
        "vae": AutoencoderKL(**VAE),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
    }
    return {part: network.half().float().eval() for part, network in made.items()}


def original(made):
    """The state dict of the whole, under the names of Stable Diffusion's own code, in half precision."""
    weights = {f"{PREFIXES['unet']}{renamed(name, UNET_NAMES)}": w for name, w in made["unet"].state_dict().items()}
    for name, weight in made["vae"].state_dict().items():
        # Its attention was made of convolutions.
        shown = weight[..., None, None] if ".attentions." in name and weight.ndim == 2 else weight
        weights[f"{PREFIXES['vae']}{renamed(name, VAE_NAMES)}"] = shown
    text = f"{PREFIXES['text_encoder']}transformer.text_model."
    weights |= {f"{text}{name}": weight for name, weight in made["text_encoder"].state_dict().items()}
    weights = {name: weight.half().contiguous() for name, weight in weights.items()}
    weights[f"{text}embeddings.position_ids"] = torch.arange(77)[None]  # as older versions of transformers saved
    weights["model_ema.decay"] = torch.tensor(0.9999)
    return weights


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    for name, config in (("SD15_UNET", UNET), ("SD15_VAE", VAE), ("CLIP_VIT_L", TEXT)):
        monkeypatch.setattr(single_file, name, config)


@pytest.fixture(scope="module", params=[4, 8, 9])
def checkpoint(request, tmp_path_factory):
    made = networks(request.param)
    path = tmp_path_factory.mktemp("checkpoint") / "dreams.safetensors"
    save_file(original(made), path)
    return made, path


@pytest.fixture
def changed(tmp_path):
    """Writes a file of some weights."""

    def write(weights):
        path = tmp_path / "other.safetensors"
        save_file(weights, path)
        return path

    return write


@pytest.fixture(scope="module")
def whole():
    return original(networks())


@torch.no_grad()
def answer(part, network):
    generator = torch.Generator().manual_seed(0)
    if part == "text_encoder":
        return network(torch.randint(100, (2, 77), generator=generator)).last_hidden_state
    if part == "vae":
        pixels = torch.randn(1, 3, 32, 32, generator=generator)
        return network.decode(network.encode(pixels).latent_dist.mode()).sample
    latents = torch.randn(1, network.config.in_channels, 16, 16, generator=generator)
    return network(latents, 500, torch.randn(1, 7, 24, generator=generator)).sample


@pytest.mark.parametrize("part", PREFIXES)
def test_what_is_read_answers_like_what_was_written(checkpoint, part):
    made, path = checkpoint
    read = read_part(path, part)
    assert read.dtype == torch.float16
    assert not read.training
    assert not any(parameter.requires_grad for parameter in read.parameters())
    expected = answer(part, made[part])
    assert expected.std() > 0.01
    assert torch.equal(answer(part, read.float()), expected)


def test_a_loader_takes_the_file_in_the_place_of_a_folder(checkpoint):
    made, path = checkpoint
    read = load_component(Source(FAMILIES["sd15"].unet, path, Weights(None, use_safetensors=True), torch.float32))
    assert read.dtype == torch.float32
    assert torch.equal(answer("unet", read), answer("unet", made["unet"]))


def test_only_the_wanted_part_is_read(checkpoint, monkeypatch):
    names = []

    @contextmanager
    def watched_open(*args):
        with opened(*args) as file:

            class Watched:
                keys, get_slice, metadata = file.keys, file.get_slice, file.metadata

                def get_tensor(self, name):
                    names.append(name)
                    return file.get_tensor(name)

            yield Watched()

    opened = single_file.safe_open
    monkeypatch.setattr(single_file, "safe_open", watched_open)
    read_part(checkpoint[1], "vae")
    assert len(names) > 100
    assert all(name.startswith(PREFIXES["vae"]) for name in names)


@pytest.mark.parametrize("sign", ["metadata", "name"])
def test_a_file_that_predicts_velocities_is_refused(whole, tmp_path, sign):
    path = tmp_path / "velocities.safetensors"
    told = {"modelspec.prediction_type": "v"} if sign == "metadata" else None
    save_file(whole if told else {**whole, "v_pred": torch.zeros(1)}, path, metadata=told)
    with pytest.raises(ModelUnavailableError, match=r"'velocities\.safetensors' predicts velocities.*scheduler_config"):
        read_part(path, "unet")


@pytest.mark.parametrize(("part", "title"), [("unet", "U-Net"), ("vae", "autoencoder"), ("text_encoder", "text enc")])
def test_a_file_without_the_part_says_so(whole, changed, part, title):
    path = changed({name: weight for name, weight in whole.items() if not name.startswith(PREFIXES[part])})
    with pytest.raises(ModelUnavailableError, match=rf"'other\.safetensors' holds no {title}.*{PREFIXES[part]}"):
        read_part(path, part)


@pytest.mark.parametrize(
    ("name", "shape", "model"),
    [
        ("conditioner.embedders.1.model.ln_final.weight", (4,), "Stable Diffusion XL"),
        ("model.diffusion_model.label_emb.0.0.weight", (4, 4), "Stable Diffusion XL"),
        ("cond_stage_model.model.ln_final.weight", (4,), "Stable Diffusion 2"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.proj.bias", (4,), "Stable Diffusion 3"),
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (16, 1024),
         "Stable Diffusion 2"),
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (16, 2048),
         "Stable Diffusion XL"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", PREFIXES)
def test_other_models_are_known_by_name(whole, changed, name, shape, model, part):
    kept = {} if name in whole else whole
    path = changed({**kept, name: torch.zeros(shape)})
    with pytest.raises(ModelUnavailableError, match=rf"checkpoint of {model}\. .*needs Stable Diffusion 1\.5"):
        read_part(path, part)


def test_a_broken_file_is_told_from_one_of_another_shape(whole, changed, tmp_path):
    path = changed(whole)
    for broken in (path.read_bytes()[:-1000], path.read_bytes()[:1000], b"", b"PK\x03\x04" * 100):
        (tmp_path / "broken.safetensors").write_bytes(broken)
        with pytest.raises(ModelUnavailableError, match=r"'broken\.safetensors' cannot be read: .* download it again"):
            read_part(tmp_path / "broken.safetensors", "unet")
    with pytest.raises(ModelUnavailableError, match=r"'nowhere\.safetensors' cannot be read"):
        read_part(tmp_path / "nowhere.safetensors", "unet")


@pytest.mark.parametrize("part", PREFIXES)
def test_weights_that_are_missing_or_wide_are_refused(whole, changed, part):
    names = [name for name in whole if name.startswith(PREFIXES[part]) and whole[name].ndim > 1]
    for weights in (
        {name: weight for name, weight in whole.items() if name != names[1]},
        {**whole, names[1]: torch.zeros(3, 3)},
    ):
        path = changed(weights)
        with pytest.raises(ModelUnavailableError, match=r"in the file 'other.safetensors' is not of .* 1\.5's shape"):
            read_part(path, part)


def test_a_unet_without_its_first_layer_is_refused(whole, changed):
    path = changed({name: w for name, w in whole.items() if not name.endswith("input_blocks.0.0.weight")})
    with pytest.raises(ModelUnavailableError, match=r"U-Net .*input_blocks\.0\.0\.weight"):
        read_part(path, "unet")
