"""The shapes of the real networks: their configs as published, so that they can be built without asking a hub."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import nn

_WIDTHS = [320, 640, 1280, 1280]
_ENCODER: dict[str, Any] = {
    "in_channels": 4, "flip_sin_to_cos": True, "freq_shift": 0,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "block_out_channels": _WIDTHS,
    "layers_per_block": 2, "downsample_padding": 1, "mid_block_scale_factor": 1, "act_fn": "silu",
    "norm_num_groups": 32, "norm_eps": 1e-5, "cross_attention_dim": 768, "attention_head_dim": 8,
}  # fmt: skip

SD15_UNET: dict[str, Any] = {
    **_ENCODER, "sample_size": 64, "out_channels": 4, "center_input_sample": False,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}  # fmt: skip
"""Stable Diffusion 1.5. InstructPix2Pix and the inpainting model differ in the input channels alone."""

SD15_VAE: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": 512, "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512], "act_fn": "silu", "norm_num_groups": 32, "scaling_factor": 0.18215,
}  # fmt: skip
"""Stable Diffusion 1.x's and 2.x's."""

_CLIP: dict[str, Any] = {
    "vocab_size": 49408, "max_position_embeddings": 77, "layer_norm_eps": 1e-5, "attention_dropout": 0.0,
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
}  # fmt: skip
CLIP_VIT_L: dict[str, Any] = {
    **_CLIP, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "hidden_act": "quick_gelu", "projection_dim": 768,
}  # fmt: skip
CLIP_VIT_H: dict[str, Any] = {
    **_CLIP, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
    "hidden_act": "gelu", "projection_dim": 512,
}  # fmt: skip
"""OpenCLIP's, without the last of its 24 layers, as Stable Diffusion 2.1 and ModelScope read it."""

CONTROLNET: dict[str, Any] = {
    **_ENCODER, "conditioning_embedding_out_channels": [16, 32, 96, 256],
    "controlnet_conditioning_channel_order": "rgb",
}  # fmt: skip
T2I_ADAPTER: dict[str, Any] = {
    "in_channels": 3, "channels": _WIDTHS, "num_res_blocks": 2, "downscale_factor": 8, "adapter_type": "full_adapter"
}  # fmt: skip
MODELSCOPE_UNET: dict[str, Any] = {
    "sample_size": 32, "in_channels": 4, "out_channels": 4, "down_block_types": ["CrossAttnDownBlock3D"] * 3
    + ["DownBlock3D"], "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3, "block_out_channels": _WIDTHS,
    "layers_per_block": 2, "downsample_padding": 1, "mid_block_scale_factor": 1, "act_fn": "silu",
    "norm_num_groups": 32, "norm_eps": 1e-5, "cross_attention_dim": 1024, "attention_head_dim": 64,
}  # fmt: skip
MOTION_ADAPTER: dict[str, Any] = {
    "block_out_channels": _WIDTHS, "motion_layers_per_block": 2, "motion_num_attention_heads": 8,
    "motion_norm_num_groups": 32, "motion_max_seq_length": 32, "use_motion_mid_block": False,
}  # fmt: skip
"""AnimateDiff v1-5-3; v1-5-2 has motion modules in the middle block, too."""

VIDRD_UNET: dict[str, Any] = {
    "sample_size": 32, "in_channels": 4, "out_channels": 4, "flip_sin_to_cos": True, "freq_shift": 0,
    "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
    "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3, "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2, "downsample_padding": 1, "mid_block_scale_factor": 1, "act_fn": "silu",
    "norm_num_groups": 32, "norm_eps": 1e-5, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True, "upcast_attention": False, "add_temp_embed": True, "add_temp_conv": True,
}  # fmt: skip
"""VidRD: Stable Diffusion 2.1 base with both kinds of temporal layer, trained on at 256x256 pixels."""
VIDRD_UNET_PREFIX, VIDRD_TEXT_PREFIX = "unet.", "text_encoder."
"""How the names of each component's weights begin in its released checkpoint."""

DEPTH_ANYTHING: dict[str, Any] = {
    "backbone_config": {
        "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6,
        "image_size": 518, "patch_size": 14, "out_indices": [3, 6, 9, 12], "apply_layernorm": True,
        "reshape_hidden_states": False,
    },
    "patch_size": 14, "reassemble_hidden_size": 384, "reassemble_factors": [4, 2, 1, 0.5],
    "neck_hidden_sizes": [48, 96, 192, 384], "fusion_hidden_size": 64, "head_in_index": -1, "head_hidden_size": 32,
    "depth_estimation_type": "relative",
}  # fmt: skip
"""Depth Anything V2 Small."""

