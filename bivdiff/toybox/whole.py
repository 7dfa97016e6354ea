"""The whole family trained with one command: its stages as processes, then a sheet of pictures and scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bivdiff.bridge.pipeline import last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.catalog.tasks import TASKS
from bivdiff.evaluate.evaluation import Case, case_of, evaluate, ways
from bivdiff.models.manager import ModelManager
from bivdiff.pixels.metrics import markdown_table
from bivdiff.settings import Settings
from bivdiff.toybox.export import save_trained
from bivdiff.toybox.schedule import PARTS, minutes_of, run_parts

FAMILY = "toybox"
SHEET_SCENE, SHEET_MOMENTS, SHEET_LABEL = 4, (0, 3, 7), 14  # of the evaluation; frames; pixels of height
DONE = "all.json"


def train_all(folder: Path, minutes: float, device: torch.device, side_by_side: int, clips: int) -> int:
    """Train every stage, write the family to `folder/toybox`, a sheet of pictures and scores beside it.

    What is done is recorded in the folder, and a stage saves its state, so that a call after an interruption goes on. A
    call with more minutes trains on.

    Args:
        folder: where clips, states, logs and pictures are kept.
        minutes: of all stages together, from first to last; `schedule.PARTS` says how they are shared.
        device: what trains.
        side_by_side: stages at a time, each a process of its own.
        clips: evaluation scenes that are scored; 0 for none.

    Returns:
        The exit status: 1 if a stage failed, and then what it wrote is in its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shares, record = minutes_of(PARTS, minutes, side_by_side), _Record(folder / DONE)
    threads = max(1, (os.cpu_count() or 1) // side_by_side)

    def carry_out(stage: str) -> bool:
        if record.holds(stage, shares[stage]):
            return True
        log = folder / f"{stage}.out"
        print(f"{stage}: {shares[stage]:.2f} minutes, log in {log}", flush=True)
        command = [sys.executable, "-m", "bivdiff.toybox.train", "--stage", stage, "--minutes", str(shares[stage]),
                   "--work", str(folder), "--device", str(device)]  # fmt: skip
        with log.open("a") as out:
            code = subprocess.run(
                command, stdout=out, stderr=out, check=False, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
            ).returncode
        if code == 0:
            record.add(stage, shares[stage])
        else:
            print(f"{stage}: failed with status {code}; {log} says why", flush=True)
        return code == 0

    left = run_parts(PARTS, side_by_side, carry_out)
    if left:
        print(f"Not done: {', '.join(left)}. The same command goes on from here.", flush=True)
        return 1
    save_trained(folder, folder / FAMILY)
    made = folder / FAMILY
    print(f"The family is in {made}; BIVDIFF_TOYBOX_FOLDER={made} makes the studio use it.", flush=True)
    manager = ModelManager(Settings(device=str(device), toybox_folder=folder / FAMILY))
    draw_sheet(folder / "sheet.png", manager)
    if clips:
        write_scores(folder, manager, clips)
    return 0


class _Record:
    """Which stages are done with how many minutes, in a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._minutes: dict[str, float] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def holds(self, stage: str, minutes: float) -> bool:
        return self._minutes.get(stage, -1.0) >= minutes

    def add(self, stage: str, minutes: float) -> None:
        with self._lock:
            self._minutes[stage] = minutes
            self._path.write_text(json.dumps(self._minutes, indent=1), "utf-8")


def write_scores(folder: Path, manager: ModelManager, clips: int) -> None:
    """Score every way to do every task; the tables are printed as they come, and lie in `folder/scores.md`."""
    tables = []
    for task in TASKS:
        rows: dict[str, dict[str, float]] = {}
        for label, changes in ways(task, FAMILY):
            scores = evaluate(task, FAMILY, clips, 0, manager, lambda _: None, **changes)
            rows[f"{label}: frame by frame"], rows[f"{label}: bridged"] = scores["framewise"], scores["bridged"]
        tables.append(f"{task}\n\n{markdown_table(rows)}\n")
        print(tables[-1], flush=True)
    (folder / "scores.md").write_text("\n".join(tables), "utf-8")


def draw_sheet(path: Path, manager: ModelManager) -> None:
    """A row for every way to do every task: source, truth, frame by frame and bridged, three moments of each."""
    from PIL import Image, ImageDraw

    rows = list(_rows(manager))
    height, width = rows[0][1].shape[:2]
    sheet = Image.new("RGB", (width, len(rows) * (height + SHEET_LABEL)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (label, pictures) in enumerate(rows):
        top = number * (height + SHEET_LABEL)
        pen.text((2, top + 1), label, fill="black")
        sheet.paste(Image.fromarray(pictures), (0, top + SHEET_LABEL))
    sheet.save(path)


def _rows(manager: ModelManager) -> Iterator[tuple[str, np.ndarray]]:
    for task in TASKS:
        for label, changes in ways(task, FAMILY):
            case = case_of(task, SHEET_SCENE, FAMILY, **changes)
            yield (
                f"{task}, {label}: {case.request.prompt} (source, truth, frame by frame, bridged)",
                _row(case, manager),
            )


def _row(case: Case, manager: ModelManager) -> np.ndarray:
    result = last(run(case.request, manager, StageCache()))
    clips: list[Any] = [case.request.frames, case.truth, result.framewise_frames, result.frames]
    return np.concatenate([frame for clip in clips for frame in clip[list(SHEET_MOMENTS)]], axis=1)
