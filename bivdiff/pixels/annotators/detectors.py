"""What the kinds of map share that controlnet_aux draws: importing that package, and showing it frame after frame."""

import importlib
import warnings
from collections.abc import Callable, Generator
from functools import cache
from types import ModuleType

import numpy as np

from bivdiff.pixels.annotators.sizes import working_shape

WORKING_SIZE = 512
"""Shorter side that the detectors see: ControlNet 1.1 was trained on maps made at it."""

MULTIPLE = 64
"""The detectors resize to a multiple of this; shown one, they leave it as it is."""

Detector = Callable[..., np.ndarray]


@cache
def part(name: str) -> ModuleType:
    """Import a module of controlnet_aux, when it is first needed: that loads torch and every other detector with it.

    It warns of parts that are not used here, of mediapipe among them, which nobody needs to install.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"controlnet_aux.{name}")


def each_frame(
    frames: np.ndarray, detector: Detector, working_size: int, **settings: bool
) -> Generator[int, None, np.ndarray]:
    """Draw one map of each frame by itself, so that the memory needed does not grow with the clip.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        detector: of controlnet_aux.
        working_size: shorter side that the detector sees, in pixels.
        settings: for the detector.

    Yields:
        The number of maps drawn so far.

    Returns:
        uint8 `(F, H, W, 3)`.

    Raises:
        InputError: `working_size` is out of range.
    """
    height, width = frames.shape[1:3]
    target = working_shape(height, width, working_size, MULTIPLE)
    side = min(target)
    maps = np.empty_like(frames)
    for index, frame in enumerate(frames):
        shown = _resize(frame, *target)
        drawn = detector(shown, detect_resolution=side, image_resolution=side, output_type="np", **settings)
        maps[index] = _resize(drawn, height, width)
        yield index + 1
    return maps


def black_and_white(maps: np.ndarray) -> np.ndarray:
    """The maps with each value rounded to 0 or 255: what resizing made grey is so no more."""
    return np.where(maps > 127, np.uint8(255), np.uint8(0))


def _resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    import cv2

    if picture.shape[:2] == (height, width):
        return picture
    shrinks = height * width < picture.shape[0] * picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
