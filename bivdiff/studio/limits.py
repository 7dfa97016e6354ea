"""What the owner of a copy allows those who use its page, in words."""

from __future__ import annotations

import math

from bivdiff.catalog.own import are_allowed, check_allowed
from bivdiff.errors import InputError
from bivdiff.settings import Settings
from bivdiff.studio.zerogpu import MOST_SECONDS, on_zerogpu
from bivdiff.types import GenerationRequest

READING, READING_A_FRAME = 10.0, 0.75  # seconds of a processor, of which one has a turn and a frame has more
FRAME_PIXELS = 2**19
"""Of a frame, where a clip has as many as are allowed: more than any family's models make."""

_NO_BOUND = "A clip may have as many frames as you have time and memory for."


def limits_sentence(settings: Settings) -> str:
    """The bounds of a clip, a run and a visitor in one or a few sentences, for the page."""
    told = [
        f"A clip has up to {settings.max_frames} frames." if settings.max_frames else _NO_BOUND,
        f"You may have {_jobs(settings.max_jobs)} waiting or running, and {settings.max_queue} may wait in all.",
    ]
    if on_zerogpu():
        most = 60 * settings.max_minutes or MOST_SECONDS
        told.append(f"Hugging Face lends the card: a run takes {most} s at most, and counts against your quota there.")
    elif settings.max_minutes:
        told.append(f"A run may be expected to take up to {_minutes(settings.max_minutes)}.")
    if not are_allowed(settings):
        told.append("Which models there are is the owner's choice.")
    return " ".join(told)


def check_request(request: GenerationRequest, settings: Settings) -> None:
    """Refuse what the owner does not allow: models of a visitor's own, and longer clips, wherever they come from.

    Raises:
        InputError: the request has such a thing.
    """
    check_allowed(request, settings)
    check_clip(request.frames.shape[:3], settings)


def check_clip(shape: tuple[int, ...], settings: Settings) -> None:
    """Refuse a clip that is longer or larger than the owner allows.

    Args:
        shape: `(F, H, W)`.
        settings: of the owner.

    Raises:
        InputError: it is.
    """
    count, most = shape[0], settings.max_frames
    if most and count > most:
        raise InputError(f"Here a clip may have up to {most} frames, and this one has {count}. Take fewer.")
    check_pixels(shape, settings)


def check_pixels(shape: tuple[int, ...], settings: Settings) -> None:
    """Refuse a clip with more pixels than the owner's frames may have together, however many frames it has.

    Args:
        shape: `(F, H, W)`.
        settings: of the owner; where these do not bound the frames, neither are the pixels.

    Raises:
        InputError: it has.
    """
    count, height, width = shape
    most = (settings.max_frames or 0) * FRAME_PIXELS
    if most and count * height * width > most:
        raise InputError(
            f"Here a clip may have up to {most / 1e6:.0f} megapixels in all its frames, and this one has "
            f"{count * height * width / 1e6:.0f}: {count} of {width}x{height}. Take fewer frames or a smaller size."
        )


def sound_seconds(settings: Settings) -> float:
    """How long sound may last: a second for each frame that a clip may have.

    It is whole in memory, and a few frames that are spread over a long film play as long as that.
    """
    return settings.max_frames or math.inf


def reading_seconds(settings: Settings) -> float:
    """Seconds of a processor that decoding what a visitor sent may take, for each thing that is asked of it."""
    return READING + READING_A_FRAME * settings.max_frames if settings.max_frames else math.inf


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"


def _minutes(count: int) -> str:
    return f"{count} minute" if count == 1 else f"{count} minutes"
