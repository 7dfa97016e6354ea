"""ControlNets, T2I-Adapters and motion modules as one file: small ones, under the names of their own code."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from original_layout import UNET, UNET_NAMES, renamed
from safetensors.torch import save_file

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.own_catalog import read_catalog
from bivdiff.errors import ModelUnavailableError
from bivdiff.models import hub, single_file
from bivdiff.models.architectures import CONTROLNET, MOTION_ADAPTER, T2I_ADAPTER
from bivdiff.models.counting import numbers_of
from bivdiff.models.loaders import load_component
from bivdiff.models.loaders.kind import Source, Weights
from bivdiff.settings import Settings

WIDTHS = UNET["block_out_channels"]
SMALL = {
    "SD15_UNET": UNET,
    "CONTROLNET": {**CONTROLNET, "block_out_channels": WIDTHS, "norm_num_groups": 8, "cross_attention_dim": 24,
                   "conditioning_embedding_out_channels": [8, 8, 8, 8]},
    "T2I_ADAPTER": {**T2I_ADAPTER, "channels": WIDTHS},
    "MOTION_ADAPTER": {**MOTION_ADAPTER, "block_out_channels": WIDTHS, "motion_norm_num_groups": 8},
}  # fmt: skip
SD15 = FAMILIES["sd15"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    for name, config in SMALL.items():
        monkeypatch.setattr(single_file, name, config)


def filled(network):
    """Random weights, with no layer at zero."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def controlnet_names(weights):
    """As ControlNet's own code has them."""
    made = {}
    convs = {"conv_in": "input_hint_block.0", "conv_out": "input_hint_block.14"}
    for name, weight in weights.items():
        if match := re.match(r"controlnet_down_blocks\.(\d+)\.(.*)", name):
            new = f"zero_convs.{match[1]}.0.{match[2]}"
        elif name.startswith("controlnet_mid_block."):
            new = name.replace("controlnet_mid_block", "middle_block_out.0")
        elif match := re.match(r"controlnet_cond_embedding\.(conv_in|conv_out|blocks\.(\d))\.(.*)", name):
            new = f"{convs.get(match[1]) or f'input_hint_block.{2 * int(match[2]) + 2}'}.{match[3]}"
        else:
            new = renamed(name, UNET_NAMES)
        made[f"control_model.{new}"] = weight
    return made


def adapter_names(weights):
    """As T2I-Adapter's own code has them, which counts the blocks of all levels in one row."""
    made = {}
    for name, weight in weights.items():
        new = name.removeprefix("adapter.")
        new = re.sub(r"body\.(\d)\.in_conv", lambda m: f"body.{2 * int(m[1])}.in_conv", new)
        new = re.sub(r"body\.(\d)\.resnets\.(\d)", lambda m: f"body.{2 * int(m[1]) + int(m[2])}", new)
        made[new] = weight
    return made


def motion_names(weights):
    """As AnimateDiff's own code has them, places of frames included."""
    made = {}
    for name, weight in weights.items():
        new = re.sub(r"motion_modules\.(\d)\.", r"motion_modules.\1.temporal_transformer.", name)
        for theirs, old in (("attention_blocks.0", "attn1"), ("attention_blocks.1", "attn2"), ("norms.0", "norm1"),
                            ("norms.1", "norm2"), ("ff_norm", "norm3")):  # fmt: skip
            new = new.replace(f".{old}.", f".{theirs}.")
        made["module." + new.replace("pos_embed.pe", "attention_blocks.0.pos_encoder.pe")] = weight
    return made


def networks():
    from diffusers import ControlNetModel, MotionAdapter, T2IAdapter

    grey = {**SMALL["T2I_ADAPTER"], "in_channels": 1}
    motion = {**SMALL["MOTION_ADAPTER"], "use_motion_mid_block": True, "motion_max_seq_length": 24}
    return {
        "controlnet": (ControlNetModel(**SMALL["CONTROLNET"]), controlnet_names, SD15.networks["controlnet"]["canny"]),
        "t2i_adapter": (T2IAdapter(**grey), adapter_names, SD15.networks["t2i-adapter"]["canny"]),
        "motion": (MotionAdapter(**motion), motion_names, SD15.video_models["animatediff-v1-5-2"].unet),
    }  # fmt: skip


