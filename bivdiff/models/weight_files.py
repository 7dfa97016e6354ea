"""Files of weights, whoever wrote them: what they hold, and what that is. A pickle is read for its tensors alone."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bivdiff.catalog.specs import SAFETENSORS
from bivdiff.errors import ModelUnavailableError

_KINDS: tuple[tuple[str, str], ...] = (
    (r"lora_controlnet", "a control LoRA"),
    (r"motion_modules.*lora", "a motion LoRA, for the motion modules of AnimateDiff"),
    (r"custom_diffusion", "attention layers of Custom Diffusion"),
    (r"\.lokr_", "a LyCORIS LoKr"),
    (r"\.hada_", "a LyCORIS LoHa"),
    (r"\.oft_|\.boft_", "an OFT adapter"),
    (r"\.on_input$|\.ia3_l", "an (IA)^3 adapter"),
    (r"\.[ab][12]\.weight$", "a LyCORIS GLoRA"),
    (r"^(lora|lycoris)_.*\.(diff|diff_b|w_norm|b_norm)$", "a LyCORIS file of whole differences"),
    (r"lora", "a LoRA"),
    (r"^string_to_param|^emb_params$", "a textual inversion"),
    (r"^(ip_adapter|image_proj)\b", "an IP-Adapter"),
    (r"^control_model\.|^zero_convs\.|^controlnet_down_blocks\.", "a ControlNet"),
    (r"^(adapter\.)?body\.0\.(block1|resnets)\b", "a T2I-Adapter"),
    (r"motion_modules\.", "motion modules of AnimateDiff"),
    (r"^model\.diffusion_model\.", "a whole checkpoint"),
    (r"^(down_blocks|input_blocks)\.", "a U-Net"),
    (r"^(first_stage_model|decoder)\.", "an autoencoder"),
    (r"^(text_model|cond_stage_model)\.", "a text encoder"),
)
"""What a file is, by what the name of one of its weights holds; the first that is found counts."""


class Contents(NamedTuple):
    """What a file of weights holds, none of them read.

    Attributes:
        shapes: of its weights, by their names.
        metadata: what a .safetensors file says of itself; a pickle says nothing.
    """

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def contents_of(path: Path) -> Contents:
    """The table of contents of a file of weights.

    Raises:
        ModelUnavailableError: it is missing, damaged, or no file of weights.
    """
    with _told(path):
        if path.suffix != SAFETENSORS:
            return Contents({name: tuple(tensor.shape) for name, tensor in _unpickled(path, "meta").items()}, {})
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return Contents(shapes, file.metadata() or {})


def read_weights(path: Path, start: str = "") -> dict[str, Tensor]:
    """The weights of a file whose names begin so, on the CPU, by their whole names; the others stay on the disk.

    Raises:
        ModelUnavailableError: it is missing, damaged, or no file of weights.
    """
    with _told(path):
        if path.suffix != SAFETENSORS:
            return {name: weight for name, weight in _unpickled(path, "cpu").items() if name.startswith(start)}
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(start)}  # noqa: SIM118


def kind_of(names: Collection[str]) -> str:
    """What a file is that has weights of these names, in words; empty where nobody knows."""
    found = next((kind for sign, kind in _KINDS if any(re.search(sign, name) for name in names)), "")
    # A word with its vectors, as diffusers saves it, has nothing else to be known by.
    return found or ("a textual inversion" if len(names) == 1 and "." not in next(iter(names)) else "")


def _unpickled(path: Path, device: str) -> dict[str, Tensor]:
    # On the device "meta" weights take no memory, and of today's format nothing but a table is read.
    content: Any = torch.load(path, map_location=device, weights_only=True, mmap=zipfile.is_zipfile(path))
    if not isinstance(content, Mapping):
        raise TypeError(f"It holds {type(content).__name__} and no weights by name")
    content = content.get("state_dict", content)  # a checkpoint of a training has other things beside them
    return {str(name): weight for name, weight in content.items() if isinstance(weight, Tensor)}


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the libraries raise for a file that cannot be read into a sentence."""
    unreadable = (
        OSError, EOFError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, UnpicklingError,
        SafetensorError,
    )  # fmt: skip
    try:
        yield
    except unreadable as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0].split(". ")[0].rstrip(".")
        wanted = "no .safetensors file" if path.suffix == SAFETENSORS else "holds more than tensors"
        raise ModelUnavailableError(
            f"The file '{path.name}' cannot be read: {reason}. It is incomplete, damaged or {wanted}; "
            "download it again."
        ) from error
