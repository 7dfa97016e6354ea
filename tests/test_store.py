"""Outputs of stages on the disk: found again, bounded, whole or not there, and never those of another model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from bivdiff.bridge.pipeline import last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.store import ENDING, UNFINISHED, StageStore
from bivdiff.catalog.families import family_named
from bivdiff.catalog.specs import ModelSpec
from bivdiff.models.identity import identity_of, numerics_of
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings

FRAMES = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
LATENTS = torch.linspace(-1, 1, 2 * 4 * 2 * 3).reshape(1, 4, 2, 2, 3)


@pytest.fixture
def store_of(tmp_path):
    """Makes a store on one folder, as a process of its own would."""

    def make(size: str = "2GB", **changes: object) -> StageStore:
        return StageStore(Settings(cache_folder=tmp_path / "stages", cache_size=size, **changes))

    return make


@pytest.fixture
def files(tmp_path):
    return lambda: sorted((tmp_path / "stages").glob("*"))


def test_another_process_finds_what_one_kept(store_of, files):
    one = store_of()
    assert one.get("frames") is None
    one.put("frames", FRAMES)
    one.put("latents", LATENTS)
    assert {path.name for path in files()} == {f"frames{ENDING}", f"latents{ENDING}"}
    other = store_of()
    assert np.array_equal(other.get("frames"), FRAMES)
    assert other.get("frames").dtype == np.uint8
    assert torch.equal(other.get("latents"), LATENTS)
    assert other.get("another") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_counts_as_absent_and_is_removed(store_of, files, damage):
    store_of().put("frames", FRAMES)
    (path,) = files()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes({"cut": content[:60], "flipped": content, "empty": b""}[damage])
    store = store_of()
    assert store.get("frames") is None
    assert files() == []
    store.put("frames", FRAMES)
    assert np.array_equal(store_of().get("frames"), FRAMES)


def test_what_was_used_least_recently_leaves(store_of, files):
    store_of().put("a", FRAMES)
    size = files()[0].stat().st_size
    store = store_of(str(int(2.5 * size)))
    store.put("b", FRAMES)
    for age, key in ((300, "a"), (200, "b")):
        path = next(path for path in files() if path.stem == key)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert store_of().get("a") is not None  # reading counts as use, so b is now the older one
    store.put("c", FRAMES)
    assert [path.stem for path in files()] == ["a", "c"]
    assert sum(path.stat().st_size for path in files()) <= 2.5 * size


def test_what_is_larger_than_the_bound_is_kept_in_memory_alone(store_of, files):
    store = store_of("0")
    store.put("frames", FRAMES)
    assert files() == []
    assert store.get("frames") is FRAMES
    assert store_of("0").get("frames") is None


def test_many_writers_and_readers_of_one_key_never_see_half_a_file(store_of, files):
    wrong = []

    def work(number: int) -> None:
        for _ in range(25):
            store = store_of()
            store.put("same", np.full((4, 64, 64, 3), number, np.uint8))
            found = store_of().get("same")
            if found is None or len(np.unique(found)) != 1:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [path.name for path in files()] == [f"same{ENDING}"]


WRITER = """
import sys
import numpy as np
from pathlib import Path
from bivdiff.settings import Settings
from bivdiff.bridge.store import StageStore

folder, number = Path(sys.argv[1]), int(sys.argv[2])
for turn in range(40):
    key = f"key{turn % 8}"
    StageStore(Settings(cache_folder=folder, cache_size="70000")).put(key, np.full((4, 64, 64, 3), turn % 8, np.uint8))
    found = StageStore(Settings(cache_folder=folder, cache_size="70000")).get(f"key{(turn + number) % 8}")
    assert found is None or (found == (turn + number) % 8).all()
