"""Prompt-to-Prompt: what it puts into a U-Net's attention and takes out again, how prompts correspond, what is kept."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from bivdiff.bridge.attention import AttentionControl, TokenMap, controlled, map_size
from bivdiff.bridge.guidance import guided, unet_noise
from bivdiff.bridge.inversion import invert_frames
from bivdiff.bridge.latents import fold_frames
from bivdiff.bridge.makers.prompt2prompt import (
    blend_region,
    edit_kind,
    edit_with_prompt2prompt,
    parse_weights,
    token_map,
)
from bivdiff.bridge.paths import DiffusionPath
from bivdiff.bridge.prompts import encode_prompt
from bivdiff.bridge.sampling import step_through, unfold_step
from bivdiff.catalog.families import family_named
from bivdiff.errors import InputError

SAME_MATHS = 1e-4  # other orders of the same float32 sums, over a few steps
EXACT = 1e-6  # rounding of one float32 operation
SOURCE, EDITED = "a red cube jumps on a green floor at noon", "a blue cube jumps on a green floor at noon"
LENGTH = 32


@pytest.fixture(scope="module")
def models(manager):
    family = family_named("toybox")
    specs = {name: getattr(family, name) for name in ("unet", "scheduler", "tokenizer", "text_encoder")}
    with manager.use(*specs.values()) as components, torch.inference_mode():
        yield dict(zip(specs, components, strict=True))


@pytest.fixture(scope="module")
def tokenizer(models):
    return models["tokenizer"]


@pytest.fixture(scope="module")
def sharp_models(models):
    """Random cross-attention is nearly flat; with larger queries it looks at some places more than at others.

    Still not as much as a trained model's, so tests of the region raise its threshold.
    """
    unet = deepcopy(models["unet"])
    for name, layer in unet.named_modules():
        if name.endswith("attn2.to_q"):
            layer.weight.mul_(40)
    return {**models, "unet": unet}


@pytest.fixture(scope="module")
def latents():
    return torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def edit(models, latents, prompt=EDITED, **changes):
    settings = {"guidance_scale": 3.0, "num_steps": 3, "batch_size": 3, **changes}
    source, negative = settings.pop("source_prompt", SOURCE), settings.pop("negative_prompt", "dark")
    own = {name: models[name] for name in ("unet", "scheduler", "tokenizer")}
    embed = partial(encode_prompt, models["tokenizer"], models["text_encoder"])
    return edit_with_prompt2prompt(**own, embed=embed, latents=latents, source_prompt=source, prompt=prompt,
                                   negative_prompt=negative, **settings)  # fmt: skip


def last(steps):
    *_, step = steps
    return step.latents


def tiny_unet(**changes):
    """Stable Diffusion 1.5's layout in small: its head count for every level, another text width than the toybox's."""
    torch.manual_seed(2)
    settings = {
        "sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4,
        "attention_head_dim": 4, "cross_attention_dim": 24,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }  # fmt: skip
    return UNet2DConditionModel(**{**settings, **changes})


class TestTheUnetIsLeftAsItWas:
    @pytest.fixture(autouse=True)
    def unchanged(self, models):
        unet, picture, text = models["unet"], torch.randn(2, 4, 16, 16), torch.randn(2, LENGTH, 128)
        before, output = unet.attn_processors, unet(picture, 500, text).sample
        yield
        after = unet.attn_processors
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in before)
        assert torch.equal(unet(picture, 500, text).sample, output)

    def test_at_the_end(self, models, latents):
        last(edit(models, latents, blend_words="cube", reweight="blue:2"))

    @pytest.mark.parametrize("steps", [1, 4, 5])
    def test_when_closed_early_and_between_steps(self, models, latents, steps):
        before = models["unet"].attn_processors
        walked = edit(models, latents, blend_words="cube")
        for _ in range(steps):
            next(walked)
        assert all(models["unet"].attn_processors[name] is own for name, own in before.items())
        walked.close()

    def test_after_an_exception_inside_the_unet(self, models, latents):
        walked = edit(models, latents)
        for _ in range(3):
            next(walked)

        def fail(*_):
            raise RuntimeError("out of memory")

        hook = models["unet"].conv_out.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            next(walked)
        hook.remove()


class TestAttention:
    @pytest.mark.parametrize(
        "unet",
        [
            pytest.param(tiny_unet, id="as SD 1.5"),
            pytest.param(lambda: tiny_unet(attention_head_dim=(2, 4), upcast_attention=True), id="upcast"),
            pytest.param(
                lambda: tiny_unet(down_block_types=("CrossAttnDownBlock2D", "AttnDownBlock2D")),
                id="self-attention alone",
            ),
        ],
    )
    def test_what_equal_pictures_share_changes_nothing(self, unet):
        """Source and edited pictures are the same here, so our layers must compute what diffusers' own do."""
        unet = unet().eval()
        pictures, text = torch.randn(2, 4, 8, 8).repeat(3, 1, 1, 1), torch.randn(1, 7, 24).expand(6, -1, -1)
        control = AttentionControl(
            pairs=2, latent_size=(8, 8), token_map=TokenMap(torch.eye(7), torch.zeros(7)), token_weights=torch.ones(7),
            share_self=True, map_tokens=torch.ones(2, 7),
        )  # fmt: skip
        with torch.inference_mode():
            plain = unet(pictures, 500, text).sample
            with controlled(unet, control) as maps:
                assert torch.allclose(unet(pictures, 500, text).sample, plain, atol=SAME_MATHS)
        # Attention to all of the tokens is 1 everywhere.
        assert maps
        assert all(torch.allclose(found, torch.ones(2, 2, 8, 8), atol=EXACT) for found in maps)

    def test_edited_pictures_get_the_sources_probabilities(self):
        """Two cross-attention layers, recomputed by hand from what went into them."""
        unet = tiny_unet().eval()
        matrix = torch.rand(7, 7)
        own, weights = torch.tensor([0, 0, 1, 0, 0.5, 0, 0]), torch.tensor([1, 1, 1, -2, 1, 3, 1.0])
        control = AttentionControl(
            pairs=2, latent_size=(8, 8), token_map=TokenMap(matrix, own), token_weights=weights,
            map_tokens=torch.eye(7)[[3, 5]],
        )  # fmt: skip
        seen = []

        def keep(layer, _, options, output):
            seen.append((layer, options["encoder_hidden_states"], output))

        inputs = []
        layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
        for layer in layers:
            layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
            layer.register_forward_hook(keep, with_kwargs=True)
        with torch.inference_mode(), controlled(unet, control) as maps:
            unet(torch.randn(5, 4, 8, 8), 500, torch.randn(5, 7, 24))
            expected_maps = []
            for states, (layer, text, output) in zip(inputs, seen, strict=True):
                query, key, value = (
                    part.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
                    for part in (layer.to_q(states), layer.to_k(text), layer.to_v(text))
                )
                probs = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
                changed = probs.clone()
                changed[3:] = (probs[:2] @ matrix + own * probs[3:]) * weights
                wanted = layer.to_out[0]((changed @ value).transpose(1, 2).flatten(2))
                assert torch.allclose(output, wanted, atol=SAME_MATHS)
                if states.shape[1] == 64:
                    both = torch.stack([probs[:2, ..., 3], changed[3:, ..., 5]]).mean(2)
                    expected_maps.append(both.unflatten(-1, (8, 8)))
        assert len(layers) > len(maps) > 1
        assert torch.allclose(torch.stack(maps), torch.stack(expected_maps), atol=SAME_MATHS)

    def test_self_attention_is_shared_in_small_layers_only(self):
        """With the source's queries and keys, values of the edited pictures; finer layers than half size are free."""
        unet = tiny_unet(down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2)
        seen = []
        for name, layer in unet.eval().named_modules():
            if name.endswith("attn1"):
                layer.register_forward_hook(lambda layer, args, output: seen.append((layer, args[0], output)))
        with torch.inference_mode():
            with controlled(unet, AttentionControl(pairs=1, latent_size=(8, 8), share_self=True)):
                unet(torch.randn(3, 4, 8, 8), 500, torch.randn(3, 7, 24))
            for layer, states, output in seen:
                query, key, value = (
                    part(states).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
                    for part in (layer.to_q, layer.to_k, layer.to_v)
                )
                probs = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
                if states.shape[1] <= 16:
                    probs[2] = probs[0]
                wanted = layer.to_out[0]((probs @ value).transpose(1, 2).flatten(2))
                assert torch.allclose(output, wanted, atol=SAME_MATHS)
        assert {states.shape[1] for _, states, _ in seen} == {64, 16}

    @pytest.mark.parametrize(
        ("latent_size", "size"),
        [((64, 64), (16, 16)), ((64, 96), (16, 24)), ((16, 16), (8, 8)), ((17, 31), (9, 16)), ((8, 8), (8, 8)),
         ((4, 4), (4, 4))],
    )  # fmt: skip
    def test_words_are_located_at_a_quarter_or_at_eight_places(self, latent_size, size):
        assert map_size(latent_size) == size


