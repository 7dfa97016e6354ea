"""Our generators and diffusers' own pipelines make the same latents from the same models and the same noise."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    UniPCMultistepScheduler,
)

from bivdiff.bridge import latents
from bivdiff.bridge.makers.control import Steering, controlnet_residuals, generate_with_control, t2i_adapter_residuals
from bivdiff.bridge.makers.inpaint import generate_with_inpainting, with_holes
from bivdiff.bridge.makers.instruct import generate_with_instruct_pix2pix
from bivdiff.bridge.prompts import encode_prompt
from bivdiff.bridge.sampling import initial_noise
from bivdiff.catalog.families import family_named

SAME_MATHS = 1e-4  # two orders of the same float32 sums
PROMPT, NEGATIVE, STEPS, GUIDANCE, SCALE = "a red cube", "dark", 3, 5.0, 0.7
SETTINGS = {"guidance_scale": GUIDANCE, "num_steps": STEPS, "batch_size": 3}
FAMILY = family_named("toybox")


@pytest.fixture(scope="module")
def models(manager):
    specs = {
        "vae": FAMILY.vae, "text_encoder": FAMILY.text_encoder, "tokenizer": FAMILY.tokenizer, "unet": FAMILY.unet,
        "scheduler": FAMILY.scheduler, "controlnet": FAMILY.networks["controlnet"]["canny"],
        "adapter": FAMILY.networks["t2i-adapter"]["canny"], "instruct": FAMILY.networks["instruct-pix2pix"]["unet"],
        "inpainting": FAMILY.networks["inpainting"]["unet"],
    }  # fmt: skip
    with manager.use(*specs.values()) as components, torch.inference_mode():
        yield dict(zip(specs, components, strict=True))


@pytest.fixture
def noise():
    return initial_noise((4, 4, 8, 8), 0.0, seed=3)


def embeds_of(models):
    texts = {"prompt_embeds": PROMPT, "negative_embeds": NEGATIVE}
    return {name: encode_prompt(models["tokenizer"], models["text_encoder"], text) for name, text in texts.items()}


def theirs(pipeline_class, models, noise, unet="unet", extra=None, scheduler=DDIMScheduler, **options):
    """What a pipeline of diffusers makes, latents `(F, C, h, w)`."""
    pipeline = pipeline_class(
        vae=models["vae"], text_encoder=models["text_encoder"], tokenizer=models["tokenizer"], unet=models[unet],
        scheduler=scheduler.from_config(models["scheduler"].config), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, **(extra or {}),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        [PROMPT] * 4, negative_prompt=[NEGATIVE] * 4, latents=noise,
        **{"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "latent", **options},
    ).images  # fmt: skip


def controlled(models, noise, controls, residuals, **changes):
    """Our steps with control networks, three frames at once."""
    return generate_with_control(
        models["unet"], models["scheduler"], noise, controls=controls, residuals=residuals, **embeds_of(models),
        **{**SETTINGS, **changes},
    )  # fmt: skip


def agree(steps, expected):
    *_, ours = steps
    return torch.allclose(latents.fold_frames(ours.latents), torch.as_tensor(expected), atol=SAME_MATHS)


def in_unit_range(frames):
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255


def test_controlnet(models, noise, source_frames):
    controls = [Steering(models["controlnet"], source_frames, SCALE, 0.0, 1.0)]
    steps = controlled(models, noise, controls, controlnet_residuals)
    assert agree(steps, theirs(
        StableDiffusionControlNetPipeline, models, noise, extra={"controlnet": models["controlnet"]},
        image=in_unit_range(source_frames), controlnet_conditioning_scale=SCALE,
    ))  # fmt: skip


def test_two_controlnets_in_shares_of_the_steps(models, noise, source_frames):
    controls = [
        Steering(models["controlnet"], source_frames, SCALE, 0.0, 0.7),
        Steering(models["controlnet"], 255 - source_frames, 0.4, 0.3, 1.0),
    ]
    steps = controlled(models, noise, controls, controlnet_residuals)
    assert agree(steps, theirs(
        StableDiffusionControlNetPipeline, models, noise, extra={"controlnet": [models["controlnet"]] * 2},
        image=[in_unit_range(source_frames), in_unit_range(255 - source_frames)],
        controlnet_conditioning_scale=[SCALE, 0.4], control_guidance_start=[0.0, 0.3],
        control_guidance_end=[0.7, 1.0],
    ))  # fmt: skip


def test_every_picture_of_a_batch_is_shown_the_map_of_its_frame_in_the_order_that_networks_round_alike(noise):
    """Four frames, each with and without the prompt, three at once: the second batch spans both."""
    maps, shown = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8), []

    def unet(pictures, *_):
        return SimpleNamespace(sample=torch.zeros_like(pictures))

    def residuals(pictures, _, embeds, guides, __):
        assert len(pictures) == len(embeds) == len(guides[0])
        shown.append(guides[0])
        return {}

    text = torch.zeros(1, 2, 3)
    list(generate_with_control(
        unet, DDIMScheduler(), noise, controls=[Steering(None, maps, 1.0, 0.0, 1.0)], residuals=residuals,
        prompt_embeds=text, negative_embeds=text, guidance_scale=2.0, num_steps=1, batch_size=3,
    ))  # fmt: skip
    assert [len(each) for each in shown] == [3, 3, 2]
    assert torch.equal(torch.cat(shown), in_unit_range(maps).repeat(2, 1, 1, 1))
    assert all(each.is_contiguous() for each in shown)


def test_t2i_adapter(models, noise, source_frames):
    controls = [Steering(models["adapter"], source_frames, SCALE, 0.0, 1.0)]
    steps = controlled(models, noise, controls, t2i_adapter_residuals)
    assert agree(steps, theirs(
        StableDiffusionAdapterPipeline, models, noise, extra={"adapter": models["adapter"]},
        image=in_unit_range(source_frames), adapter_conditioning_scale=SCALE,
    ))  # fmt: skip


def instructed(models, noise, source_frames, **changes):
    source = latents.fold_frames(latents.encode(models["vae"], source_frames, 8)) / models["vae"].config.scaling_factor
    return generate_with_instruct_pix2pix(
        models["instruct"], models["scheduler"], noise, source=source, **embeds_of(models), image_guidance_scale=1.5,
        **{**SETTINGS, **changes},
    )  # fmt: skip


def test_instruct_pix2pix(models, noise, source_frames):
    assert agree(instructed(models, noise, source_frames), theirs(
        StableDiffusionInstructPix2PixPipeline, models, noise, unet="instruct",
        image=in_unit_range(source_frames), image_guidance_scale=1.5,
    ))  # fmt: skip


SAMPLERS = {"dpm++": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_diffusers_own(models, noise, source_frames, sampler):
    """In five steps: these solvers look back at two steps, and end otherwise where there are fewer than 15."""
    controls = [Steering(models["controlnet"], source_frames, SCALE, 0.0, 1.0)]
    *steps, last = controlled(models, noise, controls, controlnet_residuals, sampler=sampler, num_steps=5)
    assert agree([last], theirs(
        StableDiffusionControlNetPipeline, models, noise, extra={"controlnet": models["controlnet"]},
        image=in_unit_range(source_frames), controlnet_conditioning_scale=SCALE, scheduler=SAMPLERS[sampler],
        num_inference_steps=5,
    ))  # fmt: skip
    assert [step.number for step in (*steps, last)] == [1, 2, 3, 4, 5]
    assert torch.allclose(last.latents, last.pred_original_sample, atol=0.05)  # where the last step led to


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_diffusers_own_where_a_picture_guides_too(models, noise, source_frames, sampler):
    *_, last = instructed(models, noise, source_frames, sampler=sampler)
    assert agree([last], theirs(
        StableDiffusionInstructPix2PixPipeline, models, noise, unet="instruct", scheduler=SAMPLERS[sampler],
        image=in_unit_range(source_frames), image_guidance_scale=1.5,
    ))  # fmt: skip


class TestGuidedShare:
    """The first steps are guided, and the others are told the prompt alone."""

    @pytest.mark.parametrize(
        ("sampler", "share", "guided"), [("ddim", 0.0, 0), ("ddim", 0.5, 2), ("ddim", 0.61, 3), ("dpm++", 0.4, 2)]
    )
    def test_of_control_networks(self, models, noise, source_frames, sampler, share, guided):
        control, embeds = Steering(models["controlnet"], source_frames, SCALE, 0.0, 1.0), embeds_of(models)
        *_, last = controlled(
            models, noise, [control], controlnet_residuals, sampler=sampler, num_steps=5, guided_share=share
        )
        scheduler = {"ddim": DDIMScheduler, **SAMPLERS}[sampler].from_config(models["scheduler"].config)
        scheduler.set_timesteps(5)
        pictures = noise

        def predicted(pictures, timestep, text):
            maps, text = in_unit_range(source_frames), text.expand(len(pictures), -1, -1)
            down, middle = models["controlnet"](pictures, timestep, text, maps, SCALE, return_dict=False)
            return models["unet"](
                pictures, timestep, text, down_block_additional_residuals=down, mid_block_additional_residual=middle
            ).sample

        for number, timestep in enumerate(scheduler.timesteps):
            found = predicted(pictures, timestep, embeds["prompt_embeds"])
            if number < guided:
                away = predicted(pictures, timestep, embeds["negative_embeds"])
                found = away + GUIDANCE * (found - away)
            pictures = scheduler.step(found, timestep, pictures).prev_sample
        assert agree([last], pictures)

    @pytest.mark.parametrize(("share", "guided"), [(0.0, 0), (0.5, 2)])
    def test_of_instructions_which_still_see_the_picture(self, models, noise, source_frames, share, guided):
        source = latents.fold_frames(latents.encode(models["vae"], source_frames, 8))
        source, embeds = source / models["vae"].config.scaling_factor, embeds_of(models)
        *_, last = instructed(models, noise, source_frames, num_steps=4, guided_share=share)
        scheduler = DDIMScheduler.from_config(models["scheduler"].config)
        scheduler.set_timesteps(4)
        pictures = noise

        def predicted(pictures, timestep, words, picture):
            text = embeds[words].expand(len(pictures), -1, -1)
            return models["instruct"](torch.cat([pictures, picture], 1), timestep, text).sample

        for number, timestep in enumerate(scheduler.timesteps):
            found = predicted(pictures, timestep, "prompt_embeds", source)
            if number < guided:
                seen = predicted(pictures, timestep, "negative_embeds", source)
                blind = predicted(pictures, timestep, "negative_embeds", torch.zeros_like(source))
                found = blind + GUIDANCE * (found - seen) + 1.5 * (seen - blind)
            pictures = scheduler.step(found, timestep, pictures).prev_sample
        assert agree([last], pictures)

    def test_of_holes(self, models, noise, source_frames):
        masks = np.zeros(source_frames.shape[:3], np.uint8)
        masks[:, 16:48, 8:40] = 255
        known = latents.fold_frames(latents.encode(models["vae"], with_holes(source_frames, masks), 8))
        holes, embeds = latents.latent_holes(masks, noise), embeds_of(models)
        *_, last = generate_with_inpainting(
            models["inpainting"], models["scheduler"], noise, holes=holes, known=known, **embeds, guided_share=0.5,
            **{**SETTINGS, "num_steps": 4},
        )  # fmt: skip
        scheduler = DDIMScheduler.from_config(models["scheduler"].config)
        scheduler.set_timesteps(4)
        pictures = noise
        for number, timestep in enumerate(scheduler.timesteps):
            shown = torch.cat([pictures, holes.to(pictures), known], 1)
            towards, away = (
                models["inpainting"](shown, timestep, embeds[words].expand(len(shown), -1, -1)).sample
                for words in ("prompt_embeds", "negative_embeds")
            )
            found = away + GUIDANCE * (towards - away) if number < 2 else towards
            pictures = scheduler.step(found, timestep, pictures).prev_sample
        assert agree([last], pictures)


def test_inpainting(models, noise, source_frames):
    masks = np.zeros(source_frames.shape[:3], np.uint8)
    masks[:, 16:48, 8:40] = 255  # on whole latents, so that both ways of shrinking it agree
    known = latents.fold_frames(latents.encode(models["vae"], with_holes(source_frames, masks), 8))
    steps = generate_with_inpainting(
        models["inpainting"], models["scheduler"], noise, holes=latents.latent_holes(masks, noise), known=known,
        **embeds_of(models), **SETTINGS,
    )  # fmt: skip
    assert agree(steps, theirs(
        StableDiffusionInpaintPipeline, models, noise, unet="inpainting", image=in_unit_range(source_frames),
        mask_image=torch.from_numpy(masks / 255)[:, None].float(), masked_image_latents=known, height=64, width=64,
    ))  # fmt: skip


def test_a_latent_is_a_hole_wherever_one_of_its_pixels_is():
    masks = np.zeros((1, 16, 16), np.uint8)
    masks[0, 15, 0] = 1  # a corner of the lower left latent, far from its middle
    holes = latents.latent_holes(masks, torch.zeros(1, 4, 2, 2))
    assert holes.tolist() == [[[[0, 0], [1, 0]]]]
