"""What every image model of a family is made of: U-Net, autoencoder, text encoder, tokenizer, noise schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bivdiff.models.architectures import CLIP_VIT_L, SD15_UNET, SD15_VAE, Architecture
from bivdiff.models.loaders.kind import Footprint, Kind, Source, diffusers_loader, or_single_file, transformers_loader

if TYPE_CHECKING:
    from torch import nn


def _unet(source: Source) -> nn.Module:
    from bivdiff.models.loras import merge_loras

    plain = or_single_file(diffusers_loader("UNet2DConditionModel"))(source)
    return merge_loras(plain, "unet", source.loras)


def _text_encoder(source: Source) -> nn.Module:
    from bivdiff.models.embeddings import widen_text_encoder
    from bivdiff.models.loras import merge_loras

    plain = or_single_file(transformers_loader("CLIPTextModel"))(source)
    merged = merge_loras(plain, "text_encoder", source.loras)
    return widen_text_encoder(merged, source.embeddings)


def _tokenizer(source: Source) -> Any:
    from transformers import CLIPTokenizer

    from bivdiff.models.embeddings import widen_tokenizer

    tokenizer = CLIPTokenizer.from_pretrained(source.root, subfolder=source.spec.folder, local_files_only=True)
    return widen_tokenizer(tokenizer, source.embeddings)


def _scheduler(source: Source) -> Any:
    """A schedule the bridge can walk both ways: DDIM over the model's own noise levels.

    Inversion and denoising must meet the same timesteps, whatever sampler the model was released with: so spacing and
    offset are Stable Diffusion's.

    Raises:
        ValueError: the model is no diffusion model with noise levels of that kind.
    """
    from diffusers import DDIMScheduler

    spec = source.spec
    config = DDIMScheduler.load_config(source.root, subfolder=spec.folder, local_files_only=True)
    if "Flow" in config.get("_class_name", "") or config.get("beta_schedule") is None:
        raise ValueError(f"Its sampler is {config.get('_class_name')}, and DDIM cannot invert such a model.")
    walkable = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False,
                "thresholding": False}  # fmt: skip
    return DDIMScheduler.from_config({**config, **dict(spec.config), **walkable})


KINDS = {
    "vae": Kind(
        title="autoencoder", alone=True, load=or_single_file(diffusers_loader("AutoencoderKL")),
        architecture=Architecture("diffusers", "AutoencoderKL", SD15_VAE),
        footprint=Footprint(2515, 402.7e6), encoding=Footprint(1117, 335.5e6), codes="pictures",
    ),
    "unet": Kind(
        title="image model", alone=True, load=_unet, in_every_step=True,
        architecture=Architecture("diffusers", "UNet2DConditionModel", SD15_UNET), footprint=Footprint(803, 68.2e6),
    ),
    "text_encoder": Kind(
        title="text encoder", alone=True, load=_text_encoder, by_transformers=True,
        architecture=Architecture("transformers", "CLIPTextModel", CLIP_VIT_L),
    ),
    "tokenizer": Kind(title="tokenizer", load=_tokenizer, holds="tokenizer"),
    "scheduler": Kind(title="noise schedule", load=_scheduler, holds="schedule"),
}  # fmt: skip
