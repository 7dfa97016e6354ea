"""The list of models, the names they go by, downloads that are followed, and files that are not what they should be."""

from __future__ import annotations

import itertools
import json
import queue
import shutil
import threading
from pathlib import Path

import pytest
import torch
from patience import PATIENCE

from bivdiff.catalog.families import FAMILIES, extend
from bivdiff.catalog.image_models import IMAGE_MODELS, OWN_CONTROLNET
from bivdiff.catalog.scoring import SCORING
from bivdiff.catalog.specs import ModelSpec
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import CancelledError, InputError, ModelUnavailableError
from bivdiff.models import hub
from bivdiff.models import pulling as pulls
from bivdiff.models.inventory import check, find_spec, find_specs, inventory, named_specs
from bivdiff.models.loaders import KINDS
from bivdiff.models.manager import ModelManager
from bivdiff.models.pulling import pulling
from bivdiff.settings import Settings

CATALOG = """
[families.dreams]
like = "sd15"
title = "My dreams"
base_model = "owner/dreams"
[families.sd15.controlnets.sketchy]
repo = "owner/sketchy"
licence = "cc-by-nc-sa-4.0"
"""


@pytest.fixture
def nowhere(tmp_path, monkeypatch, toybox_folder):
    """Settings of a machine that has the toybox and nothing else."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return Settings(device="cpu", toybox_folder=toybox_folder, models_folder=tmp_path / "models")


@pytest.fixture
def own_catalog(tmp_path):
    """A catalog file of one's own, read for the time of a test."""
    before = dict(FAMILIES)
    path = tmp_path / "catalog.toml"
    path.write_text(CATALOG, "utf-8")
    extend(path)
    yield path
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.fixture
def toybox(nowhere, toybox_folder, tmp_path):
    """Settings with a toybox that may be spoilt, and its folder."""
    folder = tmp_path / "toybox"
    shutil.copytree(toybox_folder, folder)
    return Settings(device="cpu", toybox_folder=folder, models_folder=nowhere.models_folder), folder


# The list


def test_the_list_has_every_component_once_with_where_it_is(nowhere):
    entries = {entry.key: entry for entry in inventory(None, nowhere)}
    assert {entry.spec for entry in entries.values()} == {
        *(spec for family in FAMILIES.values() for spec in family.components), *SCORING.values()
    }  # fmt: skip
    toybox, zeroscope = entries["toybox/video_unet"], entries["sd15/zeroscope"]
    assert (toybox.state, toybox.families, toybox.on_hub) == ("on disk", ("toybox",), False)
    assert toybox.native == "128 x 128, 8 frames"
    files = (nowhere.toybox_folder / "video_unet").iterdir()
    assert toybox.bytes == sum(path.stat().st_size for path in files)
    assert (zeroscope.state, zeroscope.bytes, zeroscope.kind) == ("absent", 2_822_467_720, "video model")
    assert zeroscope.non_commercial
    assert not entries["sd15/unet"].non_commercial
    assert entries["sd15/scheduler"].native == ""
    assert entries["sd15/vidrd"].on_hub is False


def test_the_list_looks_for_each_model_once(nowhere, monkeypatch):
    found, find = [], hub.find
    monkeypatch.setattr(hub, "find", lambda spec, settings: found.append(spec) or find(spec, settings))
    entries = inventory(None, nowhere)
    assert len(found) == len(set(found)) <= len(entries)


def test_a_manager_says_what_is_in_memory(nowhere):
    manager = ModelManager(nowhere)
    with manager.hold(find_spec("toybox/vae")):
        states = {entry.key: entry.state for entry in inventory(manager, nowhere, "toybox")}
    assert states["toybox/vae"] == "in memory"
    assert set(states.values()) == {"in memory", "on disk"}
    with manager.use(find_spec("toybox/vae")):
        assert inventory(manager, nowhere)[0].state == "on device"


def test_every_kind_of_the_catalog_is_known_and_none_other():
    kinds = {spec.kind for spec in named_specs().values()}
    of_ones_own = {model.pipeline for model in IMAGE_MODELS.values() if model.pipeline} | {OWN_CONTROLNET}
    assert kinds | of_ones_own == set(KINDS)
    assert all(kind.title for kind in KINDS.values())


