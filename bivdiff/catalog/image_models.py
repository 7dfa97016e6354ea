"""The image models: all that is true of each in every family, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bivdiff.types import GenerationRequest

BRIDGE = ("mixing_ratio", "frame_prior", "mixing_rule", "start_level")
"""Fields of the request that say how the frames are bridged."""
OWN_UNET = "unet"
"""The name of an image model's own U-Net among a family's networks."""
OWN_PIPELINE = "pipeline"
"""The name of a whole pipeline among the networks that a request names itself."""
OWN_CONTROLNET = "pipeline_controlnet"
"""What the ControlNet is called that such a pipeline is put together with."""


@dataclass(frozen=True)
class Steps:
    """Steps that cost alike: how many there are, and how often each picture is evaluated in one of them."""

    count: int
    passes: int


def guided_passes(guidance_scale: float) -> int:
    """How often classifier-free guidance evaluates a picture in one step: with the prompt, and with the negative."""
    return 2 if guidance_scale > 1 else 1


def guided_steps(num_steps: int, guided_share: float) -> int:
    """How many of the image model's steps, the first ones, are guided."""
    return round(guided_share * num_steps)


def _guided(request: GenerationRequest) -> tuple[Steps, ...]:
    return _partly_guided(request, guided_passes(request.guidance_scale))


def _guided_by_picture(request: GenerationRequest) -> tuple[Steps, ...]:
    """InstructPix2Pix has two guidances, and evaluates both together whatever their scales."""
    return _partly_guided(request, 3)


def _partly_guided(request: GenerationRequest, passes: int) -> tuple[Steps, ...]:
    guided = guided_steps(request.num_inference_steps, request.guided_share)
    return Steps(guided, passes), Steps(request.num_inference_steps - guided, 1)


def _beside_the_source(request: GenerationRequest) -> tuple[Steps, ...]:
    """Prompt2Prompt inverts the source, and denoises the edit beside it for as long as it looks at the source."""
    count = request.num_inference_steps
    inverted = Steps(count, 1)
    if not request.reweight.strip() and request.prompt.lower().split() == request.source_prompt.lower().split():
        return (inverted,)  # no edit: the way back is known
    if request.reweight.strip() or request.blend_words.strip(" ,"):
        beside = count
    else:
        beside = max(round(share * count) for share in (request.cross_replace_steps, request.self_replace_steps))
    passes = guided_passes(request.guidance_scale)
    return inverted, Steps(beside, passes + 1), Steps(count - beside, passes)


def _nothing(_: GenerationRequest) -> tuple[Steps, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """What is true of an image model, whatever the family.

    Attributes:
        title: its name on the page.
        tasks: keys of TASKS; a task starts with the first of the image models that serve it.
        denoiser: what makes the frames: the family's base U-Net, a U-Net of its own, a pipeline that the request names
            and that no family has, or nothing, since they are given.
        pipeline: the kind of component that such a pipeline is.
        steering: the kind of component that steers the base U-Net by control maps; empty if there is none.
        channels: that its U-Net reads: the latents, and what it is shown behind them.
        needs: fields of the request that it cannot do without.
        settings: fields of the request that it alone reads, or it and its like.
        by_instruction: whether its prompt is an order, which describes no clip.
        inverts_source: whether it starts from the source's inversion and not from noise of its own.
        steps: those in which it makes the frames of a request, in their order.
        batches: what `frame_batch_size` counts: pictures that are evaluated, or frames, each with all its passes.
        paper: its settings in the paper, where they differ from GenerationRequest's own defaults.
    """

    title: str
    tasks: tuple[str, ...]
    denoiser: Literal["base", "own", "pipeline", "none"] = "base"
    pipeline: str = ""
    steering: str = ""
    channels: int = 4
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    by_instruction: bool = False
    inverts_source: bool = False
    steps: Callable[[GenerationRequest], tuple[Steps, ...]] = _guided
    batches: Literal["pictures", "frames"] = "pictures"
    paper: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reads_controls(self) -> bool:
        """Whether it is steered by control maps."""
        return "controls" in self.needs

    @property
    def makes_frames(self) -> bool:
        """Whether there is anything to be made."""
        return self.denoiser != "none"

    @property
    def in_paper(self) -> bool:
        """Whether the paper has settings for it."""
        return self.denoiser in {"base", "own"}

    @property
    def paper_bridge(self) -> dict[str, Any]:
        """The fields of `BRIDGE` as the paper has them for it."""
        return {name: self.paper.get(name, getattr(GenerationRequest, name)) for name in BRIDGE}

    @property
    def paper_ratio(self) -> float:
        """The mixing ratio that the paper has for it."""
        ratio: float = self.paper_bridge["mixing_ratio"]
        return ratio


IMAGE_MODELS: dict[str, ImageModel] = {
    "controlnet": ImageModel(
        title="ControlNet", tasks=("control",), steering="controlnet", needs=("controls",),
        settings=("controls", "low_threshold", "high_threshold"),
    ),
    "t2i-adapter": ImageModel(
        title="T2I-Adapter", tasks=("control",), steering="t2i_adapter", needs=("controls",),
        settings=("controls", "low_threshold", "high_threshold"),
    ),
    "control-pipeline": ImageModel(
        title="A pipeline of your own", tasks=("control",), denoiser="pipeline", pipeline="control_pipeline",
        needs=("controls", "pipeline"),
        settings=("controls", "low_threshold", "high_threshold", "pipeline", "pipeline_controlnet"),
    ),
    "instruct-pix2pix": ImageModel(
        title="InstructPix2Pix", tasks=("edit",), denoiser="own", channels=8, by_instruction=True,
        settings=("source_prompt", "image_guidance_scale"), steps=_guided_by_picture,
    ),
    "prompt2prompt": ImageModel(
        title="Prompt2Prompt", tasks=("edit",), needs=("source_prompt",),
        settings=("source_prompt", "cross_replace_steps", "self_replace_steps", "blend_words", "reweight"),
        inverts_source=True, steps=_beside_the_source, batches="frames", paper={"mixing_ratio": 0.25},
    ),
    "inpainting": ImageModel(
        title="Inpainting model", tasks=("inpaint", "outpaint"), denoiser="own", channels=9, needs=("masks",),
        settings=("masks", "preserve_known", "feather"), paper={"mixing_ratio": 0.1},
    ),
    "edit-pipeline": ImageModel(
        title="A pipeline of your own", tasks=("edit",), denoiser="pipeline", pipeline="edit_pipeline",
        needs=("pipeline",), settings=("source_prompt", "pipeline", "pipeline_strength", "image_guidance_scale"),
        by_instruction=True,
    ),
    "fill-pipeline": ImageModel(
        title="A pipeline of your own", tasks=("inpaint", "outpaint"), denoiser="pipeline", pipeline="fill_pipeline",
        needs=("masks", "pipeline"), settings=("masks", "preserve_known", "feather", "pipeline", "pipeline_strength"),
        paper={"frame_prior": "video"},
    ),
    "given": ImageModel(
        title="None: the frames are given", tasks=("smooth",), denoiser="none", steps=_nothing,
    ),
}  # fmt: skip


def title_of(image_model: str) -> str:
    """An image model's name on the page; of one that is not known here, such as a later version's, its key."""
    model = IMAGE_MODELS.get(image_model)
    return image_model if model is None else model.title


def frames_name(image_model: str) -> str:
    """What the frames are called that a clip is bridged from."""
    return "Frame by frame" if IMAGE_MODELS[image_model].makes_frames else "Your frames"
