"""The toybox's networks before training: real diffusers and transformers classes at a small size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bivdiff.settings import ASSETS
from bivdiff.toybox import data

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import (
        AutoencoderKL,
        AutoencoderKLWan,
        ControlNetModel,
        DDIMScheduler,
        T2IAdapter,
        UNet2DConditionModel,
        UNet3DConditionModel,
        WanTransformer3DModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer, DepthAnythingForDepthEstimation

SHARD_SIZE = "9MB"
TEXT_LENGTH = 32  # tokens; twice what the longest caption needs
TEXT_WIDTH = 128
LATENT_SIZE = 16  # 128 pixels / 8
_CHANNELS = (64, 96, 112)
_HEAD_WIDTH = 16
_HEADS = tuple(channels // _HEAD_WIDTH for channels in _CHANNELS)  # diffusers calls their number attention_head_dim
_UNET = {
    "sample_size": LATENT_SIZE,
    "block_out_channels": _CHANNELS,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": TEXT_WIDTH,
}


def build_scheduler() -> DDIMScheduler:
    """The DDIM schedule of Stable Diffusion 1.5 (one scheduler serves all stages)."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="epsilon",
    )  # fmt: skip


def build_vae() -> AutoencoderKL:
    """Eightfold autoencoder with 4 latent channels, as Stable Diffusion's."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(24, 48, 96, 128), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, latent_channels=4, norm_num_groups=8,
        sample_size=data.SIZE, mid_block_add_attention=False,
    )  # fmt: skip


def build_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE with merges learnt from the world's words: each is one token, any other text several.

    The merges are those that were shipped. Learning them anew would break ties in another order, and give words the
    numbers of other words, which no trained text encoder knows.
    """
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(ASSETS / "toybox" / "tokenizer", local_files_only=True)


def build_text_encoder(vocab_size: int) -> CLIPTextModel:
    """Two-layer CLIP text model; its token ids are those of `build_tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(
        vocab_size=vocab_size, hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=TEXT_LENGTH, projection_dim=TEXT_WIDTH,
        bos_token_id=vocab_size - 2, eos_token_id=vocab_size - 1, pad_token_id=vocab_size - 1,
    ))  # fmt: skip


def build_unet(in_channels: int = 4) -> UNet2DConditionModel:
    """The image model; 8 input channels make an InstructPix2Pix, 9 an inpainting model."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        in_channels=in_channels, out_channels=4, attention_head_dim=_HEADS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), **_UNET,
    )  # fmt: skip


def build_video_unet() -> UNet3DConditionModel:
    """The video model: ZeroScope's class with the image model's widths."""
    from diffusers import UNet3DConditionModel

    return UNet3DConditionModel(
        in_channels=4, out_channels=4, attention_head_dim=_HEAD_WIDTH,
        down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"), **_UNET,
    )  # fmt: skip


def build_flow_vae() -> AutoencoderKLWan:
    """Wan 2.2's autoencoder at a small size: 16 pixels and four frames a latent, of 48 channels."""
    from diffusers import AutoencoderKLWan

    channels = 48
    return AutoencoderKLWan(
        base_dim=48, z_dim=channels, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[True, True],
        is_residual=True, patch_size=4, in_channels=3 * 16, out_channels=3 * 16, scale_factor_spatial=16,
        scale_factor_temporal=4, latents_mean=[0.0] * channels, latents_std=[1.0] * channels,
    )  # fmt: skip


def build_flow_transformer() -> WanTransformer3DModel:
    """Wan's transformer at a small size, a token for each latent place."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 1, 1), num_attention_heads=6, attention_head_dim=32, in_channels=48, out_channels=48,
        text_dim=TEXT_WIDTH, freq_dim=128, ffn_dim=768, num_layers=8,
    )  # fmt: skip


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet that starts as a copy of the image model's encoder."""
    from diffusers import ControlNetModel

    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 24, 48, 96))


def build_t2i_adapter() -> T2IAdapter:
    """A T2I-Adapter whose features meet the image model's three levels."""
    from diffusers import T2IAdapter

    return T2IAdapter(
        in_channels=3, channels=list(_CHANNELS), num_res_blocks=2, downscale_factor=8, adapter_type="full_adapter"
    )


def build_depth_estimator() -> DepthAnythingForDepthEstimation:
    """Depth Anything's class at a small size; it predicts inverse depth."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=96, num_hidden_layers=4, num_attention_heads=4, image_size=data.SIZE, patch_size=8,
        out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    return DepthAnythingForDepthEstimation(DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=96, patch_size=8, neck_hidden_sizes=[24, 48, 96, 96],
        fusion_hidden_size=32, head_in_index=-1, head_hidden_size=16, depth_estimation_type="relative",
    ))  # fmt: skip


def build_family() -> dict[str, Any]:
    """Every component of the family by the name of its folder, untrained."""
    tokenizer, unet = build_tokenizer(), build_unet()
    return {
        "vae": build_vae(),
        "text_encoder": build_text_encoder(len(tokenizer)),
        "tokenizer": tokenizer,
        "scheduler": build_scheduler(),
        "unet": unet,
        "controlnet-canny": build_controlnet(unet),
        "controlnet-depth": build_controlnet(unet),
        "t2i-adapter-canny": build_t2i_adapter(),
        "t2i-adapter-depth": build_t2i_adapter(),
        "instruct-pix2pix": build_unet(in_channels=8),
        "inpainting": build_unet(in_channels=9),
        "video_unet": build_video_unet(),
        "depth_estimator": build_depth_estimator(),
    }


def trainable(components: dict[str, Any]) -> dict[str, Any]:
    """Those of some components that are networks."""
    return {name: component for name, component in components.items() if hasattr(component, "parameters")}


def save_family(folder: Path, components: dict[str, Any]) -> None:
    """Write components in diffusers' folder layout: fp16 safetensors, sharded so that no file passes the limit."""
    for name, component in components.items():
        if name in trainable(components):
            component.half().save_pretrained(folder / name, max_shard_size=SHARD_SIZE)
            _forget_origin(folder / name / "config.json")
        else:
            component.save_pretrained(folder / name)


def _forget_origin(path: Path) -> None:
    """Take out of a config the folder that its weights were read from: it is one of the machine that trained them."""
    config = json.loads(path.read_text("utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