class TestPrompts:
    @pytest.mark.parametrize(
        ("source", "prompt", "kind"),
        [
            (SOURCE, SOURCE, "same"),
            ("a red cube", "A Red  cube ", "same"),
            (SOURCE, EDITED, "replace"),
            ("a red cube", "a hippopotamus cube", "replace"),
            ("a red cube", "a big red cube", "refine"),
            ("a red cube", "a red cube, at night", "refine"),
            ("a red cube next to a cone", "a cube", "refine"),
            # As many words, but moved along.
            ("a red cube at noon", "red cube at noon outside", "refine"),
            ("a red cube", "", "refine"),
        ],
    )
    def test_the_kind_follows_from_the_words(self, tokenizer, source, prompt, kind):
        assert edit_kind(tokenizer, source, prompt) == kind

    def test_a_swap_of_single_tokens_maps_each_place_to_itself(self, tokenizer):
        matrix, own = token_map(tokenizer, SOURCE, EDITED)
        assert torch.equal(matrix, torch.eye(LENGTH))
        assert not own.any()

    def test_a_swapped_word_of_several_tokens_shares_the_attention(self, tokenizer):
        count = len(tokenizer("hippopotamus").input_ids) - 2
        assert count > 2
        matrix, own = token_map(tokenizer, "a red cube", "a hippopotamus cube")
        wanted = torch.zeros(LENGTH, LENGTH)
        wanted[0, 0] = wanted[1, 1] = 1
        wanted[2, 2 : 2 + count] = 1 / count
        for place in range(3, LENGTH - count + 1):  # "cube", the end of text and the padding move along
            wanted[place, place + count - 1] = 1
        wanted[LENGTH - count + 1 :, -1] = 1  # padding that finds no place any more
        assert torch.equal(matrix, wanted)
        assert torch.allclose(matrix.sum(1), torch.ones(LENGTH), atol=EXACT)
        assert not own.any()

    def test_several_tokens_give_their_attention_to_one(self, tokenizer):
        count = len(tokenizer("hippopotamus").input_ids) - 2
        matrix, _ = token_map(tokenizer, "a hippopotamus cube", "a red cube")
        assert torch.equal(matrix[2 : 2 + count, 2], torch.ones(count))
        assert matrix[2 + count, 3] == 1
        assert torch.allclose(matrix.sum(1), torch.ones(LENGTH), atol=EXACT)

    def test_equally_many_tokens_go_one_to_one(self, tokenizer):
        first, second = ("xyz", "zyx")
        count = len(tokenizer(first).input_ids) - 2
        assert count == len(tokenizer(second).input_ids) - 2 > 1
        assert torch.equal(token_map(tokenizer, f"a {first}", f"a {second}").matrix, torch.eye(LENGTH))

    def test_a_refinement_keeps_its_own_attention_for_new_words(self, tokenizer):
        matrix, own = token_map(tokenizer, "a red cube", "a red cube, xyz red")
        added = len(tokenizer("xyz").input_ids) - 2 + 2  # the comma and the second "red" are new, too
        wanted = torch.zeros(LENGTH, LENGTH)
        wanted[range(4), range(4)] = 1
        for place in range(4, LENGTH - added):
            wanted[place, place + added] = 1
        assert torch.equal(matrix, wanted)
        assert torch.equal(own, torch.tensor([0.0] * 4 + [1.0] * added + [0.0] * (LENGTH - 4 - added)))

    def test_removed_words_leave_the_rest_aligned(self, tokenizer):
        matrix, own = token_map(tokenizer, "a red cube", "a cube")
        wanted = torch.zeros(LENGTH, LENGTH)
        wanted[0, 0] = wanted[1, 1] = wanted[3, 2] = 1
        for place in range(4, LENGTH):
            wanted[place, place - 1] = 1
        assert torch.equal(matrix, wanted)
        assert torch.equal(own, torch.eye(LENGTH)[-1])  # one padding more than the source has

    @pytest.mark.parametrize(
        ("before", "after", "published"),
        [
            ("a red cube on a grey floor", "on a grey floor a red cube", [0, 4, 5, 6, 7, -1, -1, -1, 8]),
            (
                "a red cube jumps on a green floor",
                "a green cube on a red floor jumps at night",
                [0, 1, -1, 3, 5, 6, -1, 8, -1, -1, -1, 9],
            ),
        ],
    )
    def test_a_refinement_that_reorders_words_keeps_as_many_as_the_published_implementation(
        self, tokenizer, before, after, published
    ):
        """`published`: each token's place in the source, -1 for none, by `get_mapper` of google/prompt-to-prompt."""
        matrix, own = token_map(tokenizer, before, after)
        assert [int(column.argmax()) if column.any() else -1 for column in matrix.T[: len(published)]] == published
        assert own[: len(published)].tolist() == [float(place == -1) for place in published]

    def test_prompts_longer_than_the_model_reads_are_mapped_as_far_as_it_does(self, tokenizer):
        matrix, own = token_map(tokenizer, "red " * 50, "blue " * 50)
        assert torch.equal(matrix, torch.eye(LENGTH))
        assert not own.any()

    def test_weights_are_read(self):
        assert parse_weights("red:2, Big Cube : -0.5") == {"red": 2.0, "big cube": -0.5}
        assert parse_weights(" ") == {}

    @pytest.mark.parametrize("text", ["red", "red:", ":2", "red:two", "red:2,", "red=2", "red:2 cube:3", ","])
    def test_unreadable_weights_are_refused(self, text):
        with pytest.raises(InputError, match="cannot be read at"):
            parse_weights(text)

    @pytest.mark.parametrize("text", ["red:5.1", "red:-6", "red:nan", "red:inf"])
    def test_weights_out_of_range_are_refused(self, text):
        with pytest.raises(InputError, match="'red' must be from -5 to 5"):
            parse_weights(text)

    def test_a_word_has_one_weight(self):
        with pytest.raises(InputError, match="twice"):
            parse_weights("red:2, Red:3")


