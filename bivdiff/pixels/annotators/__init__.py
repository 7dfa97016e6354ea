"""Control maps: what a ControlNet or T2I-Adapter is shown of the source clip."""

from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bivdiff.errors import InputError
from bivdiff.pixels.annotators.canny import annotate_canny
from bivdiff.pixels.annotators.depth import annotate_depth
from bivdiff.pixels.annotators.lineart import annotate_lineart
from bivdiff.pixels.annotators.normal import annotate_normal
from bivdiff.pixels.annotators.pose import annotate_pose
from bivdiff.pixels.annotators.sketch import annotate_sketch
from bivdiff.pixels.annotators.softedge import annotate_scribble, annotate_softedge


class Annotator(NamedTuple):
    """One kind of control map.

    Attributes:
        draw: `(frames, **settings)` to the maps; with a `model` among the settings if `kind` names one. A generator
            that yields the number of frames seen and returns the maps.
        kind: of the component that it needs: "depth_estimator" or a key of `loading.LOADERS`; None needs none.
    """

    draw: Callable[..., Generator[int, None, np.ndarray]]
    kind: str | None


ANNOTATORS: Mapping[str, Annotator] = {
    "canny": Annotator(annotate_canny, None),
    "depth": Annotator(annotate_depth, "depth_estimator"),
    "pose": Annotator(annotate_pose, "body_pose"),
    "softedge": Annotator(annotate_softedge, "hed"),
    "scribble": Annotator(annotate_scribble, "hed"),
    "lineart": Annotator(annotate_lineart, "lineart"),
    "normal": Annotator(annotate_normal, "normalbae"),
    "sketch": Annotator(annotate_sketch, "pidinet"),
}


def annotate(control_type: str, frames: np.ndarray, *, model: Any = None, **settings: Any) -> np.ndarray:
    """Make one control map for each frame.

    Args:
        control_type: a key of `ANNOTATORS`.
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        model: the component of the kind that `ANNOTATORS` names, in eval mode, on its device.
        settings: the other keyword arguments of that kind's function.

    Returns:
        uint8 `(F, H, W, 3)`, the size of `frames`.

    Raises:
        InputError: `control_type` is not known, or a setting is out of range.
        ModelUnavailableError: what the model answers is no map.
    """
    steps = annotate_in_steps(control_type, frames, model=model, **settings)
    try:
        while True:
            next(steps)
    except StopIteration as done:
        return done.value


def annotate_in_steps(
    control_type: str, frames: np.ndarray, *, model: Any = None, **settings: Any
) -> Generator[int, None, np.ndarray]:
    """Do what `annotate` does, but pause now and then, so that the caller can show progress or stop by closing it.

    Yields:
        The number of frames seen so far. The last one is the number of frames.

    Returns:
        What `annotate` returns.
    """
    if control_type not in ANNOTATORS:
        raise InputError(f"There is no control type {control_type!r}. Choose one of {', '.join(sorted(ANNOTATORS))}.")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 (F, H, W, 3) and not empty, not {frames.dtype} {frames.shape}")
    annotator = ANNOTATORS[control_type]
    if (model is None) != (annotator.kind is None):
        raise ValueError(f"{control_type!r} takes {'no model' if annotator.kind is None else f'a {annotator.kind}'}")
    needed = {} if model is None else {"model": model}
    return (yield from annotator.draw(frames, **needed, **settings))
