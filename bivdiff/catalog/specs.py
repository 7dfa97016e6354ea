"""What the catalog is made of: a component that can be loaded, a video model, a family of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bivdiff.types import Control

TOYBOX_REPO = ""
SAFETENSORS = ".safetensors"
WEIGHT_FILES = (SAFETENSORS, ".ckpt", ".pth", ".pt", ".bin")
"""How the names of files end that hold weights."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One loadable component. Two that are equal load the same thing; notes on it do not count.

    Attributes:
        key: its name in lists and commands, `family/name`.
        kind: key of its loader.
        repo: repository on the model hub, or a folder of that name in the models folder; empty for what ships with
            the app. For a checkpoint of one's own also the path of a folder or of a file of weights.
        folder: its place in there; empty for the root.
        also: other folders in there that hold a part of it each, in the same form.
        file: the one file it is read from, where it is not a folder in diffusers' layout.
        revision: branch, tag or commit of the repository.
        variant: of the weights, such as "fp16": the files that bear it in their name.
        config: what of the component's own config is replaced, as pairs.
        base: the component it is put together with: a motion adapter's image model.
        loras: LoRA files or repositories that are merged into it, each with its scale.
        embeddings: files of textual inversion that its vocabulary is widened by.
        on_hub: whether it can be pulled; one that cannot must be put there by hand.
        bytes: of the files it is read from; bytes_per_number: of each of the weights in them.
        licence: as its model card has it.
        size, num_frames: what it was trained at, width and height in pixels, where that matters.
        max_frames: the most frames that it can see at once, where there is a bound.
        checked: what of the above was looked up, and what was not.
    """

    key: str = field(compare=False)
    kind: str
    repo: str = TOYBOX_REPO
    folder: str = ""
    also: tuple[str, ...] = ()
    file: str = ""
    revision: str = "main"
    variant: str = ""
    config: tuple[tuple[str, Any], ...] = ()
    base: ModelSpec | None = None
    loras: tuple[tuple[str, float], ...] = ()
    embeddings: tuple[str, ...] = ()
    on_hub: bool = field(default=True, compare=False)
    bytes: int = field(default=0, compare=False)
    bytes_per_number: int = field(default=2, compare=False)
    licence: str = field(default="apache-2.0", compare=False)
    size: tuple[int, int] | None = field(default=None, compare=False)
    num_frames: int | None = field(default=None, compare=False)
    max_frames: int | None = field(default=None, compare=False)
    checked: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        """Repository and folder or file, for sentences."""
        return "/".join(part for part in (self.repo, self.folder, self.file) if part)

    @property
    def load_id(self) -> str:
        """Names what is loaded, and nothing else: equal for equal weights, whatever the key."""
        parts = [self.kind, self.place, self.revision, self.variant]
        parts += [f"{name}={value}" for name, value in self.config]
        parts += [f"{path}*{scale:g}" for path, scale in self.loras]
        parts += [*self.also, *self.embeddings, self.base.load_id if self.base else ""]
        return "|".join(parts)


def with_bases(specs: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
    """Components, each followed by the one that it is put together with, where there is one; each once."""
    return tuple(dict.fromkeys(part for spec in specs for part in (spec, spec.base) if part))


@dataclass(frozen=True)
class VideoModel:
    """A video model's network, what reads its prompts, its noise schedule, and its decoder if it is not the family's.

    Attributes:
        unet, text_encoder, tokenizer, scheduler, vae: its components.
        group: frames of each of its latents after the first; 1 where every frame has one. Above 1 its latents are of
            a space of its own, and its `vae` encodes as well.
        unit: its clips are one frame and a multiple of so many more, which its autoencoder takes together; 0 where
            that is a group.
        multiple: its sides are to be multiples of so many pixels.
    """

    unet: ModelSpec
    text_encoder: ModelSpec
    tokenizer: ModelSpec
    scheduler: ModelSpec
    vae: ModelSpec | None = None
    group: int = 1
    unit: int = 0
    multiple: int = 8

    @property
    def components(self) -> tuple[ModelSpec, ...]:
        """All that must be loaded for it."""
        own = (self.unet, self.text_encoder, self.tokenizer, self.scheduler)
        return (*own, self.vae) if self.vae else own

    @property
    def window(self) -> int:
        """Frames it was trained to see at once."""
        return self.unet.num_frames or 8

    @property
    def shares_space(self) -> bool:
        """Whether its latents are those of the family's image models."""
        return self.group == 1

    def latents_of(self, num_frames: int) -> int:
        """How many latents so many frames take."""
        return latents_of(num_frames, self.group, self.unit or self.group)


def latents_of(num_frames: int, group: int, unit: int) -> int:
    """How many latents so many frames take: one for the first frame, and those of every unit that is begun."""
    return 1 + -(-(num_frames - 1) // unit) * (unit // group)


@dataclass(frozen=True)
class Family:
    """Models that share a latent space.

    Attributes:
        title: its name on the page.
        size: width and height the image models were trained at, in pixels.
        num_frames: frames of a clip, unless one asks for more or fewer.
        vae, text_encoder, tokenizer, unet, scheduler: shared components; `unet` is the plain base image model.
        networks: of each image model that needs its own: what steers the base U-Net by the control type that it
            reads, a U-Net that takes the base's place under OWN_UNET.
        video_models: by key, the default first.
        annotators: control type -> the model that draws its maps; a type without one needs none.
        preview: what shows latents during a run, without the autoencoder: red, green and blue, from -1 to 1, of each
            channel of scaled latents; or a file in the toybox's folder, see previews.py. Without it they are decoded.
        presets, task_presets: settings that were measured for these models, by image model and, over those, by task,
            where they differ from the paper's.
        other_presets: settings beside those, by name, each over what the family starts with.
    """

    title: str
    size: tuple[int, int]
    num_frames: int
    vae: ModelSpec
    text_encoder: ModelSpec
    tokenizer: ModelSpec
    unet: ModelSpec
    scheduler: ModelSpec
    video_models: Mapping[str, VideoModel]
    networks: Mapping[str, Mapping[str, ModelSpec]] = field(default_factory=dict)
    annotators: Mapping[str, ModelSpec] = field(default_factory=dict)
    preview: tuple[tuple[float, float, float], ...] | str = ()
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    task_presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    other_presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def shared(self) -> tuple[ModelSpec, ...]:
        """What every image model of the family is made of."""
        return (self.vae, self.text_encoder, self.tokenizer, self.scheduler, self.unet)

    @property
    def components(self) -> tuple[ModelSpec, ...]:
        """Every component of the family once, shared ones first."""
        found = [*self.shared, *(spec for networks in self.networks.values() for spec in networks.values())]
        found += [spec for video in self.video_models.values() for spec in video.components]
        return tuple(dict.fromkeys([*found, *self.annotators.values()]))

    def networks_of(self, image_model: str) -> Mapping[str, ModelSpec]:
        """The networks of an image model, by name as in `networks`; empty where it needs none or there are none."""
        return self.networks.get(image_model, {})

    def annotator(self, control: Control) -> ModelSpec | None:
        """The model that draws a control's maps; None where they are given, or drawn without a model."""
        return self.annotators.get(control.control_type) if control.frames is None else None
