"""Wan behind the bridge: its real classes at a small size, in the layout of its repositories, beside diffusers."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanVideoToVideoPipeline
from small_networks import small_network

from bivdiff.bridge.guidance import guided
from bivdiff.bridge.pipeline import last, resolved, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.sampling import step_through
from bivdiff.bridge.session import enter
from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import default_request
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models.cost import evaluations_of
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox import networks
from bivdiff.types import GenerationResult

SD15 = family_named("sd15")
WAN = {name: model for name, model in SD15.video_models.items() if name.startswith("wan")}
COMMIT = "a" * 40
SAME_MATHS = 1e-4  # two orders of the same float32 sums, over a few steps
STEPS = {"num_inversion_steps": 3, "num_smoothing_steps": 3, "start_level": 0.7}
UNIPC = UniPCMultistepScheduler(
    prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
)


def save(spec, snapshot):
    """Write an entry's files as its repository has them."""
    folder = snapshot / spec.folder
    if "tokenizer" in spec.kind:
        networks.build_tokenizer().save_pretrained(folder)
    elif spec.kind == "flow_scheduler":
        UNIPC.save_pretrained(folder)
    elif spec.kind == "scheduler":
        networks.build_scheduler().save_pretrained(folder)
    else:
        small_network(spec).save_pretrained(folder, variant=spec.variant or None)


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    """The hub library's cache with every Wan, and with the image model's parts that a run of given frames loads."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub")
    for spec in (*(spec for model in WAN.values() for spec in model.components), *SD15.shared):
        repository = folder / f"models--{spec.repo.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(COMMIT)
        save(spec, repository / "snapshots" / COMMIT)
    return folder


@pytest.fixture
def hub(hub_cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return hub_cache


@pytest.fixture(scope="module")
def kept():
    """One manager for all tests of this module: each component is read once."""
    return {}


@pytest.fixture
def manager(hub, kept):  # noqa: ARG001 - where the files are
    return kept.setdefault("manager", ModelManager(Settings(device="cpu")))


def request_for(frames, name, task="smooth", **changes):
    return default_request(task, "sd15", frames, "a blue cube", video_model=name, seed=3, **{**STEPS, **changes})


def snapshot_of(hub, name):
    return hub / f"models--{WAN[name].unet.repo.replace('/', '--')}" / "snapshots" / COMMIT


@pytest.mark.parametrize("name", WAN)
def test_every_entry_loads_and_runs_and_gives_the_same_bits(manager, source_frames, name):
    request = request_for(source_frames, name, mixing_ratio=0.5)
    assert (request.frame_prior, request.smoothing_guidance_scale) == ("video", 1.0)
    result = last(run(request, manager))
    with manager.hold(*WAN[name].components) as components:
        assert [type(component).__name__ for component in components] == [
            "WanTransformer3DModel", "UMT5EncoderModel", "CLIPTokenizer", "FlowMatchEulerDiscreteScheduler",
            "AutoencoderKLWan",
        ]  # fmt: skip
        assert components[3].config.shift == 3.0
    # Four frames are two latents; of three steps two are walked, and denoising asks once more.
    assert result.evaluations == evaluations_of(result.request) == {"inversion": 8, "smoothing": 6}
    assert result.frames.shape == source_frames.shape
    assert np.array_equal(last(run(request, manager)).frames, result.frames)


def test_cancelled_between_any_two_events_it_holds_nothing(manager, source_frames):
    request = request_for(source_frames, "wan2.1-1.3b", mixing_ratio=0.5)
    events = sum(1 for _ in run(request, manager))
    for stop in range(1, events + 1):
        running = run(request, manager)
        for _ in range(stop):
            event = next(running)
        running.close()
        assert manager.held() == []
    assert isinstance(event, GenerationResult)


def test_what_is_known_around_a_mask_is_kept(manager, source_frames):
    masks = np.zeros(source_frames.shape[:3], np.uint8)
    masks[:, 16:32, 16:32] = 255
    from bivdiff.bridge.known import known_content

    request = request_for(source_frames, "wan2.1-1.3b", "smooth", mixing_ratio=0.0)
    from dataclasses import replace

    request = replace(request, masks=masks, feather=0)
    with ExitStack() as exits, torch.inference_mode():
        models = enter(resolved(request), manager, StageCache(), exits).models
        known = known_content(request, models)
        assert known.latents.shape == (1, 16, 2, 8, 8)
        assert known.holes.sum().item() == 2 * 2 * 2
    made = last(run(request, manager)).frames
    assert np.array_equal(made[masks == 0], source_frames[masks == 0])
    assert not np.array_equal(made[masks > 0], source_frames[masks > 0])


class TestBesideDiffusers:
    """The same small weights in diffusers' own pipelines."""

    @pytest.fixture
    def parts(self, manager, source_frames):
        """The models of a run, and the components of a pipeline."""
        with torch.inference_mode(), manager.hold(*WAN["wan2.1-1.3b"].components):
            with ExitStack() as exits:  # what counts evaluations does not know how pipelines call
                models = enter(resolved(request_for(source_frames, "wan2.1-1.3b")), manager, StageCache(), exits).models
            components = {
                "tokenizer": models.video.tokenizer, "text_encoder": models.video.text_encoder,
                "transformer": models.video.unet, "vae": models.parts.video_vae,
                "scheduler": UniPCMultistepScheduler.from_config(UNIPC.config),
            }  # fmt: skip
            yield models, components

    @staticmethod
    def walked(models, latents, scheduler, num_steps, guidance_scale, part=slice(None)):
        prompts = [models.embed_for_video(text) for text in ("a blue cube", "a red cube")]
        steered = guided(models.video.predict, *prompts, guidance_scale)
        *_, step = step_through(steered, latents, scheduler, num_steps, part=part)
        return step.latents

    def test_words_are_read_alike(self, parts):
        models, components = parts
        theirs = WanPipeline(**components).encode_prompt(
            "a  blue cube &amp; more", None, False, max_sequence_length=512
        )[0]
        ours = models.embed_for_video("a  blue cube &amp; more")
        assert torch.allclose(ours, theirs, atol=SAME_MATHS)
        assert not ours[:, -1].any()

    @pytest.mark.parametrize("expanded", [False, True])
    def test_a_clip_of_a_prompt(self, parts, expanded):
        """Also where a pipeline tells each token its timestep, as that of Wan 2.2's 5B does: they are all one here."""
        models, components = parts
        noise = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
        theirs = WanPipeline(**components, expand_timesteps=expanded)(
            prompt="a blue cube", negative_prompt="a red cube", height=64, width=64, num_frames=5,
            num_inference_steps=3, guidance_scale=4.0, latents=noise, output_type="latent",
        ).frames  # fmt: skip
        ours = self.walked(models, noise, UniPCMultistepScheduler.from_config(UNIPC.config), 3, 4.0)
        assert torch.allclose(ours, theirs, atol=SAME_MATHS)

    def test_a_clip_of_a_clip(self, parts, source_frames):
        """Noised as far as the strength, and denoised from there."""
        models, components = parts
        frames = np.concatenate([source_frames, source_frames[:1]])
        theirs = WanVideoToVideoPipeline(**components)(
            video=[frame / 255 for frame in frames.astype(np.float32)],
            prompt_embeds=models.embed_for_video("a blue cube"),
            negative_prompt_embeds=models.embed_for_video("a red cube"), height=64, width=64,
            num_inference_steps=5, guidance_scale=4.0, strength=0.6,
            generator=torch.Generator().manual_seed(0), output_type="latent",
        ).frames  # fmt: skip
        scheduler = UniPCMultistepScheduler.from_config(UNIPC.config)
        scheduler.set_timesteps(5)
        clean = models.encode_for_video(frames)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        start = scheduler.add_noise(clean, noise, scheduler.timesteps[2:3])
        ours = self.walked(models, start, scheduler, 5, 4.0, slice(2, None))
        assert torch.allclose(ours, theirs, atol=SAME_MATHS)