@pytest.fixture(scope="module", params=["controlnet", "t2i_adapter", "motion"])
def lone(request):
    network, names, spec = networks()[request.param]
    return filled(network), names, spec


def component(path, spec):
    from diffusers import UNet2DConditionModel

    base = filled(UNet2DConditionModel(**UNET)) if spec.base else None
    return load_component(Source(replace(spec, repo=str(path)), path, Weights(None, use_safetensors=True),
                                 torch.float32, base))  # fmt: skip


@pytest.mark.parametrize("layout", ["own", "diffusers"])
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_file_is_read_as_what_was_written(lone, layout, ending, tmp_path):
    network, names, spec = lone
    weights = {name: weight.contiguous() for name, weight in network.state_dict().items()}
    if layout == "own":
        weights = names(weights)
    path = tmp_path / f"mine{ending}"
    save_file(weights, path) if ending == ".safetensors" else torch.save(weights, path)
    read = component(path, spec).state_dict()
    assert all(torch.equal(read[name], weight) for name, weight in network.state_dict().items())


def test_a_catalog_may_name_a_file_of_ones_own_or_one_of_a_folder(lone, tmp_path):
    network, names, spec = lone
    if spec.kind != "controlnet":
        pytest.skip("the catalog has one way for all")
    save_file(names(network.state_dict()), tmp_path / "mine.safetensors")
    (tmp_path / "own.toml").write_text(f"""
        [families.sd15.controlnets.mine]
        repo = "{tmp_path / "mine.safetensors"}"
        [families.sd15.controlnets.other]
        repo = "{tmp_path}"
        file = "mine.safetensors"
    """)
    found = read_catalog(tmp_path / "own.toml", FAMILIES)["sd15"].networks["controlnet"]
    settings = Settings(device="cpu")
    for name in ("mine", "other"):
        root = hub.find(found[name], settings)
        assert numbers_of(found[name], root) == sum(weight.numel() for weight in network.state_dict().values())
        read = load_component(hub.source_of(found[name], root, settings, torch.float32))
        assert torch.equal(read.controlnet_mid_block.weight, network.controlnet_mid_block.weight)


@pytest.mark.parametrize(("weights", "told"), [
    ({"control_model.label_emb.0.0.weight": torch.ones(2, 2), "control_model.zero_convs.0.0.weight": torch.ones(2)},
     "checkpoint of Stable Diffusion XL"),
    ({"model.diffusion_model.out.0.weight": torch.ones(2)}, "it is a whole checkpoint"),
    ({"lora_unet_a.lora_down.weight": torch.ones(2, 2)}, "it is a LoRA, which is named in the field 'loras'"),
    ({"strange": torch.ones(2)}, "holds no"),
])  # fmt: skip
def test_a_file_of_something_else_is_told_by_its_name(lone, weights, told, tmp_path):
    save_file(weights, tmp_path / "mine.safetensors")
    with pytest.raises(ModelUnavailableError, match=rf"'mine\.safetensors' .*{told}"):
        component(tmp_path / "mine.safetensors", lone[2])


def test_a_network_of_shuffled_pictures_pools_what_it_adds(tmp_path):
    from diffusers import ControlNetModel

    weights = controlnet_names(filled(ControlNetModel(**SMALL["CONTROLNET"])).state_dict())
    for name, pooled in (("control_v11e_sd15_shuffle.safetensors", True), ("canny.safetensors", False)):
        save_file(weights, tmp_path / name)
        read = component(tmp_path / name, SD15.networks["controlnet"]["shuffle"])
        assert read.config.global_pool_conditions is pooled
