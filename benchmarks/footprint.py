"""What the full-size networks compute, and hold in memory while they do: `python benchmarks/footprint.py`."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.utils import logging
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.bridge.attention import FrameLooks
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.specs import TOYBOX_REPO, Family, ModelSpec, VideoModel
from bivdiff.models.architectures import SD15_UNET, build_empty
from bivdiff.models.loaders import KINDS, architecture_of, encoding_of, footprint_of
from bivdiff.models.loaders.kind import Footprint
from bivdiff.models.loaders.t5 import LENGTHS
from bivdiff.models.words import Words
from bivdiff.toybox import networks as toybox
from bivdiff.types import ATTENTION_LABELS, FrameAttention

FRAME_ATTENTIONS: tuple[FrameAttention, ...] = tuple(ATTENTION_LABELS)
SIZE, FRAMES, TEXT = 64, 8, 77
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128, "block_out_channels": [320, 640, 1280], "attention_head_dim": [5, 10, 20],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "cross_attention_dim": 2048,
    "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
"""As published: what a pipeline of one's own is reckoned as, since what is in it is not known."""
LATENTS, CODED = 5, 3  # of clips that are compressed in time: what a transformer sees, and what an autoencoder codes
SD15, TOYBOX = FAMILIES["sd15"], FAMILIES["toybox"]
TOYBOX_NETWORKS: dict[str, Callable[[], Any]] = {
    "vae": toybox.build_vae, "unet": toybox.build_unet, "t2i_adapter": toybox.build_t2i_adapter,
    "controlnet": lambda: toybox.build_controlnet(toybox.build_unet()), "video_unet": toybox.build_video_unet,
    "wan_vae": toybox.build_flow_vae, "wan_transformer": toybox.build_flow_transformer,
}  # fmt: skip
"""By kind."""
Inputs = Callable[[int], tuple[Tensor, ...]]
Row = tuple[str, Callable[[], nn.Module], Callable[..., Any], Inputs, int]
"""Kind or key, builder, call, inputs and frames of a network."""


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that live, and the most there were at once."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and take note of what it makes."""
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._seen:
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


@contextmanager
def fused_attention() -> Iterator[None]:
    """Let attention make its result and nothing else."""
    usual = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = (
        lambda query, key, value, *_, **__: query.new_empty(  # noqa: ARG005 - by name
            *query.shape[:-1], value.shape[-1]
        )
    )
    try:
        yield
    finally:
        F.scaled_dot_product_attention = usual


def live_bytes(network: nn.Module, call: Callable[..., Any], inputs: Inputs) -> float:
    """Bytes at 16 bits that one more picture or clip adds to what lives at once."""
    peaks = []
    torch.set_default_dtype(torch.float16)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), fused_attention():
            copy = network.to_empty(device="cpu")
            for batch in (1, 2):
                given = inputs(batch)
                with Live([*copy.parameters(), *copy.buffers(), *given]) as live:
                    call(copy, *given)
                peaks.append(live.peak)
    finally:
        torch.set_default_dtype(torch.float32)
    return peaks[1] - peaks[0]


def gflop(network: nn.Module, call: Callable[..., Any], inputs: Inputs) -> float:
    """Operations of one picture or clip in units of 1e9, a multiplication and an addition being two."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(network.to(torch.float32), *inputs(1))
    return counter.get_total_flops() / 1e9


def sdxl() -> nn.Module:
    """Its U-Net."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(**SDXL_UNET).half()


def of_sdxl(network: nn.Module, latents: Tensor, timestep: Tensor, words: Tensor, pooled: Tensor, sizes: Tensor) -> Any:
    """Evaluate it."""
    return network(latents, timestep, words, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes})


def steered_sdxl() -> nn.Module:
    """Its U-Net and a ControlNet of its shape."""
    from diffusers import ControlNetModel

    with torch.device("meta"):
        takes = inspect.signature(ControlNetModel).parameters
        controlnet = ControlNetModel(**{name: value for name, value in SDXL_UNET.items() if name in takes})
        return nn.ModuleDict({"controlnet": controlnet.half(), "unet": sdxl()})


