"""Real families through the same code: every entry of the catalog as a small checkpoint, laid out as on the hub.

The files lie where the hub library's cache has them, under the names that the catalog expects, and one class of each
kind of network stands for its real one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_networks import small_architecture

from bivdiff import catalog
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import loaders
from bivdiff.models.manager import ModelManager
from bivdiff.models.random_weights import TEXT_LENGTH
from bivdiff.own_models import parse_loras, read_catalog
from bivdiff.pipeline import last, run
from bivdiff.settings import Settings
from bivdiff.toybox import networks
from bivdiff.types import Control

SD15 = catalog.family("sd15")
IMAGE_MODELS = [(name, model) for name, task in catalog.TASKS.items() for model in task.image_models]
STEPS = {"num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}
ON_HUB = [
    spec for spec in SD15.components if spec.on_hub and spec.kind not in {"body_pose", "hed", "lineart", "normalbae",
                                                                          "pidinet"}
]  # fmt: skip
COMMIT = "a" * 40


def small(spec):
    """A random network of an entry's class, with no layer at zero."""
    from bivdiff.models.architectures import importlib

    shape = small_architecture(spec)
    kind = getattr(importlib.import_module(shape.module), shape.name)
    made = kind(kind.config_class(**shape.config)) if shape.module == "transformers" else kind(**shape.config)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return made


def save(spec, snapshot):
    """Write an entry's files as its repository has them: weights in half precision bear the variant in their name."""
    if spec.kind == "tokenizer":
        tokenizer = networks.build_tokenizer()
        tokenizer.model_max_length = TEXT_LENGTH
        tokenizer.save_pretrained(snapshot / spec.folder)
    elif spec.kind == "scheduler":
        networks.build_scheduler().save_pretrained(snapshot / spec.folder)
    elif spec.kind == "text_encoder":
        small(spec).save_pretrained(snapshot / spec.folder, variant=spec.variant or None)
    else:
        plain_bin = spec.kind == "t2i_adapter" or "zeroscope" in spec.repo  # these have nothing else
        small(spec).save_pretrained(
            snapshot / spec.folder, variant=spec.variant or None, safe_serialization=not plain_bin
        )  # fmt: skip


