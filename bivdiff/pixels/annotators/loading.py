"""How the networks of the annotators are read from the files they were released in, all of lllyasviel/Annotators."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from bivdiff.errors import ModelUnavailableError
from bivdiff.pixels.annotators.detectors import part

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_UNREADABLE = (
    OSError, EOFError, UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
)  # fmt: skip
"""What torch raises, and what the functions below do, for a file that is not what its name says."""


def _hed() -> "Module":
    return part("hed").ControlNetHED_Apache2()


def _pidinet() -> "Module":
    return part("pidi.model").pidinet()


def _lineart() -> "Module":
    return part("lineart").Generator(3, 1, 3)


def _body_pose() -> "Module":
    return part("open_pose.model").bodypose_model()


def _normalbae() -> "Module":
    # The encoder talks on standard output while it is built. Giving its module a silent print, rather than turning
    # away the whole process's output for that while, leaves other threads their voice.
    vars(part("normalbae.nets.submodules.encoder"))["print"] = lambda *_, **__: None
    # The ratios matter in training alone.
    return part("normalbae.nets.NNET").NNET(
        SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7)
    )


def _plain(content: Any, _: "Module") -> "Mapping[str, Tensor]":
    return content


def _under(key: str, content: Any, _: "Module") -> "Mapping[str, Tensor]":
    """What a training script saved beside other things, of a network that it had wrapped in another."""
    return {name.removeprefix("module."): tensor for name, tensor in content[key].items()}


def _by_layer(content: Any, network: "Module") -> "Mapping[str, Tensor]":
    """Weights that are named by their layer alone, where the network puts the name of a block of layers first."""
    return {name: content[name.partition(".")[2]] for name in network.state_dict()}


def _check_finite(network: "Module") -> None:
    """Refuse weights that would turn every map black without a word."""
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")


class _Release(NamedTuple):
    """A file's name, the network without its weights, and `(content, network)` to the network's state dict."""

    file: str
    build: "Callable[[], Module]"
    weights_of: "Callable[[Any, Module], Mapping[str, Tensor]]"


_RELEASES = {
    "hed": _Release("ControlNetHED.pth", _hed, _plain),
    "pidinet": _Release("table5_pidinet.pth", _pidinet, partial(_under, "state_dict")),
    "lineart": _Release("sk_model.pth", _lineart, _plain),
    "normalbae": _Release("scannet.pt", _normalbae, partial(_under, "model")),
    "body_pose": _Release("body_pose_model.pth", _body_pose, _by_layer),
}


def _load(kind: str, folder: Path) -> "Module":
    """Read a network from its file.

    Args:
        kind: key of `LOADERS`.
        folder: holds the file under the name it was released with.

    Returns:
        The network for which controlnet_aux has a detector: float32 whatever the file holds, since that is what the
        detector shows it; in eval mode, on the CPU.

    Raises:
        ModelUnavailableError: the file is missing, damaged, more than weights, or of another network.
    """
    import torch

    file, build, weights_of = _RELEASES[kind]
    path = folder / file
    if not path.is_file():
        raise ModelUnavailableError(
            f"The file '{file}' of the {kind} annotator is missing. Download it from lllyasviel/Annotators."
        )
    # Without memory or random numbers: every weight comes from the file.
    with torch.device("meta"):
        network = build()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(weights_of(content, network), assign=True)
        _check_finite(network)
    except _UNREADABLE as error:
        raise ModelUnavailableError(
            f"The file '{file}' does not hold the weights of the {kind} annotator: it is incomplete, damaged or of "
            "another network. Delete it and download it again from lllyasviel/Annotators."
        ) from error
    return network.float().eval().requires_grad_(False)


LOADERS: "Mapping[str, Callable[[Path], Module]]" = {kind: partial(_load, kind) for kind in _RELEASES}
FILES: Mapping[str, str] = {kind: release.file for kind, release in _RELEASES.items()}
