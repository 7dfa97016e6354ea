"""Which frames a video model sees at once, where a clip is longer than its window."""

from __future__ import annotations


def windows_of(num_frames: int, window: int) -> list[range]:
    """Windows over a clip: each starts half a window after the one before, and the last ends with the clip."""
    if num_frames <= window:
        return [range(num_frames)]
    stride = max(1, window // 2)
    starts = [*range(0, num_frames - window, stride), num_frames - window]
    return [range(start, start + window) for start in starts]
