"""Small checkpoints in the layout of Stable Diffusion's own code: its names for layers, from diffusers' names."""

from __future__ import annotations

import re

import torch

from bivdiff.models.architectures import CLIP_VIT_L, SD15_UNET, SD15_VAE

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
