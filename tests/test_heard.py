"""What of a request its models hear: networks of one's own, LoRAs, weights of words; and what is told or refused."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from hooks import given_to
from safetensors.torch import save_file

from bivdiff.bridge.notes import notes_on
from bivdiff.bridge.pipeline import framewise_frames, resolved
from bivdiff.bridge.prompts import cut_off, encode_prompt
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter
from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.own import with_own_unet
from bivdiff.catalog.own_catalog import read_catalog
from bivdiff.catalog.prompt_syntax import Piece, pieces_of, plain_prompt, read_as_letters
from bivdiff.catalog.requests import default_request
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import hub
from bivdiff.models.loaders import load_component
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox import networks

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
OWN = [("edit", "instruct-pix2pix"), ("inpaint", "inpainting")]
LONG = "a red cube on a green floor at noon " * 8


@pytest.fixture
def lora(tmp_path):
    path = tmp_path / "style.safetensors"
    torch.manual_seed(0)
    save_file({f"unet.{LAYER}.lora_A.weight": torch.randn(2, 128), f"unet.{LAYER}.lora_B.weight": torch.randn(112, 2)},
              path)  # fmt: skip
    return path


@pytest.fixture
def own_unet(tmp_path):
    """Makes a folder with a U-Net of so many channels, of other weights than the usual one's."""

    def make(channels, folder="unet"):
        torch.manual_seed(5)
        networks.build_unet(channels).save_pretrained(tmp_path / str(channels) / folder)
        return str(tmp_path / str(channels))

    return make


@pytest.mark.parametrize("asked", OWN, ids=str)
def test_a_lora_of_the_base_is_put_on_its_relatives(task_request, manager, asked, lora):
    plain = task_request(*asked)
    styled = replace(plain, loras=f"{lora}:0.5")
    (before,), (after,) = (components_of(request).networks for request in (plain, styled))
    with manager.hold(before, after) as (usual, own):
        change = own.get_submodule(LAYER).weight - usual.get_submodule(LAYER).weight
        plain = usual.state_dict()
        other = [name for name, weight in own.state_dict().items() if not torch.equal(weight, plain[name])]
    torch.manual_seed(0)
    down, up = torch.randn(2, 128), torch.randn(112, 2)
    assert torch.allclose(change, 0.5 * up @ down, atol=1e-3)  # the saved weights have sixteen bits
    assert other == [f"{LAYER}.weight"]


@pytest.mark.parametrize(("asked", "channels"), list(zip(OWN, (8, 9), strict=True)), ids=str)
def test_a_checkpoint_of_ones_own_makes_the_frames(task_request, manager, own_unet, asked, channels):
    request = replace(task_request(*asked), image_checkpoint=own_unet(channels))
    usual, other = replace(request, image_checkpoint=""), ModelManager(manager.settings)
    with manager.hold(*components_of(request).networks) as (own,):
        made, weights = framewise_frames(request, manager), own.state_dict()
    with other.hold(*components_of(usual).networks) as (network,):
        network.load_state_dict(weights)
        assert np.array_equal(made, framewise_frames(usual, other))
    assert components_of(request).unet == components_of(usual).unet


def test_a_unet_that_was_saved_by_itself_is_found_without_a_folder_around_it(task_request, own_unet):
    """As `save_pretrained` of a U-Net leaves it; in a folder of a whole model, only its own folder counts."""
    request, settings = task_request("inpaint", "inpainting"), Settings(device="cpu")
    read = []
    for folder in ("unet", "."):
        family = with_own_unet(FAMILIES["toybox"], replace(request, image_checkpoint=own_unet(9, folder)))
        (spec,) = family.networks["inpainting"].values()
        assert hub.choose_files([f"{folder}/config.json".removeprefix("./"),
                                 f"{folder}/diffusion_pytorch_model.safetensors".removeprefix("./")], spec)  # fmt: skip
        root = hub.find(spec, settings)
        read.append(load_component(hub.source_of(spec, root, settings, torch.float32)).state_dict())
        shutil.rmtree(root)
    assert all(torch.equal(weight, read[1][name]) for name, weight in read[0].items())
    whole = ["model_index.json", "config.json", "diffusion_pytorch_model.safetensors"]
    assert not hub.choose_files(whole, spec)


