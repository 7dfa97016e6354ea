"""Video models with latents of their own, which go with the image models of every family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bivdiff.catalog.specs import ModelSpec, VideoModel


@dataclass(frozen=True, kw_only=True)
class _Make:
    """What models of one make have in common.

    Attributes:
        transformer, text_encoder, scheduler, vae: their kinds of components.
        also: folders of further networks, each as large as the first; see `ModelSpec`.
        words: numbers in the weights of the text encoder.
        widths: bytes of each number in the files of transformer, text encoder and autoencoder.
        group, unit: as in `VideoModel`.
        checked: what was looked up of their entries.
    """

    transformer: str
    also: tuple[str, ...] = ()
    text_encoder: str
    scheduler: str
    vae: str
    words: int
    widths: tuple[int, int, int]
    group: int
    unit: int = 0
    checked: str

    def model(
        self, name: str, repo: str, numbers: tuple[int, int], size: tuple[int, int], num_frames: int, multiple: int,
        licence: str = "apache-2.0",
    ) -> VideoModel:  # fmt: skip
        """A model whose repository holds all of it; `numbers` are in the weights of transformer and autoencoder."""

        def part(role: str, kind: str, folder: str, count: int = 0, width: int = 2, **more: Any) -> ModelSpec:
            return ModelSpec(
                key=f"{name}/{role}", kind=kind, repo=repo, folder=folder, bytes=count * width, bytes_per_number=width,
                licence=licence, checked=self.checked, **more,
            )  # fmt: skip

        of_transformer, of_words, of_vae = self.widths
        networks = (1 + len(self.also)) * numbers[0]
        return VideoModel(
            unet=part(
                "transformer", self.transformer, "transformer", networks, of_transformer, also=self.also, size=size,
                num_frames=num_frames,
            ),
            text_encoder=part("text-encoder", self.text_encoder, "text_encoder", self.words, of_words),
            tokenizer=part("tokenizer", "t5_tokenizer", "tokenizer"),
            scheduler=part("scheduler", self.scheduler, "scheduler"),
            vae=part("vae", self.vae, "vae", numbers[1], of_vae), group=self.group, unit=self.unit, multiple=multiple,
        )  # fmt: skip


_T5_XXL = 4_762_310_656
_WAN = _Make(
    transformer="wan_transformer", text_encoder="umt5_encoder", scheduler="flow_scheduler", vae="wan_vae",
    words=5_680_910_336, widths=(4, 2, 4), group=4,
    checked="id, layout and licence; bytes from the number of parameters; not its files",
)  # fmt: skip
_WAN_EXPERTS = replace(_WAN, transformer="wan_experts", also=("transformer_2",))
_COGVIDEOX = _Make(
    transformer="cogvideox_transformer", text_encoder="cogvideox_text_encoder", scheduler="cogvideox_scheduler",
    vae="cogvideox_vae", words=_T5_XXL, widths=(2, 2, 2), group=4, unit=8,
    checked="id, files, licence and schedule; bytes from the number of parameters",
)  # fmt: skip
_LTX = _Make(
    transformer="ltx_transformer", text_encoder="ltx_text_encoder", scheduler="flow_scheduler", vae="ltx_vae",
    words=_T5_XXL, widths=(2, 4, 2), group=8,
    checked="id, configs and schedule; bytes from the number of parameters, as wide as those of 0.9.1 and 0.9.7 are",
)  # fmt: skip

WITH_LATENTS_OF_THEIR_OWN: Mapping[str, VideoModel] = {
    "wan2.1-1.3b": _WAN.model(
        "wan2.1-1.3b", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", (1_418_996_800, 126_892_531), (832, 480), 81, 16
    ),
    "wan2.1-14b": _WAN.model(
        "wan2.1-14b", "Wan-AI/Wan2.1-T2V-14B-Diffusers", (14_288_491_584, 126_892_531), (832, 480), 81, 16
    ),
    "wan2.2-5b": _WAN.model(
        "wan2.2-5b", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", (4_999_787_712, 704_688_668), (1280, 704), 121, 32
    ),
    "wan2.2-a14b": _WAN_EXPERTS.model(
        "wan2.2-a14b", "Wan-AI/Wan2.2-T2V-A14B-Diffusers", (14_288_491_584, 126_892_531), (832, 480), 81, 16
    ),
    "cogvideox-2b": _COGVIDEOX.model(
        "cogvideox-2b", "THUDM/CogVideoX-2b", (1_693_783_872, 215_583_907), (720, 480), 49, 16
    ),
    "cogvideox-5b": _COGVIDEOX.model(
        "cogvideox-5b", "THUDM/CogVideoX-5b", (5_570_283_072, 215_583_907), (720, 480), 49, 16,
        "cogvideox (register to sell)",
    ),
    "ltx-0.9.5": _LTX.model(
        "ltx-0.9.5", "Lightricks/LTX-Video-0.9.5", (1_923_385_472, 1_246_913_522), (704, 512), 161, 32,
        "ltx-video (read it to sell)",
    ),
}  # fmt: skip