class TestBadInput:
    """A sentence each, before anything is computed."""

    def test_the_papers_frame_noise_is_not_to_be_had(self, source_frames):
        with pytest.raises(InputError, match=r"'wan2.1-1.3b' has others. Choose 'The video model's, frame by frame'"):
            request_for(source_frames, "wan2.1-1.3b", frame_prior="image", mixing_ratio=0.5)
        request_for(source_frames, "wan2.1-1.3b", frame_prior="image", mixing_ratio=0.0)

    @pytest.mark.parametrize(("name", "side", "nearest"), [("wan2.1-1.3b", 72, 64), ("wan2.2-5b", 80, 64)])
    def test_sides_off_the_multiple(self, name, side, nearest):
        frames = np.zeros((4, side, 64, 3), np.uint8)
        with pytest.raises(
            InputError, match=rf"multiples of (16|32) pixels, and the clip has 64x{side}. Take 64x{nearest}"
        ):
            request_for(frames, name)

    @pytest.fixture
    def repository(self, hub, tmp_path):
        """A models folder of one's own with the files of the smallest, to be damaged."""
        spec = WAN["wan2.1-1.3b"].unet
        shutil.copytree(snapshot_of(hub, "wan2.1-1.3b"), tmp_path / spec.repo)
        return tmp_path / spec.repo

    def run_there(self, repository, frames):
        return last(
            run(
                request_for(frames, "wan2.1-1.3b"),
                ModelManager(Settings(device="cpu", models_folder=repository.parents[1])),
            )
        )

    def test_a_transformer_of_another_class(self, repository, source_frames):
        path = repository / "transformer" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "LTXVideoTransformer3DModel"}))
        with pytest.raises(ModelUnavailableError, match=r"says that it is a LTXVideoTransformer3DModel"):
            self.run_there(repository, source_frames)

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"_class_name": "DDIMScheduler", "beta_schedule": "linear"}, "no rectified flow's"),
            ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "depend on the size"),
        ],
    )
    def test_levels_that_are_no_flows(self, repository, source_frames, config, said):
        (repository / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
        with pytest.raises(ModelUnavailableError, match=said):
            self.run_there(repository, source_frames)

    def test_weights_that_lack_a_layer(self, repository, source_frames):
        from safetensors.torch import load_file, save_file

        path = repository / "transformer" / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        del weights["proj_out.weight"]
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(ModelUnavailableError, match=r"1 of its weights are missing.*proj_out.weight"):
            self.run_there(repository, source_frames)

    def test_a_piece_of_the_repository_that_is_missing(self, repository, hub, source_frames, monkeypatch, tmp_path):
        from huggingface_hub import constants

        shutil.rmtree(repository / "text_encoder")
        others = f"models--{SD15.unet.repo.replace('/', '--')}"
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / others).symlink_to(hub / others)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        with pytest.raises(ModelUnavailableError, match=r"Wan-AI/Wan2.1-T2V-1.3B-Diffusers.*HF_HUB_OFFLINE"):
            self.run_there(repository, source_frames)