@pytest.mark.parametrize(("asked", "channels"), list(zip(OWN, (9, 4), strict=True)), ids=str)
def test_a_checkpoint_of_another_kind_is_told(task_request, manager, own_unet, asked, channels):
    request = replace(task_request(*asked), image_checkpoint=own_unet(channels))
    with pytest.raises(ModelUnavailableError, match=rf"reads {channels} channels, and .* reads"):
        framewise_frames(request, manager)


@pytest.mark.parametrize(("task", "changes", "told"), [
    ("control", {"image_checkpoint": "mine"}, r"image_checkpoint is read for InstructPix2Pix and"),
    ("edit", {"base_model": "mine"}, r"does not reach.*Name one of yours in image_checkpoint"),
    ("smooth", {"loras": "style", "frame_prior": "mean"}, "LoRAs would change nothing"),
    ("smooth", {"loras": "style", "frame_prior": "video"}, "LoRAs would change nothing"),
    ("control", {"video_prompt": "a cube <lora:style:0.8>"}, r"'<lora:style:0\.8>'.*'style\.safetensors:0\.8'"),
    ("edit", {"image_model": "prompt2prompt", "source_prompt": "a (red:2) cube"}, r"'Weights of words', as in red"),
])  # fmt: skip
def test_what_would_change_nothing_is_refused_before_the_run(source_frames, task, changes, told):
    with pytest.raises(InputError, match=told):
        default_request(task, "toybox", source_frames, "a cube", **changes)


def test_loras_are_heard_where_the_base_inverts_or_carries_the_video_model(source_frames):
    for family, changes in (("toybox", {"frame_prior": "image", "mixing_ratio": 0.5}),
                            ("sd15", {"frame_prior": "mean", "video_model": "animatediff-v1-5-3"})):  # fmt: skip
        assert default_request("smooth", family, source_frames, "a cube", loras="style", **changes).loras == "style"


def test_a_catalog_names_a_unet_for_each_image_model_and_hides_the_usual_ones_of_another_base(tmp_path):
    (tmp_path / "own.toml").write_text("""
        [families.dreams]
        like = "sd15"
        base_model = "owner/dreams"
        loras = "style.safetensors:0.5"
        [families.dreams.image_models.inpainting]
        repo = "owner/dreams-inpainting"
    """)
    family = read_catalog(tmp_path / "own.toml", FAMILIES)["dreams"]
    (unet,) = family.networks_of("inpainting").values()
    assert (unet.repo, unet.folder, unet.kind) == ("owner/dreams-inpainting", "unet", "unet")
    assert unet.loras == (("style.safetensors", 0.5),)
    assert not family.networks_of("instruct-pix2pix")
    (tmp_path / "own.toml").write_text("[families.sd15.image_models.controlnet]\nrepo = 'a/b'")
    with pytest.raises(InputError, match=r"image_models\.controlnet' is not known: .* inpainting, instruct-pix2pix"):
        read_catalog(tmp_path / "own.toml", FAMILIES)


# Weights of words


@pytest.mark.parametrize(("prompt", "pieces"), [
    ("a red cube", [("a red cube", 1)]),
    ("a (red:1.4) cube", [("a ", 1), ("red", 1.4), (" cube", 1)]),
    ("((red:1.5) cube:2) b", [("red", 3), (" cube", 2), (" b", 1)]),
    ("a dog (golden retriever)", [("a dog (golden retriever)", 1)]),
    ("at (noon, 12:30)", [("at (noon, 12:30)", 1)]),
    (r"a \(red:1.4\)", [("a (red:1.4)", 1)]),
    ("(a (b) c:0.5)", [("a (b) c", 0.5)]),
    ("a) (b", [("a) (b", 1)]),
    ("(red : .5)", [("red", 0.5)]),
])  # fmt: skip
def test_a_prompt_is_taken_apart_by_its_weights(prompt, pieces):
    assert pieces_of(prompt) == [Piece(text, pytest.approx(weight)) for text, weight in pieces]
    assert plain_prompt(prompt) == "".join(text for text, _ in pieces)


