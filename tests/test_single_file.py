"""Checkpoints that hold a whole Stable Diffusion: small ones, named as the original code names its layers."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from original_layout import PREFIXES, TEXT, UNET, VAE, networks, original
from safetensors.torch import save_file

from bivdiff.catalog.families import FAMILIES
from bivdiff.errors import ModelUnavailableError
from bivdiff.models import single_file, weight_files
from bivdiff.models.loaders import load_component
from bivdiff.models.loaders.kind import Source, Weights
from bivdiff.models.single_file import read_part


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

    opened = weight_files.safe_open
    monkeypatch.setattr(weight_files, "safe_open", watched_open)
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


def test_what_a_text_model_has_beside_its_layers_is_left_out(whole, changed):
    start = f"{PREFIXES['text_encoder']}transformer."
    more = {"text_projection.weight": torch.ones(24, 24), "logit_scale": torch.ones(()),
            "vision_model.post_layernorm.weight": torch.ones(24)}  # fmt: skip
    read = read_part(changed({**whole, **{f"{start}{name}": weight for name, weight in more.items()}}), "text_encoder")
    assert torch.equal(answer("text_encoder", read.float()), answer("text_encoder", networks()["text_encoder"]))


def test_a_pickle_of_tensors_is_read_like_a_safetensors(whole, tmp_path):
    torch.save({"state_dict": whole, "epoch": 3}, tmp_path / "old.ckpt")
    read = load_component(
        Source(FAMILIES["sd15"].unet, tmp_path / "old.ckpt", Weights(None, use_safetensors=True), torch.float32)
    )
    assert torch.equal(answer("unet", read), answer("unet", networks()["unet"]))


@pytest.mark.parametrize(("weights", "told"), [
    ({"lora_unet_a.lora_down.weight": torch.ones(2, 2)}, "a LoRA, which is named in the field 'loras'"),
    ({"emb_params": torch.ones(1, 24)}, "a textual inversion, which is named in the field 'embeddings'"),
    ({"control_model.zero_convs.0.0.weight": torch.ones(2)}, "it is a ControlNet"),
])  # fmt: skip
def test_a_file_of_another_kind_is_told_by_its_name(changed, weights, told):
    with pytest.raises(ModelUnavailableError, match=rf"holds no U-Net.*{told}"):
        read_part(changed(weights), "unet")


def test_a_unet_without_its_first_layer_is_refused(whole, changed):
    path = changed({name: w for name, w in whole.items() if not name.endswith("input_blocks.0.0.weight")})
    with pytest.raises(ModelUnavailableError, match=r"U-Net .*input_blocks\.0\.0\.weight"):
        read_part(path, "unet")
