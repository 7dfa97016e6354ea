"""What memory is planned by: the numbers in files that hold more than one component, or none; and what is free."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.specs import ModelSpec
from bivdiff.models import memory
from bivdiff.models.counting import numbers_of
from bivdiff.models.estimate import estimate
from bivdiff.models.manager import ModelManager
from bivdiff.models.memory import Memory, MemoryProbe
from bivdiff.settings import Settings
from bivdiff.workers.processes import process_workers

SD15 = FAMILIES["sd15"]
PARTS = {
    "unet": ("model.diffusion_model.", 70), "vae": ("first_stage_model.", 20),
    "text_encoder": ("cond_stage_model.transformer.", 10),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_of_a_file_that_holds_all_each_component_counts_its_own(tmp_path, kind, dtype):
    path = tmp_path / "all.safetensors"
    save_file({f"{prefix}x": torch.zeros(count, dtype=dtype) for prefix, count in PARTS.values()}, path)
    assert numbers_of(ModelSpec(key="x/y", kind=kind, repo=str(path), folder=kind), path) == PARTS[kind][1]
    settings = Settings(device="cpu", dtype="float16")
    spec = replace(getattr(SD15, kind), repo=str(path))
    assert ModelManager(settings).weight_bytes(spec) == 2 * PARTS[kind][1]


@pytest.mark.parametrize("old_format", [False, True])
def test_vidrds_file_holds_two(tmp_path, old_format):
    (tmp_path / "VidRD").mkdir()
    weights = {"unet.a": torch.zeros(7, 3), "text_encoder.b": torch.zeros(5)}
    torch.save(
        {"state_dict": weights, "epoch": 1}, tmp_path / "VidRD" / "ModelT2V.pth",
        _use_new_zipfile_serialization=not old_format,
    )  # fmt: skip
    model = SD15.video_models["vidrd"]
    assert [numbers_of(spec, tmp_path / "VidRD") for spec in (model.unet, model.text_encoder)] == [21, 5]


def test_shards_add_up_and_pickles_count_their_numbers_and_not_their_bytes(tmp_path):
    for name in ("config.json", "diffusion_pytorch_model.safetensors.index.json"):
        (tmp_path / name).write_text("{}")
    for number in (1, 2):
        save_file(
            {"a": torch.zeros(100 * number)}, tmp_path / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        )
    spec = ModelSpec(key="x/y", kind="controlnet", repo=str(tmp_path))
    assert numbers_of(spec, tmp_path) == 300
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    torch.save({"a": torch.zeros(100), "steps": 3}, other / "diffusion_pytorch_model.bin")
    assert numbers_of(replace(spec, repo=str(other)), other) == 100


def test_what_is_nowhere_has_the_published_shape_or_the_catalogs_bytes():
    own = replace(SD15.unet, repo="someone/else", bytes=0)
    assert numbers_of(own, None) == pytest.approx(SD15.unet.bytes / 2, rel=0.001)
    assert numbers_of(SD15.video_models["vidrd"].unet, None) > 10**9
    assert numbers_of(replace(SD15.unet, bytes=1000), None) == 500
    assert numbers_of(SD15.tokenizer, None) == numbers_of(SD15.scheduler, None) == 0


def test_a_broken_file_counts_nothing_and_is_told_when_it_is_loaded(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"no weights")
    assert numbers_of(ModelSpec(key="x/y", kind="unet", repo=str(path)), path) == 0


def test_eight_bits_are_planned_as_such():
    plain, lean = (ModelManager(Settings(device="cpu", dtype="float16", fp8=fp8)) for fp8 in (False, True))
    assert lean.weight_bytes(SD15.unet) == plain.weight_bytes(SD15.unet) // 2
    assert lean.weight_bytes(SD15.text_encoder) == plain.weight_bytes(SD15.text_encoder)


def group(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(str(content))


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_bounds_what_is_free(tmp_path, monkeypatch, version):
    root, groups = tmp_path / "cgroup", tmp_path / "groups"
    monkeypatch.setattr(memory, "CGROUPS", root)
    monkeypatch.setattr(memory, "OWN_GROUPS", groups)
    giga = 2**30
    if version == 2:
        groups.write_text("0::/outer/inner\n")
        group(root, {"memory.max": "max", "memory.current": 9 * giga, "memory.stat": "inactive_file 0\n"})
        group(root / "outer", {
            "memory.max": giga, "memory.current": giga // 2, "memory.stat": f"anon 5\ninactive_file {giga // 4}\n",
        })  # fmt: skip
        group(root / "outer" / "inner", {"memory.max": "max", "memory.current": 5, "memory.stat": ""})
    else:  # in a container, where the path is that outside, and the groups' root is its own
        groups.write_text("4:memory:/docker/abc\n3:cpuset:/\n")
        group(root / "memory", {
            "memory.limit_in_bytes": giga, "memory.usage_in_bytes": giga // 2,
            "memory.stat": f"total_inactive_file {giga // 4}\n",
        })  # fmt: skip
    assert MemoryProbe().host() == Memory(giga * 3 // 4, giga)
    shares = {each._settings.host_memory for each in process_workers(3, Settings(device="cpu"))}
    assert shares == {str(int(memory.HOST_SHARE * giga * 3 / 4 / 3))}
    named = process_workers(3, Settings(device="cpu", host_memory="2GB"))
    assert {each._settings.host_memory for each in named} == {"2GB"}


def test_without_a_bound_the_computers_own_memory_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "none")
    assert MemoryProbe().host().total > 2**30


def test_a_small_computer_runs_the_toybox(request_of):
    class Small(MemoryProbe):
        def host(self):
            return Memory(15 * 10**8, 4 * 10**9)

    manager = ModelManager(Settings(device="cpu"), Small())
    found = estimate(request_of(), manager)
    assert found.fits, found.advice
