"""Real families through the same code: small random models of the very same classes, laid out as their repositories."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bivdiff import catalog
from bivdiff.errors import ModelUnavailableError
from bivdiff.models.manager import ModelManager
from bivdiff.pipeline import last, run
from bivdiff.settings import Settings
from bivdiff.toybox import networks
from bivdiff.types import Control

WIDTHS = (16, 32, 32, 32)  # four levels, as Stable Diffusion has
TEXT_WIDTH, VIDEO_TEXT_WIDTH = 24, 40  # ZeroScope reads another text encoder than Stable Diffusion, of another width
IMAGE_MODELS = [(name, model) for name, task in catalog.TASKS.items() for model in task.image_models]


def image_unet(in_channels: int = 4):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8, in_channels=in_channels, out_channels=4, layers_per_block=1, block_out_channels=WIDTHS,
        norm_num_groups=8, cross_attention_dim=TEXT_WIDTH, attention_head_dim=8,
    )  # fmt: skip


def video_unet():
    from diffusers import UNet3DConditionModel

    return UNet3DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=WIDTHS,
        norm_num_groups=8, cross_attention_dim=VIDEO_TEXT_WIDTH, attention_head_dim=8,
    )  # fmt: skip


def text_encoder(tokenizer, width: int):
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1,
        num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length,
    ))  # fmt: skip


def component(spec: catalog.ModelSpec, family: catalog.Family):
    """A small random model of the class that `spec` names, shaped as its family needs it."""
    from diffusers import AutoencoderKL, ControlNetModel, T2IAdapter

    video = family.video_models["zeroscope"]
    tokenizer = networks.build_tokenizer()
    if spec.kind == "unet":
        return image_unet({family.instruct_pix2pix: 8, family.inpainting: 9}.get(spec, 4))
    if spec.kind == "text_encoder":
        return text_encoder(tokenizer, VIDEO_TEXT_WIDTH if spec == video.text_encoder else TEXT_WIDTH)
    makers = {
        "vae": lambda: AutoencoderKL(
            block_out_channels=(8, 8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=8,
            up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4,
        ),
        "tokenizer": lambda: tokenizer,
        "scheduler": networks.build_scheduler,
        "video_unet": video_unet,
        "controlnet": lambda: ControlNetModel.from_unet(image_unet(), conditioning_embedding_out_channels=(8, 8, 8, 8)),
        "t2i_adapter": lambda: T2IAdapter(
            in_channels=1 if "canny" in spec.repo else 3, channels=list(WIDTHS), num_res_blocks=1, downscale_factor=8
        ),
        "depth_estimator": networks.build_depth_estimator,
    }  # fmt: skip
    return makers[spec.kind]()


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    """A manager whose models folder holds every component of the family that these tests use."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    family = catalog.family("sd15")
    video = family.video_models["zeroscope"]
    specs = {
        family.vae, family.text_encoder, family.tokenizer, family.scheduler, family.unet, video.unet,
        video.text_encoder, video.tokenizer, family.instruct_pix2pix, family.inpainting, family.annotators["depth"],
        *(networks_[kind] for networks_ in (family.controlnets, family.t2i_adapters) for kind in ("canny", "depth")),
    }  # fmt: skip
    for spec in sorted(specs, key=repr):
        made = component(spec, family)
        for parameter in made.parameters() if isinstance(made, torch.nn.Module) else ():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
        made.save_pretrained(folder / spec.repo / spec.folder)
    return ModelManager(Settings(device="cpu", models_folder=folder))


@pytest.mark.parametrize(("task", "image_model"), IMAGE_MODELS)
def test_every_image_model_of_stable_diffusion_runs(sd15, source_frames, task, image_model):
    masks = np.zeros(source_frames.shape[:3], np.uint8)
    masks[:, 16:48, 16:48] = 255
    steps = {"num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}
    kinds = ("canny", "depth") if task == "control" else (None,)
    for kind in kinds:
        needs = {
            "controls": (Control(control_type=kind),) if kind else None, "source_prompt": "a red cube",
            "masks": masks if image_model == "inpainting" else None,
        }  # fmt: skip
        request = catalog.default_request(
            task, "sd15", source_frames, "a blue cube", image_model=image_model, seed=3, **steps, **needs
        )
        result = last(run(request, sd15))
        assert result.frames.shape == source_frames.shape
        assert result.frames.std() > 1
        other = last(run(catalog.default_request(
            task, "sd15", source_frames, "a blue cube", image_model=image_model, seed=3, video_prompt="a sea of sand",
            **steps, **needs,
        ), sd15))  # fmt: skip
        assert np.array_equal(result.framewise_frames, other.framewise_frames)
        assert not np.array_equal(result.frames, other.frames)  # the video model's own text encoder read its prompt


def test_a_repository_that_cannot_be_had_is_told_by_name(tmp_path, source_frames, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    request = catalog.default_request("smooth", "sd15", source_frames, "a cube")
    with pytest.raises(ModelUnavailableError, match=r"stable-diffusion-v1-5/vae.*BIVDIFF_MODELS_FOLDER"):
        last(run(request, ModelManager(Settings(device="cpu", models_folder=tmp_path))))
