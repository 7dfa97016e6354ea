"""Video models with latents of their own behind the bridge: each entry at a small size, from its files on the disk."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from own_latents import OWN, SD15, request_for, snapshot_of
from torch.utils.flop_counter import FlopCounterMode

from bivdiff.bridge.known import known_content
from bivdiff.bridge.loaded import LoadedModels
from bivdiff.bridge.notes import notes_on
from bivdiff.bridge.pipeline import last, resolved, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter
from bivdiff.bridge.spaces import ClipSpace
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.own_catalog import read_catalog
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import estimate
from bivdiff.models.cost import evaluations_of
from bivdiff.models.loaders import KINDS
from bivdiff.models.loaders.kind import Footprint
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox import world
from bivdiff.types import GenerationResult

CLASSES = {
    "wan2.2-a14b": ["WanExperts", "UMT5EncoderModel", "FlowMatchEulerDiscreteScheduler", "AutoencoderKLWan"],
    "wan": ["WanTransformer3DModel", "UMT5EncoderModel", "FlowMatchEulerDiscreteScheduler", "AutoencoderKLWan"],
    "cogvideox": [
        "CogVideoXTransformer3DModel", "T5EncoderModel", "CogVideoXDDIMScheduler", "AutoencoderKLCogVideoX",
    ],
    "ltx": ["LTXVideoTransformer3DModel", "T5EncoderModel", "FlowMatchEulerDiscreteScheduler", "AutoencoderKLLTXVideo"],
}  # fmt: skip
"""Of network, text encoder, schedule and autoencoder, by how the name of a model begins."""
LATENTS = {"wan": 2, "cogvideox": 3, "ltx": 2}
"""That four frames take: CogVideoX decodes those after the first in pairs."""


def of(name, table):
    return next(value for start, value in table.items() if name.startswith(start))


@pytest.mark.parametrize("name", OWN)
def test_every_entry_loads_and_runs_and_gives_the_same_bits(own_manager, source_frames, name):
    request = request_for(source_frames, name, mixing_ratio=0.5)
    assert (request.frame_prior, request.smoothing_guidance_scale) == ("video", 1.0)
    result = last(run(request, own_manager))
    model = OWN[name]
    with own_manager.hold(model.unet, model.text_encoder, model.scheduler, model.vae, model.tokenizer) as components:
        assert [type(component).__name__ for component in components] == [*of(name, CLASSES), "T5Tokenizer"]
    # Of three steps two are walked, for each latent alone and for the clip; denoising asks once more.
    latents = of(name, LATENTS)
    assert result.evaluations == {"inversion": 4 * latents, "smoothing": 3 * latents}
    assert result.evaluations == evaluations_of(result.request)
    assert result.frames.shape == source_frames.shape
    assert result.frames.std() > 1
    assert np.array_equal(last(run(request, own_manager)).frames, result.frames)


@pytest.mark.parametrize("name", ["wan2.1-1.3b", "cogvideox-5b"])
def test_cancelled_between_any_two_events_it_holds_nothing(own_manager, source_frames, name):
    request = request_for(source_frames, name, mixing_ratio=0.5)
    events = sum(1 for _ in run(request, own_manager))
    for stop in range(1, events + 1):
        running = run(request, own_manager)
        for _ in range(stop):
            event = next(running)
        running.close()
        assert own_manager.held() == []
    assert isinstance(event, GenerationResult)


@pytest.mark.parametrize("name", ["wan2.1-1.3b", "cogvideox-2b"])
def test_what_is_known_around_a_mask_is_kept(own_manager, source_frames, name):
    masks = np.zeros(source_frames.shape[:3], np.uint8)
    masks[:, 16:32, 16:32] = 255
    request = replace(request_for(source_frames, name, mixing_ratio=0.0), masks=masks, feather=0)
    with ExitStack() as exits, torch.inference_mode():
        models = enter(resolved(request), own_manager, StageCache(), exits).models
        known = known_content(request, models)
        latents = of(name, LATENTS)
        assert known.latents.shape == (1, 16, latents, 8, 8)
        assert known.holes.sum().item() == latents * 2 * 2
    made = last(run(request, own_manager)).frames
    assert np.array_equal(made[masks == 0], source_frames[masks == 0])
    assert not np.array_equal(made[masks > 0], source_frames[masks > 0])


@pytest.mark.parametrize("name", ["wan2.1-1.3b", "cogvideox-5b", "ltx-0.9.5"])
def test_what_a_run_computes_is_what_was_estimated(own_manager, name, monkeypatch):
    """With the small networks' own footprints in the place of the real ones': within a quarter."""
    frames, model = world.render(world.sample_scene(3), 64, 64, 9).frames, OWN[name]
    request = request_for(frames, name, mixing_ratio=0.5)
    with own_manager.hold(*model.components) as (network, text_encoder, tokenizer, _, vae):
        words = KINDS[model.text_encoder.kind].read(tokenizer, text_encoder, "a blue cube")
        latents = ClipSpace(vae).encode(frames, 1)
        seen = latents.shape[2]

        def evaluated(count):
            return gflop(lambda: KINDS[model.unet.kind].call(network, latents[:, :, :count], torch.tensor(500), words))

        share = 64 * 64 / 512**2
        one, all_seen = evaluated(1) / share, evaluated(seen) / seen / share
        attention = (all_seen - one) / (seen - 1)
        prints = {model.unet: Footprint(one - attention, 0, attention / share)}
        prints[model.vae] = Footprint(gflop(lambda: ClipSpace(vae).decode(latents, 9, 1)) / seen / share, 0)
        encoding = Footprint(gflop(lambda: ClipSpace(vae).encode(frames, 1)) / seen / share, 0)
    monkeypatch.setattr(estimate, "footprint_of", lambda spec: prints.get(spec, Footprint(0, 0)))
    monkeypatch.setattr(estimate, "encoding_of", lambda _: encoding)
    monkeypatch.setattr(LoadedModels, "embed_for_video", lambda *_: words)  # reading is not counted, and not reckoned
    assert gflop(lambda: last(run(request, own_manager))) == pytest.approx(
        sum(estimate.operations(request).values()), rel=0.25
    )


def gflop(compute):
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops() / 1e9


def test_weights_of_words_are_told_where_the_video_model_reads_none(own_manager, source_frames):
    request = replace(request_for(source_frames, "cogvideox-2b"), prompt="a (blue:1.4) cube")
    with ExitStack() as exits, torch.inference_mode():
        session = enter(resolved(request), own_manager, StageCache(), exits)
        plain, weighed = (session.models.embed_for_video(text) for text in ("a blue cube", "a (blue:1.4) cube"))
        assert torch.equal(plain, weighed)
        (note,) = notes_on(request, session.models.parts, own_manager.settings)
    assert note == "The video model reads no weights of words, so in 'a (blue:1.4) cube' all weigh alike for it."


@pytest.mark.parametrize(("name", "length"), [("wan2.1-1.3b", 512), ("cogvideox-2b", 226), ("ltx-0.9.5", 256)])
def test_the_end_of_a_prompt_that_is_not_read_is_told(own_manager, source_frames, name, length):
    """By what the model reads, whatever its tokenizer says of itself."""
    words = "a " * (length - 1)
    for more, said in (("", []), ("cube", ["this end was ignored: 'cube'"])):
        request = replace(request_for(source_frames, name), prompt=(words + more).strip())
        with ExitStack() as exits, torch.inference_mode():
            session = enter(resolved(request), own_manager, StageCache(), exits)
            found = list(notes_on(request, session.models.parts, own_manager.settings))
        assert len(found) == len(said)
        assert all(part in note for part, note in zip(said, found, strict=True))


@pytest.mark.parametrize("name", OWN)
def test_the_memory_of_weights_is_known_before_they_are_read(own_manager, name):
    unread = ModelManager(own_manager.settings)
    expected = [unread.weight_bytes(spec) for spec in OWN[name].components]
    with own_manager.hold(*OWN[name].components) as components:
        modules = [part for part in components if isinstance(part, torch.nn.Module)]
        found = [sum(weight.nbytes for weight in module.parameters()) for module in modules]
    assert [count for count in expected if count] == pytest.approx(found, rel=1e-3)  # files hold statistics, too


def test_one_of_your_own_is_all_of_its_own_repository(tmp_path):
    catalog = tmp_path / "catalog.toml"
    catalog.write_text('[families.sd15.video_models.mine]\nlike = "wan2.2-a14b"\nrepo = "owner/name"\n')
    mine = read_catalog(catalog, FAMILIES)["sd15"].video_models["mine"]
    assert {spec.repo for spec in mine.components} == {"owner/name"}
    assert (mine.unet.folder, *mine.unet.also, mine.vae.folder) == ("transformer", "transformer_2", "vae")
    assert (mine.group, mine.multiple) == (4, 16)


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
    def repository(self, own_hub, tmp_path):
        """A models folder of one's own with the files of the smallest, to be damaged."""
        spec = OWN["wan2.1-1.3b"].unet
        shutil.copytree(snapshot_of(own_hub, "wan2.1-1.3b"), tmp_path / spec.repo)
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
        path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "WanVACETransformer3DModel"}))
        with pytest.raises(ModelUnavailableError, match=r"says that it is a WanVACETransformer3DModel"):
            self.run_there(repository, source_frames)

    @pytest.mark.parametrize(
        ("name", "config", "said"),
        [
            ("wan2.1-1.3b", {"_class_name": "DDIMScheduler", "beta_schedule": "linear"}, "no rectified flow's"),
            ("wan2.1-1.3b", {"_class_name": "FlowMatchX", "use_dynamic_shifting": True}, "depend on the size"),
            ("cogvideox-2b", {"_class_name": "DDIMScheduler"}, "not CogVideoX's"),
            (
                "cogvideox-2b",
                {"_class_name": "CogVideoXDPMScheduler", "rescale_betas_zero_snr": True, "prediction_type": "epsilon"},
                "predicts 'epsilon', and its levels end where that says nothing",
            ),
        ],
    )
    def test_levels_that_are_not_the_models(self, tmp_path, own_hub, source_frames, name, config, said):
        """Told before any other component is read."""
        repository = tmp_path / OWN[name].unet.repo
        shutil.copytree(snapshot_of(own_hub, name), repository)
        (repository / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
        manager = ModelManager(Settings(device="cpu", models_folder=tmp_path))
        with pytest.raises(ModelUnavailableError, match=said):
            last(run(request_for(source_frames, name), manager))
        assert manager.loaded() == []

    def test_weights_that_lack_a_layer(self, repository, source_frames):
        from safetensors.torch import load_file, save_file

        path = repository / "transformer" / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        del weights["proj_out.weight"]
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(ModelUnavailableError, match=r"1 of its weights are missing.*proj_out.weight"):
            self.run_there(repository, source_frames)

    def test_a_piece_of_the_repository_that_is_missing(self, repository, own_hub, source_frames, monkeypatch, tmp_path):
        from huggingface_hub import constants

        shutil.rmtree(repository / "text_encoder")
        others = f"models--{SD15.unet.repo.replace('/', '--')}"
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / others).symlink_to(own_hub / others)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        with pytest.raises(ModelUnavailableError, match=r"Wan-AI/Wan2.1-T2V-1.3B-Diffusers.*HF_HUB_OFFLINE"):
            self.run_there(repository, source_frames)
