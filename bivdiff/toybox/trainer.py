"""A training loop that is bounded in minutes, saves its state and resumes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

SAVE_SECONDS = 240
WARMUP = 0.03  # share of the time


class Trainer:
    """Trains some modules for a number of minutes, whatever the number of sittings.

    The learning rate follows a cosine over the minutes, not over steps, so a stage always ends annealed. State
    (weights, average, optimiser, seconds spent) is saved every few minutes and found again by the next call. Where
    there is none, but an earlier training has left a module in the folder under its name, it starts from that one.
    """

    def __init__(self, stage: str, folder: Path, modules: Mapping[str, Any], minutes: float, rate: float) -> None:
        self.stage, self.folder, self.modules, self.budget = stage, folder, modules, minutes * 60
        self.state_path = folder / f"{stage}.state.pt"
        self.parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.optimizer = torch.optim.AdamW(self.parameters, rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
        self.rate, self.seconds, self.steps = rate, 0.0, 0
        if not self.state_path.exists():
            self._start_from_earlier()
        self.average = EMAModel(self.parameters, decay=0.998, use_ema_warmup=True, power=0.75)
        if self.state_path.exists():
            self._restore()

    def run(self, loss_of_step: Callable[[], Tensor], picture: Callable[[Path], None]) -> None:
        """Step until the minutes are spent; then the averaged weights are in the modules, and in the folder."""
        print(f"{self.stage}: {sum(p.numel() for p in self.parameters) / 1e6:.2f} M parameters, "
              f"{self.seconds / 60:.1f} of {self.budget / 60:.0f} minutes done", flush=True)  # fmt: skip
        last = saved = time.monotonic()
        recent: list[float] = []
        while self.seconds < self.budget:
            progress = self.seconds / self.budget
            factor = min(1.0, (progress + 1e-3) / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * factor
            loss = loss_of_step()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.average.step(self.parameters)
            recent.append(loss.item())
            self.steps += 1
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if self.steps % 50 == 0:
                self._log(float(np.mean(recent)))
                recent.clear()
            if now - saved > SAVE_SECONDS:
                self._save()
                self._draw(picture)
                last = saved = time.monotonic()
        self._save()
        self.average.copy_to(self.parameters)
        picture(self.folder / f"{self.stage}.png")
        for name, module in self.modules.items():
            module.save_pretrained(self.folder / name)

    def _draw(self, picture: Callable[[Path], None]) -> None:
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        picture(self.folder / f"{self.stage}.png")
        self.average.restore(self.parameters)

    def _log(self, loss: float) -> None:
        line = {"stage": self.stage, "step": self.steps, "minutes": round(self.seconds / 60, 2), "loss": round(loss, 5)}
        with (self.folder / f"{self.stage}.log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(line, flush=True)

    def _save(self) -> None:
        state = {name: module.state_dict() for name, module in self.modules.items()}
        progress = {"seconds": self.seconds, "steps": self.steps}
        partial = self.state_path.with_suffix(".partial")
        torch.save({"modules": state, "optimizer": self.optimizer.state_dict(), "average": self.average.state_dict(),
                    "progress": progress}, partial)  # fmt: skip
        partial.replace(self.state_path)

    def _start_from_earlier(self) -> None:
        for name, module in self.modules.items():
            if (self.folder / name).is_dir():
                module.load_state_dict(type(module).from_pretrained(self.folder / name).state_dict())
                print(f"{self.stage}: {name} starts from earlier weights", flush=True)

    def _restore(self) -> None:
        state = torch.load(self.state_path, map_location=self.device, weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.seconds, self.steps = state["progress"]["seconds"], state["progress"]["steps"]
