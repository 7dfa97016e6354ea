"""Small video models with latents of their own, in the hub library's cache as their repositories lie there."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
from diffusers import CogVideoXDDIMScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from small_networks import VOCABULARY, small_network
from torch import Tensor

from bivdiff.bridge.guidance import guided
from bivdiff.bridge.sampling import step_through
from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.specs import ModelSpec
from bivdiff.models.architectures import COGVIDEOX_LEVELS
from bivdiff.toybox import networks

SD15 = family_named("sd15")
OWN = {name: model for name, model in SD15.video_models.items() if not model.shares_space}
COMMIT = "a" * 40
STEPS = {"num_inversion_steps": 3, "num_smoothing_steps": 3, "start_level": 0.7}
SAME_MATHS = 1e-4  # two orders of the same float32 sums, over a few steps
UNIPC = UniPCMultistepScheduler(
    prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
)
SCHEDULERS = {
    "wan": UNIPC,
    "cogvideox-2b": CogVideoXDDIMScheduler.from_config(COGVIDEOX_LEVELS),
    "cogvideox-5b": CogVideoXDDIMScheduler.from_config(COGVIDEOX_LEVELS, snr_shift_scale=1.0),
    "ltx": FlowMatchEulerDiscreteScheduler(),
}
"""As released, by how the name of a model begins."""


def request_for(frames, name, task="smooth", **changes):
    """Of the smallest run that has all stages, in the words of these tests."""
    return default_request(task, "sd15", frames, "a blue cube", video_model=name, seed=3, **{**STEPS, **changes})


def walked(models: Any, latents: Tensor, scheduler: Any, num_steps: int, guidance_scale: float, **more: Any) -> Tensor:
    """Latents that a scheduler is followed to with a run's models, guided to one prompt and away from another."""
    prompts = [models.embed_for_video(text) for text in ("a blue cube", "a red cube")]
    steered = guided(models.video.predict, *prompts, guidance_scale)
    *_, step = step_through(steered, latents, scheduler, num_steps, **more)
    return step.latents


def lay_out(folder: Path, names: Iterable[str]) -> Path:
    """Fill a cache with these models, and with the image model's parts that a run of given frames loads."""
    specs = [(spec, name) for name in names for spec in OWN[name].components]
    for spec, name in [*specs, *((spec, "") for spec in SD15.shared)]:
        repository = folder / f"models--{spec.repo.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(COMMIT)
        save(spec, repository / "snapshots" / COMMIT / spec.folder, name)
    return folder


def snapshot_of(hub: Path, name: str) -> Path:
    """Where a model's files lie in a cache."""
    return hub / f"models--{OWN[name].unet.repo.replace('/', '--')}" / "snapshots" / COMMIT


def save(spec: ModelSpec, folder: Path, name: str) -> None:
    """Write a component's files as its repository has them."""
    if spec.kind == "t5_tokenizer":
        save_pieces(folder)
    elif spec.kind == "tokenizer":
        networks.build_tokenizer().save_pretrained(folder)
    elif spec.kind == "scheduler":
        networks.build_scheduler().save_pretrained(folder)
    elif "scheduler" in spec.kind:
        next(scheduler for start, scheduler in SCHEDULERS.items() if name.startswith(start)).save_pretrained(folder)
    elif spec.also:
        made = small_network(spec)
        for network, name_of_folder in zip((made.high, made.low), (spec.folder, *spec.also), strict=True):
            network.save_pretrained(folder.parent / name_of_folder)
    else:
        small_network(spec).save_pretrained(folder, variant=spec.variant or None)


def save_pieces(folder: Path) -> None:
    """A tokenizer as T5's is released: the pieces of words alone, in no format that is read without converting it."""
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(_pieces())
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "T5Tokenizer", "model_max_length": 128, "extra_ids": 0}'
    )


@functools.cache
def _pieces() -> bytes:
    import io

    made = io.BytesIO()
    sentences = ["a blue cube jumps next to a red sphere on a green floor at noon", "a yellow cone rolls and turns"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 10), model_writer=made, vocab_size=60, pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    assert VOCABULARY > 60
    return made.getvalue()