def of_steered_sdxl(
    networks: nn.ModuleDict, latents: Tensor, timestep: Tensor, words: Tensor, pooled: Tensor, sizes: Tensor,
    control_map: Tensor,
) -> Any:  # fmt: skip
    """Evaluate both."""
    conditions = {"text_embeds": pooled, "time_ids": sizes}
    downs, middle = networks["controlnet"](
        latents, timestep, words, control_map, added_cond_kwargs=conditions, return_dict=False
    )
    return networks["unet"](
        latents, timestep, words, added_cond_kwargs=conditions, down_block_additional_residuals=downs,
        mid_block_additional_residual=middle,
    )  # fmt: skip


def pictures_of_sdxl(batch: int) -> tuple[Tensor, ...]:
    """What it reads."""
    latents, words = torch.empty(batch, 4, SIZE, SIZE), torch.empty(batch, TEXT, 2048)
    return latents, torch.tensor(1.0), words, torch.empty(batch, 1280), torch.empty(batch, 6)


def built(spec: ModelSpec) -> Callable[[], nn.Module]:
    """What builds an entry of the catalog without its weights."""

    def build() -> nn.Module:
        if spec.repo == TOYBOX_REPO:
            with torch.device("meta"):
                made: nn.Module = TOYBOX_NETWORKS[spec.kind]()
            return made.half()
        return build_empty(architecture_of(spec)).half().to("meta")

    return build


def forward(network: nn.Module, *given: Tensor) -> Any:
    """Evaluate a network."""
    return network(*given)


def picture(width: int, length: int = TEXT) -> Inputs:
    """What a U-Net of pictures reads, words of so many numbers among it."""
    return lambda batch: (torch.empty(batch, 4, SIZE, SIZE), torch.tensor(1.0), torch.empty(batch, length, width))


def clip(width: int, length: int = TEXT, copies: int = 1) -> Inputs:
    """What a U-Net of clips reads; `copies` of the words for each."""
    return lambda batch: (
        torch.empty(batch, 4, FRAMES, SIZE, SIZE), torch.tensor(1.0), torch.empty(batch * copies, length, width),
    )  # fmt: skip


def networks() -> Iterator[Row]:
    """Every network whose footprint the estimates know."""

    def looking(attention: FrameAttention, network: nn.Module, *given: Tensor) -> None:
        with FrameLooks(attention, FRAMES).put_into(network):
            network(*given)

    def motion() -> nn.Module:
        from diffusers import UNetMotionModel

        same = {name: value for name, value in SD15_UNET.items() if name in {"cross_attention_dim", "sample_size"}}
        with torch.device("meta"):
            return UNetMotionModel(**same, motion_max_seq_length=32, use_motion_mid_block=True).half()

    videos = SD15.video_models
    yield from pictures_of(SD15, "", 768, TEXT)
    yield "edit_pipeline", sdxl, of_sdxl, pictures_of_sdxl, 1
    yield (
        "control_pipeline", steered_sdxl, of_steered_sdxl,
        lambda batch: (*pictures_of_sdxl(batch), torch.empty(batch, 3, 8 * SIZE, 8 * SIZE)), 1,
    )  # fmt: skip
    for attention in FRAME_ATTENTIONS[1:]:
        yield (
            f"unet, {FRAMES} frames that see: {attention}", built(SD15.unet), partial(looking, attention),
            lambda batch: picture(768)(batch * FRAMES), FRAMES,
        )  # fmt: skip
    yield "video_unet", built(videos["zeroscope"].unet), forward, clip(1024), FRAMES
    yield "motion_unet", motion, forward, clip(768, copies=FRAMES), FRAMES
    yield "vidrd_unet", built(videos["vidrd"].unet), forward, clip(1024), FRAMES
    for video in videos.values():
        if not video.shares_space:
            yield from clips_of(video, LENGTHS[video.text_encoder.kind])
    yield from networks_of_the_toybox()


def networks_of_the_toybox() -> Iterator[Row]:
    """On as many pixels as the real ones."""
    yield from pictures_of(TOYBOX, "toybox/", toybox.TEXT_WIDTH, toybox.TEXT_LENGTH)
    for video in TOYBOX.video_models.values():
        if video.shares_space:
            yield video.unet.key, built(video.unet), forward, clip(toybox.TEXT_WIDTH, toybox.TEXT_LENGTH), FRAMES
        else:
            yield from clips_of(video, toybox.TEXT_LENGTH)


