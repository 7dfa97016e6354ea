"""What the tests of media files share: clips that count, files that ffmpeg writes as it is told, and how far apart."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

BITS = 6
WIDTH, HEIGHT = 96, 64

LOSSY = 6.0
"""Mean absolute error, of 255, that H.264 at our quality and half-size colour may leave on smooth frames."""


def counting_frames(count: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Frames `(F, H, W, 3)`; bar b of frame k is white where bit b of k is set."""
    bits = (np.arange(count)[:, None] >> (np.arange(width) * BITS // width)) & 1
    return np.broadcast_to(bits[:, None, :, None] * 255, (count, height, width, 3)).astype(np.uint8)


def numbers(frames: np.ndarray) -> list[int]:
    """Read the numbers off counting frames of any size."""
    width, height = frames.shape[2], frames.shape[1]
    centres = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    bars = frames[:, height // 3 : -height // 3].mean(axis=(1, 3))[:, centres]
    assert ((bars < 64) | (bars > 192)).all(), f"not a counting frame: {bars.round()}"
    return [int(number) for number in (bars > 128) @ (1 << np.arange(BITS))]


def smooth_frames(count: int = 8, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Colour gradients that drift from frame to frame."""
    x, y, t = np.meshgrid(np.arange(width), np.arange(height), np.arange(count), indexing="xy")
    channels = [x * 255 // width, y * 255 // height, 128 + 100 * np.sin((x + 4 * t) / 20)]
    return np.stack(channels, axis=-1).transpose(2, 0, 1, 3).astype(np.uint8)


def error(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second.astype(float)).mean())


def ffmpeg(*arguments: str | Path, data: bytes = b"") -> None:
    command = [get_ffmpeg_exe(), "-y", "-hide_banner", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, input=data, check=True)


def encode(path: Path, frames: np.ndarray, fps: str = "10", *options: str) -> Path:
    """Write frames with any ffmpeg options, where `write_mp4` would only write good files."""
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", fps, "-i", "-"]
    ffmpeg(*raw, *options, path, data=frames.tobytes())
    return path
