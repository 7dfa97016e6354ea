"""The shapes of the real networks, held to the numbers of parameters of the published weights."""

from __future__ import annotations

import pytest
import torch

from bivdiff.catalog.families import FAMILIES
from bivdiff.errors import InputError
from bivdiff.models.architectures import build_empty
from bivdiff.models.loaders import architecture_of
from bivdiff.pixels.annotators import loading

SD15 = FAMILIES["sd15"]
VIDEO = SD15.video_models
PUBLISHED = {
    "unet": (SD15.unet, 859_520_964),
    "instruct-pix2pix": (SD15.networks["instruct-pix2pix"]["unet"], 859_532_484),
    "inpainting": (SD15.networks["inpainting"]["unet"], 859_535_364),
    "vae": (SD15.vae, 83_653_863),
    "text encoder": (SD15.text_encoder, 123_060_480),
    "controlnet": (SD15.networks["controlnet"]["canny"], 361_279_120),
    "canny adapter": (SD15.networks["t2i-adapter"]["canny"], 77_000_640),
    "sketch adapter": (SD15.networks["t2i-adapter"]["sketch"], 77_000_640),
    "depth adapter": (SD15.networks["t2i-adapter"]["depth"], 77_369_280),
    "zeroscope": (VIDEO["zeroscope"].unet, 1_411_233_860),
    "zeroscope's text encoder": (VIDEO["zeroscope"].text_encoder, 340_387_840),
    "modelscope": (VIDEO["modelscope"].unet, 1_411_233_860),
    "modelscope's text encoder": (VIDEO["modelscope"].text_encoder, 340_387_840),
    "animatediff 2": (VIDEO["animatediff-v1-5-2"].unet, 453_209_280),
    "animatediff 3": (VIDEO["animatediff-v1-5-3"].unet, 417_137_600),
    "vidrd": (VIDEO["vidrd"].unet, 1_182_401_284),
    "vidrd's text encoder": (VIDEO["vidrd"].text_encoder, 340_387_840),
    "wan 1.3b": (VIDEO["wan2.1-1.3b"].unet, 1_418_996_800),
    "wan 14b": (VIDEO["wan2.1-14b"].unet, 14_288_491_584),
    "wan a14b": (VIDEO["wan2.2-a14b"].unet, 2 * 14_288_491_584),
    "wan 5b": (VIDEO["wan2.2-5b"].unet, 4_999_787_712),
    "wan 2.1's autoencoder": (VIDEO["wan2.1-1.3b"].vae, 126_892_531),
    "wan 2.2's autoencoder": (VIDEO["wan2.2-5b"].vae, 704_688_668),
    "cogvideox 2b": (VIDEO["cogvideox-2b"].unet, 1_693_783_872),
    "cogvideox 5b": (VIDEO["cogvideox-5b"].unet, 5_570_283_072),
    "cogvideox's autoencoder": (VIDEO["cogvideox-2b"].vae, 215_583_907),
    "ltx": (VIDEO["ltx-0.9.5"].unet, 1_923_385_472),
    "ltx's autoencoder": (VIDEO["ltx-0.9.5"].vae, 1_246_913_522),
    "depth anything": (SD15.annotators["depth"], 24_785_089),
}
WITHOUT_WEIGHTS = {"tokenizer", "scheduler", "t5_tokenizer", "flow_scheduler", "cogvideox_scheduler"}
HEADERS = 1.003  # a file of weights is its numbers and the names of their tensors


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_as_many_parameters_as_the_published_weights(name):
    spec, published = PUBLISHED[name]
    network = build_empty(architecture_of(spec))
    assert sum(parameter.numel() for parameter in network.parameters()) == published
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in network.buffers()} <= {"cpu"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_are_as_long_as_their_parameters_need(name):
    """What the catalog says of a file's size, of which some were read from a repository's page, fits the shape."""
    spec, published = PUBLISHED[name]
    if spec.bytes:
        per_parameter = spec.bytes / published
        width = 2 if per_parameter < 3 else 4
        assert width * 0.999 <= per_parameter <= width * HEADERS


@pytest.mark.parametrize("spec", SD15.components, ids=lambda spec: spec.key)
def test_every_component_of_stable_diffusion_is_known(spec):
    if spec.kind in WITHOUT_WEIGHTS or spec.kind in loading.LOADERS:
        with pytest.raises(InputError, match=spec.key):
            architecture_of(spec)
    else:
        assert architecture_of(spec).config


def test_the_toybox_is_not_taken_for_stable_diffusion():
    with pytest.raises(InputError, match="toybox/unet"):
        architecture_of(FAMILIES["toybox"].unet)


def test_text_encoders_are_of_the_width_that_their_networks_read():
    for video in VIDEO.values():
        network, words = (architecture_of(part).config for part in (video.unet.base or video.unet, video.text_encoder))
        names = ("cross_attention_dim", "text_dim", "text_embed_dim", "caption_channels")
        read = next(network[name] for name in names if name in network)
        assert words["hidden_size" if "hidden_size" in words else "d_model"] == read


def test_numbers_that_are_no_weights_are_real():
    """Positions are computed when a network is built, and no file of weights holds them."""
    text_encoder = build_empty(architecture_of(SD15.text_encoder))
    assert torch.equal(text_encoder.embeddings.position_ids, torch.arange(77)[None])
    adapter = build_empty(architecture_of(VIDEO["animatediff-v1-5-2"].unet))
    positions = adapter.mid_block.motion_modules[0].transformer_blocks[0].pos_embed.pe
    assert positions.shape == (1, 32, 1280)
    assert torch.allclose(positions[0, :, 0], torch.arange(32).sin(), atol=1e-6)


def test_the_shuffling_controlnet_pools_what_it_adds():
    assert architecture_of(SD15.networks["controlnet"]["shuffle"]).config["global_pool_conditions"]
    assert not build_empty(architecture_of(SD15.networks["controlnet"]["canny"])).config.global_pool_conditions