def pictures_of(family: Family, place: str, width: int, length: int) -> Iterator[Row]:
    """What makes a family's pictures; `place` goes before the kinds."""
    pixels = 8 * SIZE
    yield f"{place}unet", built(family.unet), forward, picture(width, length), 1
    yield (
        f"{place}controlnet", built(family.networks["controlnet"]["canny"]), forward,
        lambda batch: (*picture(width, length)(batch), torch.empty(batch, 3, pixels, pixels)), 1,
    )  # fmt: skip
    yield (
        f"{place}t2i_adapter", built(family.networks["t2i-adapter"]["depth"]), forward,
        lambda batch: (torch.empty(batch, 3, pixels, pixels),), 1,
    )  # fmt: skip
    yield (
        f"{place}vae, encode", built(family.vae), lambda vae, frames: vae.encode(frames),
        lambda batch: (torch.empty(batch, 3, pixels, pixels),), 1,
    )  # fmt: skip
    yield (
        f"{place}vae, decode", built(family.vae), lambda vae, latents: vae.decode(latents),
        lambda batch: (torch.empty(batch, 4, SIZE, SIZE),), 1,
    )  # fmt: skip


def clips_of(video: VideoModel, length: int) -> Iterator[Row]:
    """A video model whose latents are its own: transformer, told so many words, and both halves of the autoencoder."""
    vae = cast(ModelSpec, video.vae)
    transformer, coder = (cast(Any, built(spec)()).config for spec in (video.unet, vae))
    per_latent = coder.get("scale_factor_spatial") or coder.get("spatial_compression_ratio") or 8
    channels, side = transformer["in_channels"], 8 * SIZE // per_latent
    width = next(
        transformer[name] for name in ("text_dim", "text_embed_dim", "caption_channels") if name in transformer
    )
    yield (
        video.unet.key, built(video.unet), partial(shown, video),
        lambda batch: (
            torch.empty(batch, channels, LATENTS, side, side), torch.tensor(1.0), torch.empty(batch, length, width),
        ), LATENTS,
    )  # fmt: skip
    frames = 1 + (CODED - 1) * video.group
    yield (
        f"{vae.key}, encode", built(vae), lambda network, pixels: network.encode(pixels),
        lambda batch: (torch.empty(batch, 3, frames, 8 * SIZE, 8 * SIZE),), CODED,
    )  # fmt: skip
    yield (
        f"{vae.key}, decode", built(vae), lambda network, *latents: network.decode(*latents),
        lambda batch: (
            torch.empty(batch, channels, CODED, side, side),
            *([torch.empty(batch)] if coder.get("timestep_conditioning") else []),
        ), CODED,
    )  # fmt: skip


def shown(video: VideoModel, network: nn.Module, latents: Tensor, timestep: Tensor, states: Tensor) -> Any:
    """Evaluate a video model's network on latents, with the words as it reads them."""
    words = Words(states, states[..., 0]) if video.text_encoder.kind == "ltx_text_encoder" else states
    return cast("Callable[..., Any]", KINDS[video.unet.kind].call)(network, latents, timestep, words)


def in_use(name: str) -> Footprint:
    """What the estimates take of a line."""
    kind, _, half = name.partition(", ")
    specs = {spec.key: spec for family in (SD15, TOYBOX) for spec in family.components}
    specs |= {f"toybox/{spec.kind}": spec for spec in TOYBOX.components if spec.repo == TOYBOX_REPO}
    if kind in specs:
        return encoding_of(specs[kind]) if half == "encode" else footprint_of(specs[kind])
    return KINDS[kind].encoding if half == "encode" else KINDS[kind].footprint


def holds_clip(kind: str) -> bool:
    """Whether a line is of an autoencoder that computes with whole clips."""
    return any(spec.key == kind.partition(", ")[0] and KINDS[spec.kind].holds_clip for spec in SD15.components)


def main() -> None:
    """Print a line for each network: what was found, and what the estimates take."""
    logging.set_verbosity_error()  # casting as a whole is what is meant here
    print("| network | Gflop | MB live | Gflop in use | MB in use |\n| --- | --- | --- | --- | --- |")
    for kind, build, call, inputs, frames in networks():
        network = build()
        # Autoencoders of clips hold what they have coded, or a part of it at a time.
        at_once = 1 if frames == CODED and not holds_clip(kind) else frames
        work, held = gflop(network, call, inputs) / frames, live_bytes(build(), call, inputs) / at_once / 1e6
        used = in_use(kind)
        expected = used.gflop + frames * used.attention
        print(f"| {kind} | {work:.0f} | {held:.1f} | {expected:.0f} | {used.activations / 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    main()
