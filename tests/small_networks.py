"""The real networks' architectures made small: the same classes, in the same ratios where networks meet."""

from __future__ import annotations

from bivdiff.catalog.specs import ModelSpec
from bivdiff.models.architectures import Architecture
from bivdiff.models.loaders import architecture_of
from bivdiff.toybox.networks import build_tokenizer

VOCABULARY = len(build_tokenizer())  # as the real text encoders', it has as many words as their tokenizer
WIDTHS = [16, 32, 32, 32]  # four levels, as Stable Diffusion has
TEXT_WIDTHS = {768: 24, 1024: 40}
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
}


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
