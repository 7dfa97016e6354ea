"""What the flags describe, read from files: the source clip, control maps, masks, the canvas."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bivdiff.catalog.families import family_named
from bivdiff.cli.flags import CONTROL_FLAGS
from bivdiff.errors import InputError
from bivdiff.media.reading import Clip, probe, read_beside, read_clip
from bivdiff.pixels import masks
from bivdiff.pixels.canvas import parse_size, plan_canvas
from bivdiff.pixels.tracking import track
from bivdiff.types import Control


def read_source(args: argparse.Namespace) -> tuple[Clip, dict[str, Any]]:
    """The source clip, and what else the task reads from files: control maps, masks, the canvas."""
    chosen = family_named(args.family)
    trim = {"start": args.start, "stride": args.frame_stride, "num_frames": args.num_frames or chosen.num_frames}
    if args.task == "outpaint":
        info = probe(args.video)
        plan = plan_canvas(args.extend, info.width, info.height, chosen.size)
        clip = read_clip(args.video, size=(plan.width, plan.height), fit=args.fit, **trim)
        canvas, holes = masks.extend_canvas(clip.frames, *plan.sides)
        return clip._replace(frames=canvas), {"masks": holes}
    size = parse_size(args.size) if args.size else chosen.size
    clip = read_clip(args.video, size=size, fit=args.fit, **trim)
    if args.task == "inpaint":
        return clip, {"masks": _read_masks(args, clip.frames)}
    if args.task == "control":
        return clip, {"controls": controls_of(args, clip.frames)}
    return clip, {}


def _read_masks(args: argparse.Namespace, frames: np.ndarray) -> np.ndarray:
    """The masks that the flags describe; several kinds of them add up."""
    count, height, width = frames.shape[:3]
    found = np.zeros((count, height, width), np.uint8)
    if args.mask:
        pictures = _read_beside(args, args.mask, frames)
        given = masks.fit_masks(pictures, count, height, width, white_regenerates=not args.black_regenerates)
        found |= track(frames, given[0]) if args.track else given
    if args.box:
        found |= masks.box_masks(masks.parse_boxes(args.box, width, height), count, height, width)
    if args.color_key:
        found |= masks.color_key_masks(frames, args.color_key, args.tolerance)
    return masks.grow(found, args.grow)


def controls_of(args: argparse.Namespace, frames: np.ndarray | None = None) -> tuple[Control, ...]:
    """The controls that the flags describe: one for each control type; a single number holds for all of them."""
    types = args.control_type or ["canny"]
    maps: list[np.ndarray | None] = [None] * len(types)
    if frames is not None and args.control_video:
        maps = [_read_beside(args, path, frames) for path in args.control_video]
    columns = [maps, *(_one_each(getattr(args, name), len(types)) for name in CONTROL_FLAGS)]
    if any(len(column) != len(types) for column in columns):
        raise InputError(f"{len(types)} control types need as many maps, strengths, starts and ends, or one for all.")
    return tuple(
        Control(control_type=kind, frames=shown, conditioning_scale=scale, start=start, end=end)
        for kind, shown, scale, start, end in zip(types, *columns, strict=True)
    )


def _read_beside(args: argparse.Namespace, path: Path, frames: np.ndarray) -> np.ndarray:
    return read_beside(path, frames, start=args.start, stride=args.frame_stride, fit=args.fit)


def _one_each(values: list[float], count: int) -> list[float]:
    return values * count if len(values) == 1 else values
