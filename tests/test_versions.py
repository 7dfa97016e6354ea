"""The versions of Python that are promised: a tool that knows each one's standard library, and those that are here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
FOLDERS = ("app.py", "bivdiff", "tabs", "benchmarks", "tests")

COMPILE = """
import sys, pathlib
for name in sys.stdin.read().split("\\0"):
    compile(pathlib.Path(name).read_bytes(), name, "exec", dont_inherit=True)
"""

IMPORT = """
import importlib, json, sys
imported, broken = [], {}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
        imported.append(name)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("app", "bivdiff", "tabs"):
            broken[name] = str(error)
    except BaseException as error:
        broken[name] = repr(error)
json.dump([imported, broken], sys.stdout)
"""
"""Imports what it can: a package that the interpreter lacks is no fault, a name that its standard library lacks is."""


def sources(*places: str) -> list[Path]:
    return [path for place in places for path in sorted((ROOT / place).rglob("*.py") or [ROOT / place])]


RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


@cache
def interpreter(version: str) -> str | None:
    """An interpreter of a version that runs: this one, one on PATH, or one that pyenv or uv keeps."""
    found = [
        *[sys.executable for _ in range(version == RUNNING)],
        *filter(None, [shutil.which(f"python{version}")]),
        *Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python{version}"),
        *Path.home().glob(f".local/share/uv/python/cpython-{version}*/bin/python{version}"),
    ]
    # pyenv puts a name on PATH for each version that it has, chosen or not.
    runs = (subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0 for path in found)
    return next((str(path) for path, good in zip(found, runs, strict=True) if good), None)


def run_on(version: str, code: str, text: str) -> subprocess.CompletedProcess[str]:
    executable = interpreter(version)
    if executable is None:
        pytest.skip(f"There is no Python {version} on this machine.")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [executable, "-c", code], input=text, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_file_compiles(version):
    files = [*sources("bivdiff", "tabs", "benchmarks", "tests"), ROOT / "app.py"]
    done = run_on(version, COMPILE, "\0".join(map(str, files)))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != RUNNING])
def test_what_can_be_imported_is(version):
    paths = [*sources("bivdiff", "tabs"), ROOT / "app.py"]
    dotted = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    done = run_on(version, IMPORT, json.dumps([name for name in dotted if not name.endswith("__main__")]))
    assert done.returncode == 0, done.stderr
    imported, broken = json.loads(done.stdout)
    assert broken == {}
    assert "bivdiff.errors" in imported


def vermin(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Runs it as `make style` does: on the same names, by the same configuration."""
    command = [Path(sys.executable).with_name("vermin"), "--config-file", str(ROOT / "vermin.ini"), *names]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_name_that_a_promised_version_lacks_is_found(tmp_path):
    (tmp_path / "module.py").write_text("from datetime import UTC\n\nvalue = (3).long(), UTC\n")
    done = vermin(tmp_path, "module.py")
    assert done.returncode == 1
    assert "'datetime.UTC' member requires !2, 3.11" in done.stdout


def test_the_style_check_looks_at_every_file():
    line = next(line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if "/vermin " in line)
    assert line.split()[1:] == list(FOLDERS)


def test_what_is_promised_is_one_version():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    promised = re.search(r'requires-python = ">=([\d.]+)"', project)[1]
    assert promised == VERSIONS[0]
    assert re.search(r'target-version = "py(\d)(\d+)"', project).groups() == tuple(promised.split("."))
    assert re.search(r'python_version = "([\d.]+)"', project)[1] == promised
    assert re.search(r"targets = ([\d.]+)-", (ROOT / "vermin.ini").read_text("utf-8"))[1] == promised
