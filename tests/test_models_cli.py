"""`python -m bivdiff models` as a user meets it: tables, JSON, exit statuses, sentences. Run in this process."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from bivdiff.catalog.families import FAMILIES
from bivdiff.cli import main as cli
from bivdiff.models import hub, inventory


@pytest.fixture(autouse=True)
def toybox(monkeypatch, toybox_folder, tmp_path):
    """The folder of a toybox that may be spoilt, on a machine with no other model and no network."""
    folder = tmp_path / "toybox"
    shutil.copytree(toybox_folder, folder)
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(folder))
    monkeypatch.setenv("BIVDIFF_MODELS_FOLDER", str(tmp_path / "models"))
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def arrives(monkeypatch, tmp_path):
    """Lets a pull put the files of a tokenizer or a scheduler into the models folder."""

    def pull(spec, _settings, report):
        folder = tmp_path / "models" / spec.repo / spec.folder
        folder.mkdir(parents=True)
        for name in ("vocab.json", "merges.txt", "scheduler_config.json"):
            (folder / name).write_text("{}", "utf-8")
        report(500, 2000)
        report(2000, 2000)

    monkeypatch.setattr(hub, "pull", pull)


def told(capsys, *arguments: str, status: int = 0):
    """What a command prints as JSON, and what it tells on standard error."""
    assert cli.main(["models", *arguments, "--json"]) == status
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_the_table_is_aligned_and_marks_what_may_not_be_sold(capsys):
    assert cli.main(["models", "list"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "state", "size", "licence", "trained", "at"]
    assert len(rows) == len(inventory.named_specs())
    lines = {row.split()[0]: row for row in rows}
    for name in ("toybox/unet", "sd15/zeroscope"):
        assert lines[name][head.index("state") - 2 : head.index("state")] == "  "
    assert lines["toybox/video_unet"][head.index("state") :].startswith("on disk")
    assert lines["sd15/zeroscope"][head.index("size") :] == (
        "2.82 GB  cc-by-nc-4.0 (non-commercial)  576 x 320, 24 frames"
    )
    assert "non-commercial" not in lines["sd15/unet"]


def test_the_list_of_one_family_for_machines(capsys):
    report, _ = told(capsys, "list", "--family", "toybox")
    assert {facts["state"] for facts in report["models"]} == {"on disk"}
    assert {tuple(facts["families"]) for facts in report["models"]} == {("toybox",)}
    assert report["models"][4]["size"] == [128, 128]


def test_show_tells_all_that_is_known(capsys):
    assert cli.main(["models", "show", "sd15/zeroscope"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "sd15/zeroscope"
    for part in ("cerspense/zeroscope_v2_576w/unet", "2.82 GB", "cc-by-nc-4.0 (non-commercial)", "24 frames", "absent",
                 FAMILIES["sd15"].video_models["zeroscope"].unet.checked):  # fmt: skip
        assert part in out


def test_show_names_what_it_does_not_know(capsys):
    assert cli.main(["models", "show", "sd15/zeroscop"]) == 1
    assert "There is no model 'sd15/zeroscop'. Similar names: sd15/zeroscope" in capsys.readouterr().err


def test_a_pull_without_a_network_tells_licences_and_size_and_fails_with_the_sentence(capsys):
    assert cli.main(["models", "pull", "sd15/control"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "sd15/zeroscope: 2.82 GB, video model, licence cc-by-nc-4.0 (non-commercial)" in err
    assert "In all: at least 6.36 GB" in err
    sentence = err.splitlines()[-1]
    assert sentence.startswith(
        "error: The files of 'stable-diffusion-v1-5/stable-diffusion-v1-5' are not on this machine"
    )
    assert "Traceback" not in err


def test_what_must_be_fetched_by_hand_is_said_so(capsys):
    assert cli.main(["models", "pull", "sd15/vidrd-text-encoder"]) == 1
    assert "is not on the model hub. Download it by hand" in capsys.readouterr().err


@pytest.mark.usefixtures("arrives")
def test_a_pull_shows_how_far_it_is_and_counts_what_came(capsys):
    report, err = told(capsys, "pull", "sd15/tokenizer", "sd15/scheduler", "toybox/vae")
    assert report["pulled"] == {"sd15/tokenizer": 2000, "sd15/scheduler": 2000}
    assert report["already_there"] == ["toybox/vae"]
    assert re.search(r"^sd15/tokenizer: 2\.00k/2\.00k \[.*B/s\]$", err, re.MULTILINE)
    assert not {"\r", "\x1b"} & set(err)
    assert cli.main(["models", "pull", "sd15/tokenizer"]) == 0
    assert capsys.readouterr().out == "Nothing was pulled: 1 of 1 models are on this machine already.\n"


def test_check_reads_all_that_is_there(capsys):
    report, _ = told(capsys, "check")
    assert len(report["checked"]) == len(FAMILIES["toybox"].components)
    assert report["wrong"] == {}


def test_check_finds_a_truncated_file(capsys, toybox):
    path = toybox / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    report, _ = told(capsys, "check", status=1)
    assert list(report["wrong"]) == ["toybox/unet"]
    assert "it is cut off" in report["wrong"]["toybox/unet"]
    assert cli.main(["models", "check", "toybox/unet", "toybox/vae"]) == 1
    assert capsys.readouterr().out.endswith("1 of 2 models are whole.\n")


def test_a_named_model_that_is_absent_fails_the_check(capsys):
    report, _ = told(capsys, "check", "sd15/vae", "--thorough", status=1)
    assert "not on this machine" in report["wrong"]["sd15/vae"]


def test_a_catalog_of_ones_own_is_read_first(capsys, monkeypatch, tmp_path):
    for name in FAMILIES:
        monkeypatch.setitem(FAMILIES, name, FAMILIES[name])
    monkeypatch.setitem(FAMILIES, "dreams", FAMILIES["sd15"])
    path = tmp_path / "catalog.toml"
    path.write_text('[families.dreams]\nlike = "sd15"\nbase_model = "owner/dreams"\n', "utf-8")
    monkeypatch.setenv("BIVDIFF_CATALOG", str(path))
    report, _ = told(capsys, "list", "--family", "dreams")
    assert "owner/dreams/unet" in {facts["place"] for facts in report["models"]}
    path.write_text("[families.dreams]\nlike = 'nothing'\n", "utf-8")
    assert cli.main(["models", "list"]) == 1
    assert "'nothing' is not a valid value for 'families.dreams.like'" in capsys.readouterr().err
