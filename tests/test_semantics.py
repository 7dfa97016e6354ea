"""CLIP and DINO: the numbers that transformers gives by hand, both conventions, and no score without its weights.

Small random networks of the real classes lie in a models folder under the names of the real repositories.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, ViTConfig, ViTImageProcessor, ViTModel

from bivdiff.catalog.requests import default_request
from bivdiff.catalog.scoring import SCORING
from bivdiff.compare.scores import TITLES, Scorer
from bivdiff.compare.semantics import semantic_scores
from bivdiff.errors import ModelUnavailableError
from bivdiff.models import hub
from bivdiff.models.inventory import check, find_specs, inventory, named_specs
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox.networks import build_tokenizer

PROMPT = "a red cube on a green floor at noon"
CLIP_KEYS = {"clip_frame_consistency", "clip_frame_consistency_all_pairs", "clip_prompt_alignment"}
KEYS = {*CLIP_KEYS, "dino_subject_consistency"}
SIDE = 32
LAYERS = {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 24}
PICTURES = {"image_size": SIDE, "patch_size": 8}
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """CLIP, its tokenizer and DINO, and the models folder that they are saved in."""
    torch.manual_seed(0)
    folder, tokenizer = tmp_path_factory.mktemp("models"), build_tokenizer()
    words = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 16}
    clip = CLIPModel(
        CLIPConfig(text_config={**LAYERS, **words}, vision_config={**LAYERS, **PICTURES}, projection_dim=20)
    ).eval()
    dino = ViTModel(ViTConfig(**LAYERS, **PICTURES, encoder_stride=8), add_pooling_layer=False).eval()
    for network in (clip, dino):
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:  # far enough from zero for pictures to lie apart
                torch.nn.init.normal_(parameter, std=0.02 if "position" in name or "cls_token" in name else 0.4)
    clip.save_pretrained(folder / SCORING["clip"].repo)
    tokenizer.save_pretrained(folder / SCORING["clip"].repo)
    dino.save_pretrained(folder / SCORING["dino"].repo)
    return clip, tokenizer, dino, folder


@pytest.fixture
def settings(networks, toybox_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    return Settings(device="cpu", toybox_folder=toybox_folder, models_folder=networks[-1])


@pytest.fixture
def manager(settings):
    return ModelManager(settings)


@pytest.fixture
def clip_frames():
    """Four pictures that have little in common, uint8 `(4, 48, 80, 3)`, wide."""
    rng = np.random.default_rng(0)
    return np.stack([
        np.repeat(np.repeat(rng.integers(0, 256, (size, size, 3), np.uint8), 48 // size, 0), 80 // size, 1)
        for size in (2, 4, 8, 16)
    ])  # fmt: skip


def mean(values):
    return float(np.mean([float(value) for value in values]))


@torch.no_grad()
def test_clip_gives_what_transformers_gives_by_hand(networks, manager, clip_frames):
    """The whole model at once, as its card has it: its logits are cosines times a scale."""
    clip, tokenizer, _, _ = networks
    prepare = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    pixels = prepare([Image.fromarray(frame) for frame in clip_frames], return_tensors="pt").pixel_values
    told = clip(pixel_values=pixels, **tokenizer([PROMPT], return_tensors="pt"))
    similar = [cosine_similarity(*pair, dim=0) for pair in pairwise(told.image_embeds)]
    every = [cosine_similarity(*pair, dim=0) for pair in combinations(told.image_embeds, 2)]
    assert len(every) == 6
    scores = semantic_scores(clip_frames, PROMPT, manager)
    assert scores["clip_frame_consistency"] == pytest.approx(mean(similar), abs=ROUNDING)
    assert scores["clip_frame_consistency_all_pairs"] == pytest.approx(mean(every), abs=ROUNDING)
    alignment = mean(told.logits_per_image[:, 0] / clip.logit_scale.exp()) * 100
    assert scores["clip_prompt_alignment"] == pytest.approx(alignment, abs=100 * ROUNDING)
    assert abs(alignment) > 0.1  # so that the above says something


@torch.no_grad()
def test_dino_gives_what_transformers_gives_by_hand(networks, manager, clip_frames):
    """VBench's loop: every frame beside the one before it and the first, each at least 0."""
    dino = networks[2]
    prepare = ViTImageProcessor(
        size={"shortest_edge": SIDE}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )
    found = []
    for number, frame in enumerate(clip_frames):
        pixels = prepare(Image.fromarray(frame), return_tensors="pt").pixel_values
        assert pixels.shape[-1] > pixels.shape[-2] == SIDE
        feature = dino(pixels, interpolate_pos_encoding=True).last_hidden_state[0, 0]
        if number == 0:
            first = feature
        else:
            pair = (cosine_similarity(feature, other, dim=0).clamp(min=0) for other in (before, first))  # noqa: F821
            found.append(sum(pair) / 2)
        before = feature  # noqa: F841
    told = semantic_scores(clip_frames, PROMPT, manager)["dino_subject_consistency"]
    assert told == pytest.approx(mean(found), abs=ROUNDING)
    assert 0 < told < 0.99


def test_frames_that_are_all_the_same_are_wholly_consistent(manager, clip_frames):
    scores = semantic_scores(np.repeat(clip_frames[:1], 5, 0), PROMPT, manager)
    for key in KEYS - {"clip_prompt_alignment"}:
        assert scores[key] == pytest.approx(1, abs=ROUNDING)


