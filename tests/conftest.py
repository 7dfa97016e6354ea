"""What the tests share: random models of the real classes, a manager for them, a source clip."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import find_browser
from own_latents import OWN, lay_out
from paper import PAPER_BRIDGE, TWO_STEPS

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import default_request
from bivdiff.models import metering
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox import networks, world
from bivdiff.types import GenerationRequest

# Several processes that run tests share the processor, and what they start does too.
THREADS = max(1, torch.get_num_threads() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
torch.set_num_threads(THREADS)
os.environ["OMP_NUM_THREADS"] = str(THREADS)
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="session")
def toybox_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toybox family with random weights, saved as the trained one is; layers that start at zero are not zero."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("toybox")
    family = networks.build_family()
    for component in family.values():
        for parameter in component.parameters() if isinstance(component, torch.nn.Module) else ():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    networks.save_family(folder, family)
    return folder


@pytest.fixture(scope="session")
def settings(toybox_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(device="cpu", toybox_folder=toybox_folder, cache_folder=tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="session")
def manager(settings: Settings) -> ModelManager:
    return ModelManager(settings)


@pytest.fixture(scope="session")
def _laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return lay_out(tmp_path_factory.mktemp("hub"), OWN)


@pytest.fixture
def own_hub(_laid_out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub library's cache, with all small video models that have latents of their own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(_laid_out))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return _laid_out


@pytest.fixture(scope="session")
def _kept() -> list[ModelManager]:
    return []


@pytest.fixture
def own_manager(own_hub: Path, _kept: list[ModelManager]) -> ModelManager:  # noqa: ARG001 - where the files are
    """A manager for these, one for all tests: each component is read once."""
    if not _kept:
        _kept.append(ModelManager(Settings(device="cpu")))
    return _kept[0]


@pytest.fixture(scope="session")
def source_frames() -> np.ndarray:
    """Four 64x64 frames of the world, uint8 `(4, 64, 64, 3)`."""
    return world.render(world.sample_scene(3), 64, 64, 4).frames


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the system has told of the highest memory, which is a byte more each time that it is asked."""
    told: list[int] = []

    def peak() -> int:
        told.append(len(told) + 1)
        return told[-1]

    monkeypatch.setattr(metering, "_peak", peak)
    return told


@pytest.fixture
def request_of(source_frames: np.ndarray):
    """Makes a two-step request for the control task and the paper's bridge, with changes."""

    def make(**changes: object) -> GenerationRequest:
        base = default_request("control", "toybox", source_frames, "a red cube on a green floor at noon", seed=1)
        return replace(base, **{**PAPER_BRIDGE, **TWO_STEPS, **changes})

    return make


@pytest.fixture
def task_request(source_frames: np.ndarray):
    """Makes a two-step request for an image model of any task and the paper's bridge, with changes."""
    masks = np.zeros(source_frames.shape[:3], np.uint8)
    masks[:, 16:48, 8:40] = 255
    usual = {"masks": masks, "source_prompt": "a red cube on a green floor at noon"}

    def make(task: str, image_model: str, **changes: object) -> GenerationRequest:
        needs = {name: value for name, value in {**usual, **changes}.items() if name in IMAGE_MODELS[image_model].needs}
        base = default_request(
            task, "toybox", source_frames, "a blue cube on a green floor at noon", seed=1, image_model=image_model,
            **needs,
        )  # fmt: skip
        return replace(base, **{**PAPER_BRIDGE, **TWO_STEPS, **changes})

    return make


@pytest.fixture(scope="module")
def chromium():
    """A headless browser, to be used by the tests of one module."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        pytest.skip("No Chromium or Chrome on this machine: python tests/browser.py installs one.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        # Visitors want no motion unless a test says otherwise: drawing clips that play is most of a browser's work.
        browser.new_context = partial(browser.new_context, reduced_motion="reduce")
        browser.new_page = partial(browser.new_page, reduced_motion="reduce")
        yield browser
        browser.close()
