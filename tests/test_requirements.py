"""What is installed: constraints.txt has one exact version of everything, for every promised Python and system."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"},
}


def read(name: str) -> list[Requirement]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def environment(python: str, system: str) -> dict[str, str]:
    implementation = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return {**SYSTEMS[system], **implementation, "python_version": python, "python_full_version": f"{python}.5"}


def applies(requirement: Requirement, where: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(where)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_asked_for_has_one_version(python, system):
    where = environment(python, system)
    versions: dict[str, set[str]] = {}
    for pin in read("constraints.txt"):
        if applies(pin, where):
            versions.setdefault(canonicalize_name(pin.name), set()).add(str(pin.specifier).removeprefix("=="))
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
    files = ("requirements.txt", "requirements-dev.txt", "requirements-ray.txt")
    asked = [item for name in files for item in read(name) if applies(item, where)]
    assert len(asked) > 20
    refused = [
        item for item in asked if not item.specifier.contains(*versions.get(canonicalize_name(item.name), {"0"}))
    ]
    assert refused == []


def test_constraints_are_exact_versions_and_name_no_place():
    # pip takes no extras in constraints.
    assert [
        pin for pin in read("constraints.txt") if not re.fullmatch(r"==[\w.+]+", str(pin.specifier)) or pin.extras
    ] == []
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert "://" not in text
    assert " @ " not in text


def test_the_container_installs_the_same_versions_and_copies_all_that_the_app_needs():
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert any("--requirement requirements.txt --constraint constraints.txt" in line for line in lines)
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert copied == {"requirements.txt", "constraints.txt", "app.py", "bivdiff", "tabs", "assets"}
    allowed = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[0] == "!"
    }
    assert allowed == copied