def test_the_two_conventions_differ_where_a_clip_comes_back_to_where_it_was(manager, clip_frames):
    """Two pictures in turns: consecutive frames are never alike, but two of six pairs are the same picture."""
    scores = semantic_scores(clip_frames[[0, 3, 0, 3]], PROMPT, manager)
    apart = scores["clip_frame_consistency"]
    assert apart < 0.99
    assert scores["clip_frame_consistency_all_pairs"] == pytest.approx((2 + 4 * apart) / 6, abs=ROUNDING)


def test_a_longer_clip_goes_through_in_parts(manager, clip_frames):
    twenty = clip_frames[np.arange(20) % 4]
    alone = semantic_scores(clip_frames, PROMPT, manager)
    told = semantic_scores(twenty, PROMPT, manager)
    assert told["clip_prompt_alignment"] == pytest.approx(alone["clip_prompt_alignment"], abs=100 * ROUNDING)


def test_a_prompt_counts_and_one_that_is_too_long_is_cut(manager, clip_frames):
    told = {
        prompt: semantic_scores(clip_frames, prompt, manager)["clip_prompt_alignment"]
        for prompt in (PROMPT, "a blue sphere at night", "a red cube " * 40)
    }
    assert len(set(told.values())) == 3
    assert all(math.isfinite(value) for value in told.values())


def test_where_there_is_nothing_to_measure_there_is_no_number(manager, clip_frames):
    scores = semantic_scores(clip_frames[:1], " ", manager)
    assert set(scores) == KEYS
    assert all(math.isnan(value) for value in scores.values())


def test_without_weights_there_is_no_score_and_nothing_is_fetched(settings, clip_frames, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("A score must not fetch anything.")

    manager = ModelManager(replace(settings, models_folder=tmp_path))
    monkeypatch.setattr(hub, "pull", refuse)
    assert semantic_scores(clip_frames, PROMPT, manager) == {}
    assert manager.loaded() == []


@pytest.mark.parametrize(("missing", "left"), [("clip", KEYS - CLIP_KEYS), ("dino", CLIP_KEYS)])
def test_each_network_is_scored_with_where_it_is(networks, settings, clip_frames, tmp_path, missing, left):
    kept = SCORING["dino" if missing == "clip" else "clip"].repo
    (tmp_path / kept).parent.mkdir()
    (tmp_path / kept).symlink_to(networks[-1] / kept)
    manager = ModelManager(replace(settings, models_folder=tmp_path))
    assert set(semantic_scores(clip_frames, PROMPT, manager)) == left


def test_damaged_weights_are_named(networks, settings, clip_frames, tmp_path):
    repo = tmp_path / SCORING["dino"].repo
    repo.mkdir(parents=True)
    whole = networks[-1] / SCORING["dino"].repo
    (repo / "config.json").write_bytes((whole / "config.json").read_bytes())
    (repo / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:2000])
    with pytest.raises(ModelUnavailableError, match=r"facebook/dino-vitb16"):
        semantic_scores(clip_frames, PROMPT, ModelManager(replace(settings, models_folder=tmp_path)))


def test_scores_keep_their_digits_where_models_run_in_half_precision(settings, clip_frames):
    manager = ModelManager(replace(settings, dtype="bfloat16"))
    whole = semantic_scores(clip_frames, PROMPT, ModelManager(settings))
    assert semantic_scores(clip_frames, PROMPT, manager) == whole


def test_a_comparison_shows_them_against_what_the_clip_should_show(manager, clip_frames):
    frames = np.ascontiguousarray(clip_frames[:, :, :48])
    request = default_request("edit", "toybox", frames, "make the cube blue", source_prompt="a red cube at noon")
    scores = Scorer(request, (), manager)(frames, frames)
    assert set(scores) >= KEYS
    assert set(scores) <= set(TITLES)
    described = semantic_scores(frames, "a blue cube at noon", manager)
    assert {key: scores[key] for key in KEYS} == described


# The entries of the catalog


def test_they_are_listed_and_found_by_name(settings):
    assert find_specs("scoring") == tuple(SCORING.values())
    assert all(named_specs()[spec.key] == spec for spec in SCORING.values())
    entries = {entry.key: entry for entry in inventory(None, settings)}
    assert [entries[spec.key].state for spec in SCORING.values()] == ["on disk"] * 3
    assert [check(spec, settings, thorough=True) for spec in SCORING.values()] == [None] * 3
    assert not {spec.key for spec in SCORING.values()} & {entry.key for entry in inventory(None, settings, "toybox")}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("clip", lambda: CLIPModel(CLIPConfig())),  # the library's defaults are these very models' shapes
        ("dino", lambda: ViTModel(ViTConfig(), add_pooling_layer=False)),
    ],
)
def test_files_are_as_long_as_their_parameters_need(name, build):
    with torch.device("meta"):
        network = build()
    spec = SCORING[name]
    assert spec.bytes == spec.bytes_per_number * sum(parameter.numel() for parameter in network.parameters())


def test_the_files_of_the_real_repositories_are_chosen():
    names = [
        ".gitattributes", "README.md", "config.json", "flax_model.msgpack", "merges.txt", "preprocessor_config.json",
        "pytorch_model.bin", "special_tokens_map.json", "tf_model.h5", "tokenizer.json", "tokenizer_config.json",
        "vocab.json",
    ]  # fmt: skip
    assert hub.choose_files(names, SCORING["clip"]) == ["config.json", "pytorch_model.bin"]
    assert "vocab.json" in hub.choose_files(names, SCORING["clip-tokenizer"])
    assert hub.choose_files([*names, "model.safetensors"], SCORING["dino"]) == ["config.json", "model.safetensors"]
