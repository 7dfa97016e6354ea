"""What is known of a kind of component, and what loaders are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from bivdiff.catalog.specs import ModelSpec
from bivdiff.models.architectures import Architecture

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bivdiff.models.single_file import PartName
    from bivdiff.models.words import Prompt


class Weights(NamedTuple):
    """What `from_pretrained` needs to read the files that were chosen."""

    variant: str | None
    use_safetensors: bool


class Source(NamedTuple):
    """What a component is read from.

    Attributes:
        spec: the component.
        root: of its repository, or a single file.
        weights: which of the weights in there.
        dtype: that they are to have.
        base: the loaded component of `spec.base`, if it has one.
        additions: the files of its LoRAs and textual inversions, by the names that `spec` has for them.
    """

    spec: ModelSpec
    root: Path
    weights: Weights
    dtype: torch.dtype
    base: Any = None
    additions: Mapping[str, Path] = MappingProxyType({})

    @property
    def loras(self) -> list[tuple[Path, float]]:
        """The files of its LoRAs, each with its scale."""
        return [(self.additions[name], scale) for name, scale in self.spec.loras]

    @property
    def embeddings(self) -> list[Path]:
        """The files of its textual inversions."""
        return [self.additions[name] for name in self.spec.embeddings]


class Footprint(NamedTuple):
    """Of one picture or frame of 512x512: operations in units of 1e9, and bytes that live at once at 16 bits.

    `attention`: operations for each pair of frames that see each other whole, place by place. Where latents are
    compressed in time, each of them is a frame here.
    """

    gflop: float
    activations: float
    attention: float = 0


NOTHING = Footprint(0, 0)
Load = Callable[[Source], Any]
Call = Callable[[Any, "Tensor", "Tensor", Any], "Tensor"]
Read = Callable[[Any, Any, str], "Prompt"]
Check = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """All that is true of a kind of component.

    Attributes:
        title: in words, for lists.
        load: reads one on the CPU; imports its library no earlier.
        check: refuses the config of what is no such component by a ValueError; asked before its weights are fetched
            or read, since another's may go by the same names.
        holds: what its files hold: a schedule or a tokenizer has no weights, a pipeline has all of that in folders.
        by_transformers: whether its weights bear the names that transformers gives them; else they are diffusers'.
        architecture: the shape of the real networks of this kind, where it is known.
        prefix: how the names of its weights begin in a file that holds other components too; empty where none does.
        in_every_step: whether it is large and runs in every step, so that fp8 and compilation are worth it.
        footprint: of one evaluation, where it runs in a stage; of an autoencoder's decoding. From
            `benchmarks/footprint.py`, which runs the full-size networks on tensors without content.
        encoding: of an autoencoder's other half.
        alone: whether it can lie in one file of weights, without a config (see models/single_file).
        codes: of an autoencoder: what its latents are of.
        holds_clip: of an autoencoder of clips: whether it computes with the whole clip at once, not part by part; the
            bytes of its footprints are of each latent then.
        precise: whether its weights are kept in full precision.
        wide: whether its numbers overflow float16, so that it is computed in bfloat16 there.
        call: how a video model is asked: `(network, latents, timestep, prompt_embeds)` to what it predicts.
        read: how a text encoder that is not asked as an image model's makes words of a prompt:
            `(tokenizer, text encoder, prompt)`.
        asks_twice_first: of a schedule: whether denoising by it begins with one evaluation more.
        sees_frames_by_base: of a video model: whether a frame alone is seen by the image model that it is built into,
            and not by itself.
    """

    title: str
    load: Load
    check: Check | None = None
    holds: Literal["weights", "schedule", "tokenizer", "pipeline"] = "weights"
    by_transformers: bool = False
    architecture: Architecture | None = None
    prefix: str = ""
    in_every_step: bool = False
    footprint: Footprint = NOTHING
    encoding: Footprint = NOTHING
    alone: bool = False
    codes: Literal["", "pictures", "clips"] = ""
    holds_clip: bool = False
    precise: bool = False
    wide: bool = False
    call: Call | None = None
    read: Read | None = None
    asks_twice_first: bool = False
    sees_frames_by_base: bool = False


def or_single_file(load: Load) -> Load:
    """The same component from a folder in its library's layout, or from one file of weights."""

    def load_either(source: Source) -> Any:
        path = source.root if source.root.is_file() else source.root / source.spec.folder / source.spec.file
        if not path.is_file():
            return load(source)
        from bivdiff.models.single_file import read_part

        return read_part(path, cast("PartName", source.spec.kind)).to(source.dtype)

    return load_either


def is_a(class_name: str, **wanted: Any) -> Check:
    """Refuses a config that names another class, or has another value where one is wanted; none is as good as it."""

    def check(config: Mapping[str, Any]) -> None:
        named = config.get("_class_name", class_name)
        if named != class_name:
            raise ValueError(f"Its config says that it is a {named}, and a {class_name} is needed.")
        for name, value in wanted.items():
            if config.get(name) not in (None, value):
                raise ValueError(f"Its config has {config[name]!r} for {name}, and only {value!r} can be used here.")

    return check


def is_of_text(class_name: str, **wanted: Any) -> Check:
    """As `is_a`, of a video model: it also refuses one that reads a picture or a mask beside the clip."""
    check = is_a(class_name, **wanted)

    def check_channels(config: Mapping[str, Any]) -> None:
        check(config)
        read, made = config.get("in_channels"), config.get("out_channels")
        if read and made and read != made:
            raise ValueError(
                f"It reads {read} channels and makes {made}: it wants a picture or a mask beside the clip. Take "
                "the one of its family that is told by words alone."
            )

    return check_channels


def is_of_model(model_type: str) -> Check:
    """Refuses a config of another model of transformers."""

    def check(config: Mapping[str, Any]) -> None:
        named = config.get("model_type", model_type)
        if named != model_type:
            raise ValueError(f"Its config says that it is a '{named}', and a '{model_type}' is needed.")

    return check


def diffusers_loader(class_name: str) -> Load:
    """Reads a component of a class of diffusers."""

    def load(source: Source) -> torch.nn.Module:
        import diffusers

        return _from_pretrained(getattr(diffusers, class_name), source, torch_dtype=source.dtype)

    return load


def transformers_loader(class_name: str, **options: Any) -> Load:
    """Reads a component of a class of transformers."""

    def load(source: Source) -> torch.nn.Module:
        import transformers

        return _from_pretrained(getattr(transformers, class_name), source, dtype=source.dtype, **options)

    return load


def _from_pretrained(library_class: Any, source: Source, **options: Any) -> torch.nn.Module:
    """A component in its library's layout; weights that are missing would be random, so they are refused."""
    model, report = library_class.from_pretrained(
        source.root, subfolder=source.spec.folder, local_files_only=True, output_loading_info=True,
        **source.weights._asdict(), **options,
    )  # fmt: skip
    if missing := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"{len(missing)} of its weights are missing or of another shape, such as {missing[0]}.")
    loaded: torch.nn.Module = model
    return loaded
