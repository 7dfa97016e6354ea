"""LoRAs in the layouts in which they are about: each made here, and held to what peft or diffusers makes of it."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from original_layout import UNET_NAMES, networks, renamed
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from small_networks import VOCABULARY, small_architecture

from bivdiff.catalog.families import FAMILIES
from bivdiff.errors import ModelUnavailableError
from bivdiff.models.architectures import importlib
from bivdiff.models.loras import merge_loras, note_on

SD15 = FAMILIES["sd15"]
SAME = 1e-5  # two orders of the same float32 sums
LINEAR, CONV = r"mid_block.*(to_k|to_out\.0)", r"mid_block.*(conv1|proj_in)"
BOTH = rf"{LINEAR}|{CONV}"
TEXT = ["q_proj", "fc1"]


def network(part):
    """A small U-Net or text encoder, the same every time."""
    return deepcopy(made(part))


@cache
def made(part):
    shape = small_architecture(getattr(SD15, part))
    torch.manual_seed(0)
    kind = getattr(importlib.import_module(shape.module), shape.name)
    built = kind(kind.config_class(**shape.config)) if shape.module == "transformers" else kind(**shape.config)
    return built.eval()


def adapted(plain, config, folder):
    """An adapter with no matrix at zero, saved as peft does it, and the network that peft merges it into."""
    model = get_peft_model(plain, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "lokr_" in name or "hada_" in name:
            base = 1.0 if "magnitude" in name else 0.0  # of zeros nothing would be seen
            parameter.data = base + 0.2 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return model.merge_and_unload()


def merged(part, path, scale=1.0):
    return merge_loras(network(part), part, [(Path(path), scale)])


def assert_same(one, other, part="unet"):
    """That two networks have the same weights, and others than the plain one."""
    expected, plain = other.state_dict(), made(part).state_dict()
    assert any(not torch.equal(weight, plain[name]) for name, weight in expected.items())
    for name, weight in one.state_dict().items():
        assert torch.allclose(weight, expected[name], atol=SAME), name


def under_kohyas_names(folder, alphas=None, prefix="lora_unet_"):
    """A file of peft's as kohya's trainer and LyCORIS would have written it."""
    names = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight",
             "lora_magnitude_vector": "dora_scale"}  # fmt: skip
    weights = {}
    for name, weight in load_file(folder / "adapter_model.safetensors").items():
        stem = name.removeprefix("base_model.model.")
        end = next((end for end in names if stem.endswith(end)), stem.rpartition(".")[2])
        layer = stem.removesuffix(f".{end}").replace(".", "_")
        shown = weight.reshape(-1, 1) if end == "lora_magnitude_vector" else weight  # a column, as its rows are meant
        weights[f"{prefix}{layer}.{names.get(end, end)}"] = shown.contiguous()
        if alphas is not None:
            weights[f"{prefix}{layer}.alpha"] = torch.tensor(float(alphas))
    path = folder / "kohya.safetensors"
    save_file(weights, path)
    return path


CONFIGS = {
    "lora": LoraConfig(r=4, lora_alpha=2, target_modules=BOTH),
    "ranks and alphas of single layers": LoraConfig(
        r=4, lora_alpha=2, target_modules=LINEAR, rank_pattern={"attn2.to_k": 3}, alpha_pattern={"attn1.to_k": 6}
    ),
    "strength by the root of the rank": LoraConfig(r=4, lora_alpha=2, target_modules=LINEAR, use_rslora=True),
    "biases": LoraConfig(r=2, lora_alpha=1, target_modules=r"mid_block.*to_out\.0", lora_bias=True),
    "dora": LoraConfig(r=4, lora_alpha=2, target_modules=BOTH, use_dora=True),
    "loha": LoHaConfig(r=3, alpha=6, target_modules=BOTH),
    "loha with a kernel": LoHaConfig(r=3, alpha=6, target_modules=CONV, use_effective_conv2d=True),
    "lokr": LoKrConfig(r=2, alpha=4, target_modules=BOTH),
    "lokr of four": LoKrConfig(r=1, alpha=4, target_modules=LINEAR, decompose_both=True),
    "lokr with a kernel": LoKrConfig(r=1, alpha=3, target_modules=CONV, use_effective_conv2d=True),
}  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_folder_of_pefts_is_merged_as_peft_does_it(config, tmp_path):
    expected = adapted(network("unet"), config, tmp_path)
    assert_same(merged("unet", tmp_path / "adapter_model.safetensors"), expected)


def test_a_folder_of_pefts_for_the_text_encoder_leaves_the_unet_alone(tmp_path):
    config = LoraConfig(r=4, lora_alpha=2, target_modules=TEXT)
    expected = adapted(network("text_encoder"), config, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    assert_same(merged("text_encoder", path), expected, "text_encoder")
    plain = made("unet").state_dict()
    assert all(torch.equal(weight, plain[name]) for name, weight in merged("unet", path).state_dict().items())


@pytest.mark.parametrize("name", ["lora", "dora", "loha", "loha with a kernel", "lokr of four", "lokr with a kernel"])
def test_a_file_of_kohyas_or_lycoris_is_merged_by_its_alphas(name, tmp_path):
    config = CONFIGS[name]
    expected = adapted(network("unet"), config, tmp_path)
    alpha = config.lora_alpha if isinstance(config, LoraConfig) else config.alpha
    assert_same(merged("unet", under_kohyas_names(tmp_path, alpha)), expected)


def test_a_lokr_of_whole_factors_has_no_rank_so_its_alpha_says_nothing(tmp_path):
    config = LoKrConfig(r=64, alpha=64, target_modules=LINEAR)
    expected = adapted(network("unet"), config, tmp_path)
    assert all(end in name for name in load_file(tmp_path / "adapter_model.safetensors") for end in ("lokr_w",))
    assert_same(merged("unet", under_kohyas_names(tmp_path, 1e9)), expected)


@pytest.mark.parametrize("prefix", ["lora_te_text_model_", "lora_te1_text_model_", "lycoris_text_model_"])
def test_a_text_encoder_is_named_in_several_ways(prefix, tmp_path):
    expected = adapted(network("text_encoder"), LoraConfig(r=4, lora_alpha=8, target_modules=TEXT), tmp_path)
    path = under_kohyas_names(tmp_path, 8, prefix=prefix)
    assert_same(merged("text_encoder", path), expected, "text_encoder")


def test_layers_under_stable_diffusions_own_names_are_found(tmp_path):
    unet = networks()["unet"]  # with two layers a block, as the original code numbers them
    config = LoraConfig(r=4, lora_alpha=4, target_modules=r"(mid_block|down_blocks\.1|up_blocks\.2).*(to_k|conv2|op)")
    expected, layers = adapted(deepcopy(unet), config, tmp_path), {}
    for name, weight in load_file(tmp_path / "adapter_model.safetensors").items():
        stem, _, end = name.removeprefix("base_model.model.").rpartition("lora_")
        layers[f"diffusion_model.{renamed(stem, UNET_NAMES)}lora_{'down' if end[0] == 'A' else 'up'}.weight"] = weight
    assert {name.split(".")[1] for name in layers} == {"input_blocks", "middle_block", "output_blocks"}
    save_file(layers, tmp_path / "original.safetensors")
    read = merge_loras(unet, "unet", [(tmp_path / "original.safetensors", 1.0)]).state_dict()
    assert all(torch.allclose(read[name], weight, atol=SAME) for name, weight in expected.state_dict().items())


def test_strength_scales_the_change_of_every_kind(tmp_path):
    for name in ("lora", "dora", "loha", "lokr"):
        folder = tmp_path / name
        adapted(network("unet"), CONFIGS[name], folder)
        path = folder / "adapter_model.safetensors"
        whole, half, none = (merged("unet", path, scale).state_dict() for scale in (1.0, 0.5, 0.0))
        for key, weight in made("unet").state_dict().items():
            assert torch.allclose(half[key] - weight, (whole[key] - weight) / 2, atol=SAME), (name, key)
            assert torch.equal(none[key], weight)


@pytest.mark.parametrize("prefix", ["unet.", ""])
@pytest.mark.parametrize("layout", ["processor.to_{}_lora.{}", "to_{}.lora.{}", "to_{}.lora_{}"])
def test_the_layouts_of_diffusers_old_and_new(prefix, layout, tmp_path):
    expected = adapted(network("unet"), LoraConfig(r=4, lora_alpha=4, target_modules=LINEAR), tmp_path)
    weights = {}
    for name, weight in load_file(tmp_path / "adapter_model.safetensors").items():
        stem, _, end = name.removeprefix("base_model.model.").rpartition(".lora_")
        where, _, what = stem.removesuffix(".0").rpartition(".to_")
        side = end[0] if layout.endswith("lora_{}") else {"A": "down", "B": "up"}[end[0]]
        of_layer = f"{what}.0" if what == "out" and "processor" not in layout else what
        weights[f"{prefix}{where}.{layout.format(of_layer, side)}.weight"] = weight
    path = tmp_path / "layers.bin"
    torch.save(weights, path)
    assert_same(merged("unet", path), expected)


def test_the_header_of_diffusers_says_the_strength(tmp_path):
    from diffusers import StableDiffusionPipeline
    from peft import get_peft_model_state_dict

    part = network("unet")
    part.add_adapter(LoraConfig(r=4, lora_alpha=1, target_modules=["to_k", "to_out.0"], init_lora_weights="gaussian"))
    for name, parameter in part.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    config = {"r": 4, "lora_alpha": 1, "target_modules": ["to_k", "to_out.0"], "alpha_pattern": {"attn2.to_k": 3}}
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=get_peft_model_state_dict(part), unet_lora_adapter_metadata=config
    )
    path = tmp_path / "pytorch_lora_weights.safetensors"
    expected = network("unet")
    state, _, metadata = StableDiffusionPipeline.lora_state_dict(path, return_lora_metadata=True)
    StableDiffusionPipeline.load_lora_into_unet(state, None, expected, metadata=metadata)
    expected.fuse_lora()
    expected.unload_lora()
    assert_same(merged("unet", path), expected)


def test_lengths_of_columns_are_what_lycoris_writes_by_default(tmp_path):
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k"
    down, up, lengths = torch.randn(2, 32), torch.randn(32, 2), torch.rand(1, 32) + 0.5
    start = f"lora_unet_{name.replace('.', '_')}"
    save_file({f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up, f"{start}.dora_scale": lengths,
               f"{start}.alpha": torch.tensor(1.0)}, tmp_path / "columns.safetensors")  # fmt: skip
    whole = network("unet").get_submodule(name).weight + 0.5 * up @ down
    read = merged("unet", tmp_path / "columns.safetensors").get_submodule(name).weight
    assert torch.allclose(read, whole * lengths / whole.norm(dim=0, keepdim=True), atol=SAME)


def test_a_relative_that_reads_more_channels_takes_the_first_layers_too(tmp_path):
    """Of an inpainting network: the mask and the masked picture come behind the latents, and are left alone."""
    from diffusers import UNet2DConditionModel

    plain = UNet2DConditionModel(**{**network("unet").config, "in_channels": 9})
    before = plain.conv_in.weight.clone()
    down, up = torch.randn(2, 4, 3, 3), torch.randn(16, 2, 1, 1)
    save_file({"lora_unet_conv_in.lora_down.weight": down, "lora_unet_conv_in.lora_up.weight": up},
              tmp_path / "first.safetensors")  # fmt: skip
    merge_loras(plain, "unet", [(tmp_path / "first.safetensors", 1.0)])
    change = plain.conv_in.weight - before
    assert torch.allclose(change[:, :4], torch.einsum("oi,icxy->ocxy", up.flatten(1), down), atol=SAME)
    assert not change[:, 4:].any()


LAYER = "mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
TWO = {f"lora_unet_{LAYER}.lora_down.weight": torch.ones(2, 24), f"lora_unet_{LAYER}.lora_up.weight": torch.ones(32, 2)}
STRANGE = {
    "an SDXL LoRA": ({**TWO, "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 4)},
                     "made for Stable Diffusion XL"),
    "an SDXL LoRA of the U-Net alone": ({f"lora_unet_{LAYER}.lora_down.weight": torch.ones(2, 2048),
                                         f"lora_unet_{LAYER}.lora_up.weight": torch.ones(32, 2)},
                                        "made for Stable Diffusion XL"),
    "an SDXL LoRA under the original names": (
        {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.ones(2, 2048),
         "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight": torch.ones(640, 2)},
        "made for Stable Diffusion XL"),
    "one for Stable Diffusion 2": ({f"lora_unet_{LAYER}.lora_down.weight": torch.ones(2, 1024),
                                    f"lora_unet_{LAYER}.lora_up.weight": torch.ones(32, 2)},
                                   "another base model, Stable Diffusion 2"),
    "one for Flux": ({"transformer.single_transformer_blocks.0.proj_out.lora_A.weight": torch.ones(2, 4)},
                     "made for Flux"),
    "one of other blocks": ({"lora_unet_input_blocks_99_1_proj_in.lora_down.weight": torch.ones(2, 4),
                             "lora_unet_input_blocks_99_1_proj_in.lora_up.weight": torch.ones(4, 2)},
                            "another base model"),
    "half a LoRA": ({f"lora_unet_{LAYER}.lora_down.weight": torch.ones(2, 24)}, "does not fit"),
    "an alpha alone": ({f"lora_unet_{LAYER}.alpha": torch.ones(1)}, "does not fit"),
    "a motion LoRA": ({"down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 4),
                       }, "motion modules of AnimateDiff"),
    "an OFT": ({f"lora_unet_{LAYER}.oft_blocks": torch.ones(2, 4, 4)}, "it is an OFT adapter"),
    "an (IA)^3": ({f"lora_unet_{LAYER}.weight": torch.ones(24), f"lora_unet_{LAYER}.on_input": torch.tensor(True)},
                  r"\(IA\)\^3"),
    "a GLoRA": ({f"lora_unet_{LAYER}.a1.weight": torch.ones(2, 2)}, "LyCORIS GLoRA"),
    "whole differences": ({**TWO, f"lora_unet_{LAYER}.diff_b": torch.ones(32)}, "LyCORIS file of whole differences"),
    "a control LoRA": ({"lora_controlnet": torch.ones(1), "time_embed.0.up": torch.ones(2, 2)}, "a control LoRA"),
    "a ControlNet": ({"control_model.zero_convs.0.0.weight": torch.ones(2)}, "it is a ControlNet"),
    "a textual inversion": ({"emb_params": torch.ones(1, 24)}, "it is a textual inversion"),
    "a word with its vectors": ({"<my-style>": torch.ones(2, 24)}, "it is a textual inversion"),
    "a checkpoint": ({"model.diffusion_model.out.0.weight": torch.ones(2)}, "it is a whole checkpoint"),
    "an unknown layout": ({"layers.weight": torch.ones(2)}, "'layers.weight' is of no kind of LoRA"),
    "nothing": ({}, "holds no weights"),
}  # fmt: skip


@pytest.mark.parametrize(("weights", "told"), STRANGE.values(), ids=STRANGE)
def test_what_is_not_read_is_told_by_its_name(weights, told, tmp_path):
    path = tmp_path / "strange.safetensors"
    save_file(weights, path)
    with pytest.raises(ModelUnavailableError, match=rf"LoRA '.*strange\.safetensors' .*{told}.*Take it out"):
        merged("unet", path)


def test_a_header_that_names_the_base_model_is_believed(tmp_path):
    path = tmp_path / "strange.safetensors"
    save_file(TWO, path, metadata={"ss_base_model_version": "sdxl_base_v1-0"})
    with pytest.raises(ModelUnavailableError, match="made for Stable Diffusion XL"):
        merged("unet", path)
    save_file(TWO, path, metadata={"lora_adapter_metadata": "no json"})
    with pytest.raises(ModelUnavailableError, match="what it says of its strength cannot be read"):
        merged("unet", path)


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path):
    torch.save({"a": Path("x")}, tmp_path / "bomb.bin")
    with pytest.raises(ModelUnavailableError, match=r"bomb\.bin' cannot be read: .*more than tensors"):
        merged("unet", tmp_path / "bomb.bin")


def test_words_that_a_lora_brings_are_told_and_the_rest_is_read(tmp_path):
    path = tmp_path / "pivotal.safetensors"
    save_file({**TWO, "bundle_emb.mine.string_to_param.*": torch.ones(1, 24)}, path)
    read, plain = (each.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight
                   for each in (merged("unet", path), network("unet")))  # fmt: skip
    assert torch.allclose(read - plain, torch.full((32, 24), 2.0), atol=SAME)  # of two rows of ones
    assert "brings words of its own (mine)" in note_on(path)
    save_file(TWO, path)
    assert note_on(path) == ""


def test_the_vocabulary_of_these_text_encoders_is_the_tokenizers():
    assert len(network("text_encoder").get_input_embeddings().weight) == VOCABULARY