def test_a_family_is_listed_alone(nowhere):
    assert [entry.spec for entry in inventory(None, nowhere, "toybox")] == list(FAMILIES["toybox"].components)
    with pytest.raises(InputError, match="Unknown family 'sd16'"):
        inventory(None, nowhere, "sd16")


@pytest.mark.usefixtures("own_catalog")
def test_models_of_ones_own_have_names_of_their_own(nowhere):
    entries = {entry.key: entry for entry in inventory(None, nowhere)}
    assert len(entries) == len(inventory(None, nowhere))
    assert entries["sd15/unet"].place == "stable-diffusion-v1-5/stable-diffusion-v1-5/unet"
    assert entries["dreams/unet"].place == "owner/dreams/unet"
    assert entries["dreams/unet"].families == ("dreams",)
    assert entries["dreams/animatediff-v1-5-3"].spec.base == entries["dreams/unet"].spec
    assert entries["sd15/zeroscope"].families == ("sd15", "dreams")
    assert entries["sd15/controlnet-sketchy"].non_commercial
    assert find_spec("dreams/unet") == FAMILIES["dreams"].unet


# Names


def test_a_key_is_one_component():
    assert find_specs("sd15/controlnet-canny") == (FAMILIES["sd15"].networks["controlnet"]["canny"],)
    assert all(find_spec(key) == spec for key, spec in named_specs().items())


def test_a_family_is_all_of_it():
    assert find_specs("sd15") == FAMILIES["sd15"].components


def test_a_family_and_a_task_is_what_a_first_run_needs():
    family = FAMILIES["sd15"]
    zeroscope = family.video_models["zeroscope"].components
    assert set(find_specs("sd15/control")) == {*family.shared, family.networks["controlnet"]["canny"], *zeroscope}
    assert set(find_specs("sd15/edit")) == {*family.shared, family.networks["instruct-pix2pix"]["unet"], *zeroscope}
    assert set(find_specs("sd15/outpaint")) == {*family.shared, family.networks["inpainting"]["unet"], *zeroscope}
    assert set(find_specs("sd15/smooth")) == {*family.shared, *zeroscope}


def test_a_video_model_is_all_that_it_runs_with():
    assert {spec.key for spec in find_specs("sd15/zeroscope")} == {
        "sd15/zeroscope", "sd15/zeroscope-text-encoder", "sd15/zeroscope-tokenizer", "sd15/zeroscope-scheduler",
    }  # fmt: skip
    assert {"sd15/unet", "sd15/text-encoder"} < {spec.key for spec in find_specs("sd15/animatediff-v1-5-3")}
    assert find_spec("sd15/zeroscope").kind == "video_unet"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_of_every_family_has_its_set(task):
    for name, family in FAMILIES.items():
        specs = find_specs(f"{name}/{task}")
        needed = family.shared if TASKS[task].image_models != ("given",) else (family.vae, family.scheduler)
        assert set(needed) <= set(specs) <= set(family.components)
        assert len(specs) == len(set(specs))


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("sd15/controlnet-cany", "sd15/controlnet-canny"), ("canny", "sd15/controlnet-canny"), ("sd16", "sd15"),
     ("toybox/inpant", "toybox/inpaint"), ("xyzzy", "models list")],
)  # fmt: skip
def test_an_unknown_name_is_told_what_it_may_have_been(wrong, near):
    with pytest.raises(InputError, match=f"There is no model '{wrong}'.*{near}"):
        find_specs(wrong)


def test_a_set_is_not_one_model():
    with pytest.raises(InputError, match="'toybox' stands for 13 models"):
        find_spec("toybox")


# Downloads


def test_a_download_reports_and_ends(nowhere, monkeypatch):
    reports, told = [], threading.Condition()

    def pull(_spec, _settings, report):
        for done in (0, 30, 100):
            report(done, 100)
            with told:  # it goes on once the report has arrived
                assert told.wait_for(lambda done=done: (done, 100) in reports, PATIENCE)

    monkeypatch.setattr(pulls, "REPORT_EVERY", 0.01)
    monkeypatch.setattr(hub, "pull", pull)
    for report in pulling(find_spec("sd15/vae"), nowhere):
        with told:
            reports.append(report)
            told.notify_all()
    assert reports[-1] == (100, 100)
    assert reports == sorted(reports, key=lambda report: report[0])


