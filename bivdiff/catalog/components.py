"""What a run of a request is made of, each component by its role."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from bivdiff.catalog.bridging import inversions_of
from bivdiff.catalog.families import models_for
from bivdiff.catalog.image_models import IMAGE_MODELS, OWN_PIPELINE, OWN_UNET
from bivdiff.catalog.specs import Family, ModelSpec, VideoModel
from bivdiff.errors import InputError
from bivdiff.types import PRIOR_LABELS, GenerationRequest

_DISTILLED = re.compile(r"(?:^|[-_. ])(?:distilled|lightning|turbo|causvid|lcm)(?:$|[-_. ])", re.IGNORECASE)
Part = TypeVar("Part")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True, kw_only=True)
class Components(Generic[Part]):
    """The components of a run, as entries of the catalog or loaded.

    Attributes:
        vae, text_encoder, tokenizer, scheduler, unet: the family's, with the request's own base model; `unet` is the
            plain image model.
        video_unet, video_text_encoder, video_tokenizer, video_scheduler: the video model.
        video_vae: its decoder: the family's where it has none of its own.
        networks: the image model's own: those of the request's controls in their order, its U-Net, or a whole pipeline.
        annotators: what draws the control maps, where that takes a model; none of them runs in a stage.
        with_base: whether `unet`, `text_encoder` and `tokenizer` have a part in the run; else they are not loaded.
    """

    vae: Part
    text_encoder: Part
    tokenizer: Part
    scheduler: Part
    unet: Part
    video_unet: Part
    video_text_encoder: Part
    video_tokenizer: Part
    video_scheduler: Part
    video_vae: Part
    networks: tuple[Part, ...] = ()
    annotators: tuple[Part, ...] = ()
    with_base: bool = True

    @property
    def shared(self) -> tuple[Part, ...]:
        """What every image model of the family is made of."""
        return (self.vae, self.text_encoder, self.tokenizer, self.scheduler, self.unet)

    @property
    def of_stages(self) -> tuple[Part, ...]:
        """All that the stages run with, each once."""
        video = (self.video_unet, self.video_text_encoder, self.video_tokenizer, self.video_scheduler, self.video_vae)
        shared = self.shared if self.with_base else (self.vae, self.scheduler)
        return tuple(dict.fromkeys((*shared, *video, *self.networks)))

    @property
    def every(self) -> tuple[Part, ...]:
        """All that a run loads, each once."""
        return tuple(dict.fromkeys((*self.of_stages, *self.annotators)))

    def loaded(self, parts: Sequence[Loaded]) -> Components[Loaded]:
        """The same roles, filled with what was loaded of `of_stages`, in its order; without annotators.

        A role that has no part in the run holds None.
        """
        found = dict(zip(self.of_stages, parts, strict=True))
        roles: dict[str, Any] = {
            field.name: found.get(getattr(self, field.name))
            for field in fields(self)
            if field.name not in {"networks", "annotators", "with_base"}
        }
        return Components(**roles, networks=tuple(found[part] for part in self.networks), with_base=self.with_base)


def components_of(request: GenerationRequest) -> Components[ModelSpec]:
    """What a run of a request loads.

    Raises:
        InputError: its family has no such model, or the video model cannot do what is asked of it.
    """
    family = models_for(request)
    video = family.video_models[request.video_model]
    _check_video(request, video)
    annotators = (family.annotator(control) for control in request.controls)
    return Components(
        vae=family.vae, text_encoder=family.text_encoder, tokenizer=family.tokenizer, scheduler=family.scheduler,
        unet=family.unet, video_unet=video.unet, video_text_encoder=video.text_encoder,
        video_tokenizer=video.tokenizer, video_scheduler=video.scheduler, video_vae=video.vae or family.vae,
        networks=_networks(request, family),
        annotators=tuple(dict.fromkeys(spec for spec in annotators if spec is not None)),
        with_base=_with_base(request, video),
    )  # fmt: skip


def _with_base(request: GenerationRequest, video: VideoModel) -> bool:
    """Whether the family's base model makes frames, inverts them, or is what the video model is built into."""
    makes_frames = IMAGE_MODELS[request.image_model].denoiser in {"base", "own"}
    return makes_frames or "image" in inversions_of(request) or video.unet.base is not None


def _check_video(request: GenerationRequest, video: VideoModel) -> None:
    """Refuse what a video model with latents of its own cannot do, before anything is fetched for it."""
    name, inversions = request.video_model, inversions_of(request)
    if _is_distilled(video.unet) and not {"frame", "video"}.isdisjoint(inversions):
        raise InputError(
            f"The video model '{name}' ({video.unet.repo}) is distilled, as its name says: it leaps to a clip in a few "
            "steps, and no noise is found by walking back from one. Take the model that it was distilled from."
        )
    if not video.shares_space and "image" in inversions:
        raise InputError(
            f"The paper's frame noise, '{PRIOR_LABELS['image']}', is found in the image model's latents, and the video "
            f"model '{name}' has others. Choose '{PRIOR_LABELS['video']}' or '{PRIOR_LABELS['mean']}' "
            "(frame_prior video or mean), or another video model."
        )
    height, width = request.frames.shape[1:3]
    if height % video.multiple or width % video.multiple:
        wide, high = (max(1, round(side / video.multiple)) * video.multiple for side in (width, height))
        raise InputError(
            f"The sides of the video model '{name}' are multiples of {video.multiple} pixels, and the clip has "
            f"{width}x{height}. Take {wide}x{high}."
        )


def _is_distilled(spec: ModelSpec) -> bool:
    """Whether a network's name says so; nothing else in its files does."""
    return _DISTILLED.search(f"{spec.repo.rpartition('/')[2]} {spec.file}") is not None


def _networks(request: GenerationRequest, family: Family) -> tuple[ModelSpec, ...]:
    model, networks = IMAGE_MODELS[request.image_model], family.networks_of(request.image_model)
    wanted = tuple(control.control_type for control in request.controls) if model.steering else ()
    if model.denoiser == "own":
        wanted = (OWN_UNET,)
    if model.denoiser == "pipeline":
        wanted = (OWN_PIPELINE,)
    missing = [name for name in wanted if name not in networks]
    if missing and model.steering:
        raise InputError(
            f"There is no {model.title} for the control type '{missing[0]}'. Choose one of: {', '.join(networks)}."
        )
    if missing:
        raise InputError(
            f"The family '{request.family}' has no model for '{request.image_model}'. Choose another family, or name a "
            f"U-Net for it in its catalog file, as [families.{request.family}.image_models.{request.image_model}]."
        )
    return tuple(networks[name] for name in wanted)
