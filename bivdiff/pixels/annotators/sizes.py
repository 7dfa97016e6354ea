"""At what size a model is shown a frame: one it was trained at, in whole patches, whatever size the clip has."""

from bivdiff.errors import InputError

MIN_WORKING_SIZE, MAX_WORKING_SIZE = 32, 2048
MAX_ASPECT = 4
"""A model sees a longer side of at most this many working sizes: a clip that is one strip must not fill the memory."""


def working_shape(height: int, width: int, working_size: int, multiple: int) -> tuple[int, int]:
    """Height and width nearly of the frames' shape, each a multiple.

    Args:
        height: of the frames.
        width: of the frames.
        working_size: wanted shorter side, in pixels. A strip's is shorter, so that its longer side has a bound.
        multiple: of both sides; neither is less than one.

    Raises:
        InputError: `working_size` is outside `MIN_WORKING_SIZE` to `MAX_WORKING_SIZE`.
    """
    if not MIN_WORKING_SIZE <= working_size <= MAX_WORKING_SIZE:
        raise InputError(
            f"The working size of a control map must be from {MIN_WORKING_SIZE} to {MAX_WORKING_SIZE} pixels; "
            f"it is {working_size!r}."
        )
    scale = min(working_size / min(height, width), MAX_ASPECT * working_size / max(height, width))

    def in_multiples(side: int) -> int:
        return max(round(side * scale / multiple), 1) * multiple

    return in_multiples(height), in_multiples(width)