WAN_1_3B: dict[str, Any] = {
    "patch_size": [1, 2, 2], "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16,
    "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960, "num_layers": 30,
}  # fmt: skip
WAN_14B: dict[str, Any] = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
"""What the larger one has otherwise."""
WAN_VAE: dict[str, Any] = {
    "base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
}  # fmt: skip
"""Wan 2.1's."""
WAN_22_VAE: dict[str, Any] = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "patch_size": 2, "in_channels": 12,
    "out_channels": 12, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip
"""What Wan 2.2's has otherwise; its statistics are in its files."""
COGVIDEOX_2B: dict[str, Any] = {
    "num_attention_heads": 30, "attention_head_dim": 64, "in_channels": 16, "out_channels": 16, "time_embed_dim": 512,
    "text_embed_dim": 4096, "num_layers": 30, "sample_width": 90, "sample_height": 60, "sample_frames": 49,
    "patch_size": 2, "temporal_compression_ratio": 4, "max_text_seq_length": 226,
    "use_rotary_positional_embeddings": False,
}  # fmt: skip
COGVIDEOX_VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 256, 512], "latent_channels": 16, "layers_per_block": 3, "norm_num_groups": 32,
    "temporal_compression_ratio": 4, "scaling_factor": 1.15258426,
}  # fmt: skip
LTX_2B: dict[str, Any] = {
    "num_attention_heads": 32, "attention_head_dim": 64, "in_channels": 128, "out_channels": 128, "num_layers": 28,
    "caption_channels": 4096,
}  # fmt: skip
LTX_VAE: dict[str, Any] = {
    "latent_channels": 128, "block_out_channels": [128, 256, 512, 1024, 2048], "layers_per_block": [4, 6, 6, 2, 2],
    "down_block_types": ["LTXVideo095DownBlock3D"] * 4, "spatio_temporal_scaling": [True] * 4,
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "decoder_block_out_channels": [256, 512, 1024], "decoder_layers_per_block": [5, 5, 5, 5],
    "decoder_spatio_temporal_scaling": [True] * 3, "decoder_inject_noise": [False] * 4,
    "upsample_residual": [True] * 3, "upsample_factor": [2, 2, 2], "timestep_conditioning": True,
    "spatial_compression_ratio": 32, "temporal_compression_ratio": 8,
}  # fmt: skip
"""Of version 0.9.5; its statistics are in its files."""
COGVIDEOX_LEVELS: dict[str, Any] = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "snr_shift_scale": 3.0,
    "timestep_spacing": "trailing",
}  # fmt: skip
"""Those of the 2B; the 5B's are not shifted."""
T5_XXL: dict[str, Any] = {
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip
"""Version 1.1."""
UMT5_XXL: dict[str, Any] = {**T5_XXL, "vocab_size": 256384}


class Architecture(NamedTuple):
    """A network without its weights: the module its class is in, the class's name, and the config."""

    module: str
    name: str
    config: Mapping[str, Any]


CHANGES: Mapping[str, Mapping[str, Any]] = {
    "sd15/instruct-pix2pix": {"in_channels": 8},
    "sd15/inpainting": {"in_channels": 9},
    "sd15/controlnet-shuffle": {"global_pool_conditions": True},
    "sd15/t2i-adapter-canny": {"in_channels": 1},
    "sd15/t2i-adapter-sketch": {"in_channels": 1},
    "sd15/zeroscope-text-encoder": CLIP_VIT_H,
    "sd15/modelscope-text-encoder": CLIP_VIT_H,
    "sd15/animatediff-v1-5-2": {"use_motion_mid_block": True},
    "wan2.1-14b/transformer": WAN_14B,
    "wan2.2-5b/transformer": {
        "num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48,
    },
    "wan2.2-5b/vae": WAN_22_VAE,
    "cogvideox-5b/transformer": {
        "num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True,
    },
    "cogvideox-5b/vae": {"scaling_factor": 0.7},
}  # fmt: skip
"""What an entry has otherwise than most of its kind, by its key."""


def build_empty(architecture: Architecture) -> nn.Module:
    """The network with its parameters on torch's meta device, where they take no memory; its buffers are real."""
    from accelerate import init_empty_weights

    kind = getattr(importlib.import_module(architecture.module), architecture.name)
    with init_empty_weights(include_buffers=False):
        if architecture.module == "transformers":
            return kind(kind.config_class(**architecture.config))
        return kind(**architecture.config)