"""


def test_processes_that_write_under_a_bound_too_tight_for_two_outputs_stay_within_it(files, tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "stages"), str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in (1, 2)
    ]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 2
    assert len(files()) == 1
    assert files()[0].stat().st_size <= 70_000


def test_leftovers_of_a_writer_that_died_are_cleared(store_of, files, tmp_path):
    store_of().put("a", FRAMES)
    old, fresh = (tmp_path / "stages" / f"{name}{UNFINISHED}" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (old.stat().st_mtime - 7200,) * 2)
    store_of().put("b", FRAMES)
    assert [path.name for path in files()] == [f"a{ENDING}", f"b{ENDING}", fresh.name]


def test_a_folder_that_cannot_be_written_costs_no_run(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = StageStore(Settings(cache_folder=tmp_path / "file"))
    store.put("frames", FRAMES)
    assert np.array_equal(store.get("frames"), FRAMES)


def test_settings_are_read_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BIVDIFF_CACHE_FOLDER", str(tmp_path))
    monkeypatch.setenv("BIVDIFF_CACHE_SIZE", "3MB")
    settings = Settings.from_env()
    assert (settings.cache_folder, settings.cache_size) == (tmp_path, "3MB")


def test_models_are_told_apart_by_their_files(tmp_path, toybox_folder):
    def identity(*specs: ModelSpec, **changes: object) -> str:
        return identity_of(specs, ModelManager(Settings(device="cpu", **changes)))

    family = family_named("toybox")
    assert identity(*family.shared) != identity(*family.shared, toybox_folder=toybox_folder)
    assert identity(*family.shared, toybox_folder=toybox_folder) == identity(
        *family.shared, toybox_folder=toybox_folder
    )
    assert identity(family.unet) != identity(family.vae)
    lora = tmp_path / "style.safetensors"
    lora.write_bytes(b"one")
    styled = replace(family.unet, loras=((str(lora), 1.0),))
    before = identity(styled)
    lora.write_bytes(b"other")
    assert identity(styled) != before


@pytest.mark.parametrize("switch", ["tiling", "fp8", "compile"])
def test_how_models_are_run_tells_outputs_apart(switch, toybox_folder):
    plain, other = (
        numerics_of(ModelManager(Settings(device="cpu", toybox_folder=toybox_folder, **changes)))
        for changes in ({}, {switch: True})
    )
    assert (plain, other) == ("cpu torch.float32", f"cpu torch.float32 {switch}")


def test_inversions_of_given_frames_depend_on_nothing_that_made_them(request_of, manager):
    frames = request_of().frames[:2, :32, :32].copy()
    given = {"task": "smooth", "image_model": "given", "controls": (), "frames": frames, "num_inversion_steps": 2}
    cache = StageCache()
    first = last(run(request_of(**given, seed=1), manager, cache))
    again = last(run(request_of(**given, seed=2, guidance_scale=3.0), manager, cache))
    assert set(first.evaluations) == {"inversion", "smoothing"}
    assert set(again.evaluations) == {"smoothing"}
    other = last(run(request_of(**{**given, "frames": 255 - frames}, seed=1), manager, cache))
    assert set(other.evaluations) == {"inversion", "smoothing"}


def test_a_later_run_starts_from_the_disk(store_of, request_of, manager, toybox_folder):
    def request(ratio: float) -> object:
        return request_of(frames=request_of().frames[:2, :32, :32].copy(), mixing_ratio=ratio)

    first = last(run(request(0.5), manager, store_of(toybox_folder=toybox_folder)))
    again = last(run(request(0.5), manager, store_of(toybox_folder=toybox_folder)))
    assert set(again.evaluations) == {"smoothing"}
    assert np.array_equal(again.frames, first.frames)
    shipped = ModelManager(Settings(device="cpu"))
    elsewhere = last(run(request(0.5), shipped, store_of()))
    assert set(elsewhere.evaluations) == {"framewise", "inversion", "smoothing"}


def test_in_memory_what_was_not_asked_for_longest_goes_first():
    cache = StageCache(2)
    for key in ("one", "two"):
        cache.put(key, np.zeros(1))
    assert cache.get("one") is not None
    cache.put("three", np.ones(1))
    assert [key for key in ("one", "two", "three") if cache.get(key) is not None] == ["one", "three"]