class TestEdit:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"source_prompt": " "}, "Write what the clip shows"),
            ({"reweight": "red"}, "cannot be read"),
            ({"reweight": "red:2"}, "'red', which is not in the prompt"),
            ({"reweight": "blue cone:2"}, "'blue cone', which is not in the prompt"),
            ({"blend_words": "cube, cone"}, "'cone', which is in neither prompt"),
        ],
    )
    def test_what_cannot_be_done_is_told_before_the_first_step(self, models, latents, changes, sentence):
        with pytest.raises(InputError, match=sentence):
            next(edit(models, latents, **changes))

    def test_a_model_without_layers_for_blend_words_is_named(self, models):
        # Cross-attention at 16x16 only, and the maps are 8x8.
        unet = tiny_unet(mid_block_type=None, cross_attention_dim=128, sample_size=16)
        with pytest.raises(InputError, match="no attention layer of 8x8 places"):
            last(edit({**models, "unet": unet}, torch.randn(1, 4, 1, 16, 16), blend_words="cube"))

    def test_steps_count_over_both_walks(self, models, latents):
        steps = list(edit(models, latents))
        assert [(step.number, step.total) for step in steps] == [(number, 6) for number in range(1, 7)]
        assert all(step.latents.shape == step.pred_original_sample.shape == latents.shape for step in steps)
        # The inversion is that with the source prompt and no guidance.
        source = encode_prompt(models["tokenizer"], models["text_encoder"], SOURCE)
        inversion = invert_frames(
            partial(unet_noise, models["unet"]), DiffusionPath(models["scheduler"]), latents, source, source,
            guidance_scale=1, num_steps=3, batch_size=3,
        )  # fmt: skip
        for ours, theirs in zip(steps[:3], inversion, strict=True):
            assert torch.equal(ours.latents, theirs.latents)

    def test_the_source_branch_is_on_the_inversions_trajectory(self, models, latents):
        """Direct inversion: at every step the U-Net sees the source as it was inverted, whatever the edit does."""
        seen = []
        hook = models["unet"].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        *inverted, _, _, _ = edit(models, latents, cross_replace_steps=1.0)
        hook.remove()
        for pictures, step in zip(seen[3:], reversed(inverted), strict=True):
            source, negative, edited = pictures.chunk(3)
            assert torch.equal(source, fold_frames(step.latents))
            assert torch.equal(negative, edited)
            assert torch.equal(edited, source) == (step is inverted[-1])

    @pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
    def test_no_edit_leads_back_to_the_source(self, models, latents, guidance_scale):
        """The source branch: direct inversion puts it on the inversion's own latents, so nothing is lost at all."""
        steps = list(edit(models, latents, prompt=SOURCE, guidance_scale=guidance_scale))
        assert len(steps) == 6
        assert torch.equal(steps[-1].latents, latents)
        assert torch.equal(steps[3].latents, steps[1].latents)
        assert torch.equal(steps[3].pred_original_sample, latents)

    def test_with_equal_words_both_branches_predict_the_same(self, models, latents):
        """A weight of 1 walks the edited branch without changing anything: its first step is the source's.

        Without guidance both start from the same noise with the same words, and so the source's attention is the
        edited branch's own.
        """
        weighed = list(edit(models, latents, prompt=SOURCE, reweight="cube:1", guidance_scale=1.0))
        source = encode_prompt(models["tokenizer"], models["text_encoder"], SOURCE)
        plain = self._denoised(models, weighed[2].latents, source, source, 1.0)
        assert torch.allclose(weighed[3].latents, plain[0].latents, atol=SAME_MATHS)
        assert not torch.allclose(
            last(edit(models, latents, prompt=SOURCE, reweight="cube:4", guidance_scale=1.0)),
            weighed[-1].latents, atol=10 * SAME_MATHS,
        )  # fmt: skip

    @pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
    @pytest.mark.parametrize("prompt", [EDITED, EDITED.replace("blue", "hippopotamus"), f"{EDITED}, snowing"])
    def test_without_control_it_is_plain_denoising_of_the_inverted_noise(self, models, latents, prompt, guidance_scale):
        """A swapped word, one of several tokens, and a refinement."""
        free = {"cross_replace_steps": 0.0, "self_replace_steps": 0.0, "guidance_scale": guidance_scale}
        steps = list(edit(models, latents, prompt=prompt, **free))
        prompted, negative = (encode_prompt(models["tokenizer"], models["text_encoder"], t) for t in (prompt, "dark"))
        plain = self._denoised(models, steps[2].latents, prompted, negative, guidance_scale)
        for ours, theirs in zip(steps[3:], plain, strict=True):
            assert torch.allclose(ours.latents, theirs.latents, atol=SAME_MATHS)
            assert torch.allclose(ours.pred_original_sample, theirs.pred_original_sample, atol=SAME_MATHS)
        whole = {"cross_replace_steps": 1.0, "self_replace_steps": 1.0}
        tied = last(edit(models, latents, prompt=prompt, **{**free, **whole}))
        assert torch.isfinite(tied).all()
        assert not torch.allclose(tied, steps[-1].latents, atol=10 * SAME_MATHS)

    def _denoised(self, models, noise, prompt_embeds, negative_embeds, guidance_scale, done=0):
        """Plain steps of three, those that are not done yet."""
        predict = guided(
            lambda pictures, timestep, text: models["unet"](pictures, timestep, text).sample,
            prompt_embeds, negative_embeds, guidance_scale,
        )  # fmt: skip
        ddim = DDIMScheduler.from_config(models["scheduler"].config)
        return [
            unfold_step(step) for step in step_through(predict, fold_frames(noise), ddim, 3, part=slice(done, None))
        ]

    @pytest.mark.parametrize("share", ["cross_replace_steps", "self_replace_steps"])
    def test_each_share_counts_its_own_steps(self, models, latents, share):
        """With a third of three steps the first one is tied, and only from there on do the branches part."""
        free = {"cross_replace_steps": 0.0, "self_replace_steps": 0.0}
        none, third, all_of_them = (
            [step.latents for step in edit(models, latents, **{**free, share: value})][3:] for value in (0.0, 1 / 3, 1)
        )
        assert torch.equal(third[0], all_of_them[0])
        assert not torch.equal(third[0], none[0])  # the one that is tied
        prompted, negative = (encode_prompt(models["tokenizer"], models["text_encoder"], t) for t in (EDITED, "dark"))
        plain = self._denoised(models, third[0], prompted, negative, 3.0, done=1)
        for ours, theirs in zip(third[1:], plain, strict=True):
            assert torch.allclose(ours, theirs.latents, atol=SAME_MATHS)

    @pytest.mark.parametrize("changes", [{}, {"blend_words": "cube", "reweight": "blue:2"}, {"guidance_scale": 1.0}])
    def test_batches_do_not_matter(self, sharp_models, latents, changes, monkeypatch):
        monkeypatch.setattr("bivdiff.bridge.makers.prompt2prompt.BLEND_THRESHOLD", 0.7)
        whole, parts = (last(edit(sharp_models, latents, batch_size=size, **changes)) for size in (3, 2))
        assert torch.allclose(whole, parts, atol=SAME_MATHS)

    def test_every_frame_is_edited_on_its_own(self, models, latents):
        together = last(edit(models, latents, blend_words="cube"))
        for frame in range(3):
            alone = last(edit(models, latents[:, :, [frame]], blend_words="cube"))
            assert torch.allclose(alone[:, :, 0], together[:, :, frame], atol=SAME_MATHS)

    def test_the_region_is_where_either_map_passes_three_tenths_of_its_highest(self):
        maps = torch.zeros(2, 2, 8, 8)
        maps[0, 0, 2, 2], maps[0, 0, 2, 6], maps[0, 0, 6, 2] = 8.0, 0.29 * 8, 0.31 * 8
        maps[1, 0, 6, 6], maps[1, 1, 0, 0] = 0.01, 5.0
        wanted = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
        wanted[0, 0, 1:4, 1:4] = wanted[0, 0, 5:8, 1:4] = wanted[0, 0, 5:8, 5:8] = wanted[1, 0, :2, :2] = True
        assert torch.equal(blend_region(maps, (8, 8)), wanted)
        finer = blend_region(maps, (16, 16))
        assert finer[0, 0, 2:8, 2:8].all()
        assert not finer[0, 0, :, 10:][:8].any()

    def test_outside_the_blend_words_the_source_stays(self, sharp_models, latents, monkeypatch):
        monkeypatch.setattr("bivdiff.bridge.makers.prompt2prompt.BLEND_THRESHOLD", 0.7)
        *_, step = edit(sharp_models, latents, blend_words="cube, blue")
        same = (step.latents == latents).all(1)[0]
        assert 0.05 < same.float().mean() < 0.95
        assert torch.equal((step.pred_original_sample == latents).all(1)[0], same)
        free = last(edit(sharp_models, latents))
        assert not (free == latents).all(1).any()

    def test_words_of_either_prompt_open_the_region(self, sharp_models, latents, monkeypatch):
        monkeypatch.setattr("bivdiff.bridge.makers.prompt2prompt.BLEND_THRESHOLD", 0.7)
        red, blue, both = (
            (last(edit(sharp_models, latents, blend_words=words, num_steps=1)) != latents).any(1)
            for words in ("red", "blue", "red blue")
        )
        for region in (red, blue):
            assert region.any()
            assert not region.all()
        assert not torch.equal(red, blue)
        assert torch.equal(both, red | blue)