def save_vidrd(folder):
    """The released file: a training checkpoint with the weights of two networks in it."""
    videos = SD15.video_models["vidrd"]
    unet, text_encoder = small(videos.unet), small(videos.text_encoder)
    weights = {f"unet.{name}": tensor for name, tensor in unet.state_dict().items()}
    weights |= {f"text_encoder.text_model.{name}": tensor for name, tensor in text_encoder.state_dict().items()}
    folder.mkdir(parents=True)
    torch.save({"state_dict": weights, "epoch": 3}, folder / "ModelT2V.pth")


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    """A models folder with VidRD's file, and beside it the hub library's cache with everything else."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub")
    for spec in ON_HUB:
        repository = folder / "cache" / f"models--{spec.repo.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(COMMIT)
        save(spec, repository / "snapshots" / COMMIT)
    save_vidrd(folder / "models" / "VidRD")
    return folder


@pytest.fixture
def settings(hub_cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(loaders, "architecture_of", small_architecture)  # of VidRD, whose file has no config
    return Settings(device="cpu", models_folder=hub_cache / "models")


@pytest.fixture(scope="module")
def kept():
    """One manager for all tests of this module: each component is read once."""
    return {}


@pytest.fixture
def sd15(settings, kept):
    return kept.setdefault("manager", ModelManager(settings))


@pytest.mark.parametrize("spec", ON_HUB, ids=lambda spec: spec.key)
def test_every_entry_loads_from_where_the_hub_library_keeps_it(sd15, spec):
    assert sd15.state(spec) in {"on disk", "in memory", "on device"}
    with sd15.hold(spec) as (component,):
        assert type(component).__name__ in {
            "vae": "AutoencoderKL", "unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel",
            "tokenizer": "CLIPTokenizer", "scheduler": "DDIMScheduler", "controlnet": "ControlNetModel",
            "t2i_adapter": "T2IAdapter", "video_unet": "UNet3DConditionModel", "motion_unet": "UNetMotionModel",
            "depth_estimator": "DepthAnythingForDepthEstimation",
        }[spec.kind]  # fmt: skip
        if isinstance(component, torch.nn.Module):
            assert component.dtype == torch.float32
            assert not component.training


@pytest.mark.parametrize("spec", SD15.video_models["vidrd"].components[:2], ids=lambda spec: spec.kind)
def test_vidrd_loads_from_the_file_it_was_released_as(sd15, spec):
    with sd15.hold(spec) as (component,):
        assert type(component).__name__ == {"vidrd_unet": "VidRDUNet"}.get(spec.kind, "CLIPTextModel")
        assert all(torch.isfinite(parameter).all() for parameter in component.parameters())


def request_for(task, image_model, frames, **changes):
    masks = np.zeros(frames.shape[:3], np.uint8)
    masks[:, 16:48, 16:48] = 255
    needs = {"masks": masks if image_model == "inpainting" else None, "source_prompt": "a red cube", "seed": 3}
    return catalog.default_request(
        task, "sd15", frames, "a blue cube", image_model=image_model, **{**STEPS, **needs, **changes}
    )


@pytest.mark.parametrize(("task", "image_model"), IMAGE_MODELS)
def test_every_image_model_of_stable_diffusion_runs(sd15, source_frames, task, image_model):
    for kind in ("canny", "depth") if task == "control" else (None,):
        controls = {"controls": (Control(control_type=kind),)} if kind else {}
        result, other = (
            last(run(request_for(task, image_model, source_frames, video_prompt=text, **controls), sd15))
            for text in ("", "a sea of sand")
        )
        assert result.frames.shape == source_frames.shape
        assert result.frames.std() > 1
        assert np.array_equal(result.framewise_frames, other.framewise_frames)
        assert not np.array_equal(result.frames, other.frames)  # the video model's own text encoder read its prompt


@pytest.mark.parametrize("video_model", SD15.video_models)
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_every_video_model_inverts_and_smooths(sd15, source_frames, video_model, ratio):
    request = request_for("smooth", "given", source_frames, video_model=video_model, mixing_ratio=ratio)
    result = last(run(request, sd15))
    assert result.frames.std() > 1
    assert result.evaluations == {"inversion": 8 if ratio == 0 else 16, "smoothing": 16}
    again = last(run(request, sd15))
    assert np.array_equal(result.frames, again.frames)


def test_a_video_model_may_decode_with_its_own_autoencoder(sd15, source_frames, monkeypatch):
    request = request_for("smooth", "given", source_frames, video_model="vidrd")
    own = last(run(request, sd15)).frames
    model = replace(SD15.video_models["vidrd"], vae=None)
    monkeypatch.setitem(catalog.FAMILIES, "sd15", replace(SD15, video_models={"vidrd": model}))
    assert not np.array_equal(last(run(request, sd15)).frames, own)


class TestOwnModels:
    def test_a_folder_takes_the_bases_place_under_every_model_built_on_it(self, sd15, source_frames, tmp_path):
        for spec in (SD15.unet, SD15.text_encoder, SD15.tokenizer, SD15.vae):
            save(replace(spec, variant=""), tmp_path)
        request = request_for("control", "controlnet", source_frames, video_model="animatediff-v1-5-3")
        usual, own = (last(run(replace(request, base_model=base), sd15)) for base in ("", str(tmp_path)))
        assert not np.array_equal(usual.framewise_frames, own.framewise_frames)
        chosen = catalog.models_for(replace(request, base_model=str(tmp_path)))
        assert chosen.video_models["animatediff-v1-5-3"].unet.base == chosen.unet
        assert chosen.video_models["animatediff-v1-5-3"].text_encoder == chosen.text_encoder
        assert chosen.video_models["zeroscope"] == SD15.video_models["zeroscope"]
        assert chosen.controlnets == SD15.controlnets

    def test_a_base_that_does_not_go_with_the_rest_is_refused(self, sd15, source_frames, tmp_path):
        for spec in (SD15.text_encoder, SD15.tokenizer, SD15.vae):
            save(replace(spec, variant=""), tmp_path)
        small(SD15.inpainting).save_pretrained(tmp_path / "unet")
        with pytest.raises(ModelUnavailableError, match="reads 9 channels"):
            last(run(request_for("control", "controlnet", source_frames, base_model=str(tmp_path)), sd15))

    def test_what_is_not_there_is_told_by_name(self, sd15, source_frames):
        for base in ("/nowhere/at/all", "nobody/nothing", "missing.safetensors"):
            with pytest.raises(ModelUnavailableError, match=base.rpartition("/")[2]):
                last(run(request_for("smooth", "given", source_frames, base_model=base), sd15))

    def test_loras_are_read_with_their_scales(self):
        assert parse_loras("a.safetensors:0.8, owner/name,c:d:-1") == (
            ("a.safetensors", 0.8),
            ("owner/name", 1.0),
            ("c:d", -1.0),
        )
        for text in ("a:9", ":0.5"):
            with pytest.raises(InputError, match="colon"):
                parse_loras(text)

    def test_a_lora_changes_the_image_model_by_its_scale_and_leaves_nothing_else(self, sd15, source_frames, tmp_path):
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft import LoraConfig, get_peft_model_state_dict

        parts = {"unet": small(SD15.unet), "text_encoder": small(SD15.text_encoder)}
        targets = {"unet": ["to_k", "to_q"], "text_encoder": ["q_proj", "v_proj"]}
        layers = {}
        for name, part in parts.items():
            config = LoraConfig(r=2, lora_alpha=2, init_lora_weights="gaussian", target_modules=targets[name])
            part.add_adapter(config)
            for key, parameter in part.named_parameters():
                if "lora_B" in key:
                    torch.nn.init.normal_(parameter, std=0.3)
            layers[name] = convert_state_dict_to_diffusers(get_peft_model_state_dict(part))
        StableDiffusionPipeline.save_lora_weights(
            tmp_path, unet_lora_layers=layers["unet"], text_encoder_lora_layers=layers["text_encoder"]
        )
        file = next(tmp_path.glob("*.safetensors"))
        request = request_for("control", "controlnet", source_frames)
        frames = {
            loras: last(run(replace(request, loras=loras), sd15)).framewise_frames
            for loras in ("", f"{file}:0", f"{file}:1", f"{file}:-1")
        }
        assert np.array_equal(frames[""], frames[f"{file}:0"])
        assert not np.array_equal(frames[""], frames[f"{file}:1"])
        assert not np.array_equal(frames[f"{file}:-1"], frames[f"{file}:1"])
        chosen = catalog.models_for(replace(request, loras=str(file)))
        with sd15.hold(chosen.unet, chosen.text_encoder, SD15.unet, SD15.text_encoder) as models:
            for own, plain, part in ((models[0], models[2], "unet"), (models[1], models[3], "text_encoder")):
                assert [name for name, _ in own.named_parameters()] == [name for name, _ in plain.named_parameters()]
                moved = [
                    name for (name, mine), theirs in zip(own.named_parameters(), plain.parameters(), strict=True)
                    if not torch.equal(mine, theirs)
                ]  # fmt: skip
                assert moved
                assert all(any(target in name for target in targets[part]) for name in moved)

    def test_a_lora_that_would_change_nothing_is_told(self, sd15, source_frames, tmp_path):
        from safetensors.torch import save_file

        path = tmp_path / "stray.safetensors"
        save_file({"transformer.blocks.0.lora_A.weight": torch.randn(2, 8),
                   "transformer.blocks.0.lora_B.weight": torch.randn(8, 2)}, path)  # fmt: skip
        with pytest.raises(ModelUnavailableError, match=r"stray\.safetensors.*another base model"):
            last(run(request_for("control", "controlnet", source_frames, loras=str(path)), sd15))

    def test_a_lora_for_another_model_is_told(self, sd15, source_frames, tmp_path):
        from safetensors.torch import save_file

        weights = {"unet.mid_block.attentions.0.proj_in.lora.down.weight": torch.randn(2, 7),
                   "unet.mid_block.attentions.0.proj_in.lora.up.weight": torch.randn(7, 2)}  # fmt: skip
        save_file(weights, tmp_path / "other.safetensors")
        for path in (tmp_path / "other.safetensors", tmp_path / "missing.safetensors"):
            with pytest.raises(ModelUnavailableError, match=path.name):
                last(run(request_for("control", "controlnet", source_frames, loras=str(path)), sd15))

    def test_a_word_of_ones_own_is_read_as_its_vectors(self, sd15, source_frames, tmp_path):
        from safetensors.torch import save_file

        save_file({"<mine>": 3 * torch.randn(2, 24)}, tmp_path / "mine.safetensors")
        torch.save({"string_to_param": {"*": torch.randn(1, 24)}, "name": "other"}, tmp_path / "other.pt")
        both = f"{tmp_path / 'mine.safetensors'}, {tmp_path / 'other.pt'}"
        request = request_for("control", "controlnet", source_frames)
        chosen = catalog.models_for(replace(request, embeddings=both))
        with sd15.hold(chosen.tokenizer, chosen.text_encoder, SD15.tokenizer) as (tokenizer, text_encoder, plain):
            assert len(tokenizer) == len(plain) + 3
            rows = text_encoder.get_input_embeddings().weight
            assert len(rows) == len(tokenizer)
            assert rows[-3:-1].std() > 2  # the two vectors of the first file
            from bivdiff.models.personal import spell_out

            assert spell_out("a <mine> cube", tokenizer) == "a <mine> <mine>_1 cube"
            assert len(tokenizer(spell_out("a <mine> cube", tokenizer)).input_ids) == 6
        told, untold = (
            last(run(replace(request, prompt=text, embeddings=both), sd15)).framewise_frames
            for text in ("a <mine> cube", "a cube")
        )
        assert not np.array_equal(told, untold)

    @pytest.mark.parametrize("content", [{"a": torch.ones(3, 9)}, {"a": torch.ones(1), "b": torch.ones(1)}, None])
    def test_a_broken_word_is_told(self, sd15, source_frames, tmp_path, content):
        path = tmp_path / "word.pt"
        path.write_text("no tensors") if content is None else torch.save(content, path)
        with pytest.raises(ModelUnavailableError, match=r"word\.pt"):
            last(run(request_for("control", "controlnet", source_frames, embeddings=str(path)), sd15))


class TestCatalogFile:
    def read(self, tmp_path, text):
        (tmp_path / "mine.toml").write_text(text)
        return read_catalog(tmp_path / "mine.toml", catalog.FAMILIES)

    def test_it_adds_a_family_a_network_and_a_video_model(self, tmp_path):
        found = self.read(tmp_path, """
            [families.dreams]
            like = "sd15"
            title = "My dreams"
            base_model = "owner/dreams"
            loras = "style.safetensors:0.5"
            [families.sd15.controlnets.sketchy]
            repo = "owner/sketchy"
            [families.sd15.video_models.potat1]
            like = "zeroscope"
            repo = "camenduru/potat1"
            size = [1024, 576]
        """)  # fmt: skip
        assert found["dreams"].title == "My dreams"
        assert found["dreams"].unet.repo == "owner/dreams"
        assert found["dreams"].unet.loras == (("style.safetensors", 0.5),)
        assert found["sd15"].controlnets["sketchy"].repo == "owner/sketchy"
        assert found["sd15"].controlnets["canny"] == SD15.controlnets["canny"]
        video = found["sd15"].video_models["potat1"]
        assert (video.unet.repo, video.unet.size, video.window) == ("camenduru/potat1", (1024, 576), 24)
        assert video.text_encoder.repo == "camenduru/potat1"

    @pytest.mark.parametrize(("text", "named"), [
        ("[families.x]\nlike = 'sd9'", "sd9"),
        ("[families.sd15]\ncolour = 1", "colour"),
        ("[families.sd15.controlnets.x]\nfolder = 'a'", "repo"),
        ("[families.sd15.video_models.x]\nrepo = 'a/b'", "like"),
        ("no toml", "cannot be read"),
    ])  # fmt: skip
    def test_what_cannot_be_meant_is_told(self, tmp_path, text, named):
        with pytest.raises(InputError, match=named):
            self.read(tmp_path, text)


def test_a_repository_that_cannot_be_had_is_told_by_name(tmp_path, source_frames, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    request = catalog.default_request("smooth", "sd15", source_frames, "a cube")
    with pytest.raises(ModelUnavailableError, match=r"stable-diffusion-v1-5.*BIVDIFF_MODELS_FOLDER"):
        last(run(request, ModelManager(Settings(device="cpu", models_folder=tmp_path))))
