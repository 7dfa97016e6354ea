"""The real networks' architectures made small: the same classes, in the same ratios where networks meet."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from bivdiff.catalog.specs import ModelSpec
from bivdiff.models.architectures import Architecture
from bivdiff.models.loaders import architecture_of
from bivdiff.toybox.networks import build_tokenizer

VOCABULARY = len(build_tokenizer())  # as the real text encoders', it has as many words as their tokenizer
WIDTHS = [16, 32, 32, 32]  # four levels, as Stable Diffusion has
TEXT_WIDTHS = {768: 24, 1024: 40}
_WAN = {
    "num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2
}  # fmt: skip
_T5 = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
SMALL = {
    "AutoencoderKL": {"block_out_channels": [8, 8, 16, 16], "layers_per_block": 1},
    "CLIPTextModel": {
        "vocab_size": VOCABULARY,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    },
    "ControlNetModel": {"conditioning_embedding_out_channels": [8, 8, 8, 8]},
    "T2IAdapter": {"channels": WIDTHS, "num_res_blocks": 1},
    "UNet3DConditionModel": {"attention_head_dim": 8},
    "MotionAdapter": {"motion_layers_per_block": 1, "motion_norm_num_groups": 8},
    "VidRDUNet": {"attention_head_dim": [2, 4, 4, 4]},
    "WanTransformer3DModel": _WAN,
    "WanExperts": _WAN,
    "AutoencoderKLWan": {"base_dim": 4, "decoder_base_dim": 4, "num_res_blocks": 1, "dim_mult": [1, 1, 1, 1]},
    "UMT5EncoderModel": _T5,
    "T5EncoderModel": _T5,
    "CogVideoXTransformer3DModel": {
        "num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 8, "text_embed_dim": 16, "num_layers": 2,
        "sample_width": 12, "sample_height": 8, "sample_frames": 9,
    },
    "LTXVideoTransformer3DModel": {
        "num_attention_heads": 2, "attention_head_dim": 16, "cross_attention_dim": 32, "in_channels": 8,
        "out_channels": 8, "num_layers": 2, "caption_channels": 16,
    },
    "AutoencoderKLLTXVideo": {
        "latent_channels": 8, "block_out_channels": [8, 16, 32, 64, 128], "layers_per_block": [1] * 5,
        "decoder_block_out_channels": [8, 16, 32], "decoder_layers_per_block": [1] * 4,
    },
    "AutoencoderKLCogVideoX": {"block_out_channels": [8, 8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4},
}  # fmt: skip


def small_architecture(spec: ModelSpec) -> Architecture:
    """The architecture of an entry of the catalog with its numbers made small."""
    return made_small(architecture_of(spec))


def made_small(real: Architecture) -> Architecture:
    usual = {"block_out_channels": WIDTHS, "layers_per_block": 1, "norm_num_groups": 8}
    config = {**real.config, **{name: value for name, value in usual.items() if name in real.config}}
    for name in ("cross_attention_dim", "hidden_size"):
        if name in config:
            config[name] = TEXT_WIDTHS[config[name]]
    return real._replace(config={**config, **SMALL.get(real.name, {})})


def small_network(spec: ModelSpec) -> Any:
    """A random network of an entry's class, with no layer at zero."""
    shape = small_architecture(spec)
    kind = getattr(importlib.import_module(shape.module), shape.name)
    made = kind(kind.config_class(**shape.config)) if shape.module == "transformers" else kind(**shape.config)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return made