def test_closing_stops_a_download_at_its_next_report(nowhere, monkeypatch):
    ended = queue.SimpleQueue()

    def pull(_spec, _settings, report):
        try:
            for done in itertools.count():
                report(done, 10_000)
        except CancelledError as error:
            ended.put(str(error))
            raise

    monkeypatch.setattr(pulls, "REPORT_EVERY", 0.01)
    monkeypatch.setattr(hub, "pull", pull)
    updates = pulling(find_spec("sd15/vae"), nowhere)
    next(updates)
    updates.close()
    assert ended.get(timeout=PATIENCE) == "The download was stopped. What has arrived is kept for the next time."


def test_a_download_fails_with_the_hubs_sentence(nowhere):
    with pytest.raises(ModelUnavailableError, match=r"not on the model hub.*put it at .*ModelT2V\.pth"):
        list(pulling(find_spec("sd15/vidrd"), nowhere))


# Files


@pytest.mark.parametrize("thorough", [False, True])
def test_whole_files_are_fine(nowhere, thorough):
    assert {check(spec, nowhere, thorough=thorough) for spec in find_specs("toybox")} == {None}


def test_what_is_absent_is_said_so(nowhere):
    assert check(find_spec("sd15/vae"), nowhere) == (
        "The files of 'sd15/vae' are not on this machine, or not all of them. Pull it first."
    )


def spoil(path: Path, kind: str) -> None:
    content = path.read_bytes()
    path.write_bytes({
        "cut off": content[:-1000], "in its header": content[:20], "empty": b"", "longer": content + b"more",
        "a page": b"<html>Log in to the network</html>", "no JSON": (12).to_bytes(8, "little") + b"x" * 100,
    }[kind])  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut off", "it is cut off, with {short:,} of {whole:,} bytes"),
        ("in its header", "it has no safetensors header"),
        ("empty", "it has no safetensors header"),
        ("longer", "it has {long:,} bytes, and its header says {whole:,}"),
        ("a page", "it has no safetensors header"),
        ("no JSON", "its safetensors header cannot be read"),
    ],
)
def test_broken_safetensors_are_found_unread(toybox, kind, said):
    settings, folder = toybox
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = path.stat().st_size
    spoil(path, kind)
    told = check(find_spec("toybox/unet"), settings)
    assert said.format(short=whole - 1000, long=whole + 4, whole=whole) in told
    assert told.startswith(f"The file {path} cannot be used: ")
    assert told.endswith("Delete it, and pull 'toybox/unet' again.")


@pytest.mark.parametrize(
    ("key", "file"),
    [("toybox/vae", "vae/config.json"), ("toybox/tokenizer", "tokenizer/tokenizer.json"),
     ("toybox/scheduler", "scheduler/scheduler_config.json")],
)  # fmt: skip
def test_a_broken_config_is_found(toybox, key, file):
    settings, folder = toybox
    (folder / file).write_text('{"half": ', "utf-8")
    assert "it holds no JSON" in check(find_spec(key), settings)


def test_a_missing_config_leaves_no_model(toybox):
    settings, folder = toybox
    (folder / "vae" / "config.json").unlink()
    assert "not all of them" in check(find_spec("toybox/vae"), settings)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("file", ["annotator.pth", "diffusion_pytorch_model.bin"])
def test_pickles_are_read_as_far_as_it_is_safe(nowhere, zipped, file):
    folder = nowhere.models_folder / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", "utf-8")
    spec = ModelSpec(key="own/x", kind="t2i_adapter", repo="owner/name", file=file if file.endswith("pth") else "")
    torch.save({"a": torch.zeros(500)}, folder / file, _use_new_zipfile_serialization=zipped)
    assert check(spec, nowhere) is None
    (folder / file).write_bytes((folder / file).read_bytes()[:-700])
    assert "it holds no weights that can be read safely" in check(spec, nowhere)
    torch.save({"a": Path("x")}, folder / file, _use_new_zipfile_serialization=zipped)
    assert "it holds no weights that can be read safely" in check(spec, nowhere)


def test_only_the_thorough_check_sees_another_architecture(toybox):
    settings, folder = toybox
    config = folder / "vae" / "config.json"
    changed = {**json.loads(config.read_text("utf-8")), "latent_channels": 7}
    config.write_text(json.dumps(changed), "utf-8")
    assert check(find_spec("toybox/vae"), settings) is None
    assert "could not be loaded as vae" in check(find_spec("toybox/vae"), settings, thorough=True)