@pytest.mark.parametrize("letters", ["[red|blue]", "[red:blue:0.5]", "((red))", "{red|blue}", "red++", "(red)1.4",
                                     "(x:9)", "BREAK"])  # fmt: skip
def test_other_syntax_is_told(letters):
    assert read_as_letters(f"a {letters} cube, (old:1.2) and (small)") == letters


def test_plain_language_and_weights_are_not_taken_for_other_syntax():
    assert not read_as_letters("a dog (a retriever) at 12:30, well-known -- [old], (red:1.4), ((a:1.1) b:1.2)")


def test_weighed_words_are_embedded_as_compel_does_it(manager):
    from compel import Compel

    family = FAMILIES["toybox"]
    with manager.use(family.tokenizer, family.text_encoder) as (tokenizer, encoder), torch.inference_mode():
        compel = Compel(tokenizer=tokenizer, text_encoder=encoder)
        for ours, theirs in (("a (red:1.5) cube", "a (red)1.5 cube"), ("a (red:0.5) cube", "a (red)0.5 cube")):
            assert torch.allclose(encode_prompt(tokenizer, encoder, ours), compel(theirs), atol=1e-5)
        plain = encode_prompt(tokenizer, encoder, "a red cube")
        assert torch.equal(encode_prompt(tokenizer, encoder, "a (red:1) cube"), plain)
        assert torch.equal(encode_prompt(tokenizer, encoder, "a (red:1.0) cube"), plain)


# Notes


def notes(request, manager):
    with ExitStack() as exits:
        parts = enter(resolved(request), manager, StageCache(), exits).models.parts
        return list(notes_on(resolved(request), parts, manager.settings))


def test_a_plain_request_has_no_notes(request_of, manager):
    assert notes(request_of(), manager) == []


def test_what_a_prompt_loses_is_told_in_the_products_words_alone(request_of, manager, capfd):
    (told,) = notes(request_of(negative_prompt=LONG), manager)
    assert "longer than the model reads" in told
    assert "indexing errors" not in capfd.readouterr().err


def test_letters_are_told(request_of, manager):
    (told,) = notes(request_of(prompt="a [red|blue] cube"), manager)
    assert "'[red|blue]' is read as letters" in told


def test_a_word_of_ones_own_is_known_in_any_case_and_told_where_no_prompt_has_it(request_of, manager, tmp_path):
    save_file({"MyStyle": torch.randn(2, 128)}, tmp_path / "mine.safetensors")
    request = request_of(embeddings=str(tmp_path / "mine.safetensors"))
    (told,) = [note for note in notes(request, manager) if "stands in no prompt" in note]
    assert "'MyStyle'" in told
    parts = components_of(request)
    with manager.use(parts.tokenizer, parts.text_encoder) as (tokenizer, encoder), torch.inference_mode():
        own = tokenizer.convert_tokens_to_ids(["MyStyle", "MyStyle_1"])  # of two vectors
        for word in ("MyStyle", "mystyle", "MYSTYLE"):
            with given_to(encoder) as calls:
                encode_prompt(tokenizer, encoder, f"a {word} cube")
            ((ids,),) = calls
            assert ids[0, 2:4].tolist() == own
        inside, others = (tokenizer(words).input_ids for words in ("a mystyles cube", "a cube"))
        assert not {*own} & {*inside, *others}
        assert cut_off(tokenizer, "mystyle " * 20)  # forty tokens


def test_a_lora_that_brings_words_is_told(request_of, manager, lora):
    weights = {f"unet.{LAYER}.lora_A.weight": torch.randn(2, 128), f"unet.{LAYER}.lora_B.weight": torch.randn(112, 2)}
    save_file({**weights, "bundle_emb.mine.string_to_param.*": torch.ones(1, 128)}, lora)
    (told,) = notes(request_of(loras=str(lora)), manager)
    assert "words of its own (mine)" in told
