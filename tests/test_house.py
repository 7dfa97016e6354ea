"""The rules of the house: who may import whom, what a module must have, and that assets keep small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEBIBYTE = 2**20

FLOORS = (
    "errors version units spreadsheet fields types settings late",
    "pixels",
    "media",
    "catalog",
    "models",
    "bridge",
    "compare",
    "workers",
    "studio",
    "batch",
    "evaluate",
    "cli",
)
"""The rooms of bivdiff, lowest first: a room imports itself and what lies below it. Above them come tabs, then app.

The roots, the modules that lie flat in bivdiff, are the lowest floor. The toybox stands beside the rooms: it may import
any of them, and every room from the models up may import it.
"""

FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "accelerate"}
NAMELESS = {"util", "utils", "helper", "helpers", "misc", "common", "stuff"}


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    dotted(path): path
    for path in sorted([*ROOT.glob("app.py"), *ROOT.glob("bivdiff/**/*.py"), *ROOT.glob("tabs/**/*.py")])
}


def relative(path: Path) -> str:
    """A file as a failure names it."""
    return path.relative_to(ROOT).as_posix()


TESTS = sorted(map(relative, ROOT.glob("tests/**/*.py")))
BENCHMARKS = sorted(map(relative, ROOT.glob("benchmarks/*.py")))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(name: str) -> frozenset[str]:
    """Every module that a source imports, anywhere in it, as the longest name that is one of ours."""
    found = set()
    for node in ast.walk(parsed(SOURCES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {member if member in SOURCES else str(node.module) for member in inside}
    return frozenset(found)


def top(name: str) -> str:
    return name.partition(".")[0]


def libraries(name: str) -> set[str]:
    return set(map(top, imports(name)))


def our_imports(name: str) -> set[str]:
    return {target for target in imports(name) if top(target) in ("app", "tabs", "bivdiff")}


def room(name: str) -> str:
    """The part of bivdiff that a module belongs to: `models` for `bivdiff.models.manager`."""
    return name.split(".")[1] if "." in name else ""


def floor(name: str) -> int:
    if top(name) in ("tabs", "app"):
        return len(FLOOR) + ("tabs", "app").index(top(name))
    if room(name) == "toybox":
        return FLOOR["models"]
    return FLOOR.get(room(name), len(FLOORS))  # the library's front and its entry point stand over all of it


def test_every_part_of_the_library_is_on_a_floor():
    assert {room(name) for name in SOURCES if top(name) == "bivdiff"} - {"", "__main__", "toybox"} == FLOOR.keys()


@pytest.mark.parametrize("name", [name for name in SOURCES if room(name) != "toybox"])
def test_imports_point_downwards(name):
    assert {target for target in our_imports(name) if floor(target) > floor(name)} == set()


def test_imports_have_no_cycle():
    order = tuple(TopologicalSorter({name: our_imports(name) - {name} for name in SOURCES}).static_order())
    assert set(order) >= set(SOURCES)  # and a cycle would have raised


@pytest.mark.parametrize(
    "name", [name for name in SOURCES if room(name) in ("pixels", "media", "catalog") and "annotators" not in name]
)
def test_what_handles_pixels_and_files_computes_with_no_model(name):
    assert imports(name) & HEAVY == set()


@pytest.mark.parametrize(
    ("library", "module", "doors"),
    [
        ("moviepy", "bivdiff.media.film", {"io", "imageio"}),
        ("matplotlib", "bivdiff.media.vector", {"matplotlib.pyplot"}),
    ],
)
def test_one_module_has_the_library_and_no_door_to_files(library, module, doors):
    assert {name for name in SOURCES if library in libraries(name)} == {module}
    assert imports(module) & {"os", "pathlib", "shutil", "subprocess", "tempfile", *doors} == set()
    taken = {
        alias.name
        for node in ast.walk(parsed(SOURCES[module]))
        if isinstance(node, ast.ImportFrom) and node.module == library
        for alias in node.names
    }
    assert {name for name in taken if "File" in name or "Sequence" in name} == set()  # they open what they are named


@pytest.mark.parametrize("name", [name for name in SOURCES if top(name) == "bivdiff"])
def test_the_library_knows_no_page(name):
    assert libraries(name) & {"gradio", "gradio_client", "tabs", "app"} == set()


@pytest.mark.parametrize("name", [name for name in SOURCES if top(name) in ("tabs", "app")])
def test_the_page_knows_no_model_library(name):
    assert libraries(name) & HEAVY == set()


@pytest.mark.parametrize(
    "name",
    [
        "app",
        "bivdiff.catalog.requests",
        "bivdiff.models.inventory",
        "bivdiff.models.cost",
        "bivdiff.media.reading",
        "bivdiff.toybox.clips",
        "bivdiff.toybox.data",
    ],
)
def test_importing_loads_no_model_library(name):
    code = f"import sys, {name}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("file", [*map(relative, SOURCES.values()), *TESTS, *BENCHMARKS])
def test_a_file_is_named_after_something_and_says_what_is_in_it(file):
    assert not NAMELESS & {Path(file).stem, *Path(file).parts}
    assert ast.get_docstring(parsed(ROOT / file))


def test_a_module_that_another_one_sends_to_is_there():
    """`(see paths.py)`, `(see media/film)`, `(see kinds)`: beside the module, or from the library or the page on."""
    lost = {
        (name, sent)
        for name, path in SOURCES.items()
        for told in re.findall(r"\(see ([^)]*)\)", ast.get_docstring(parsed(path)) or "")
        for sent in re.findall(r"[a-z_0-9/]+(?=\.py|\b)", told.replace(".py", ""))
        if not any(
            (place / sent).with_suffix(".py").is_file() or (place / sent).is_dir()
            for place in (path.parent, ROOT / "bivdiff", ROOT / "tabs")
        )
    }
    assert lost == set()


@pytest.mark.parametrize("file", TESTS)
def test_no_test_sleeps(file):
    """A test waits for what it wants to see: a time is too short on a busy machine, and lost on another."""
    called = [
        node for node in ast.walk(parsed(ROOT / file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]  # fmt: skip
    assert [node.lineno for node in called if node.func.attr in {"sleep", "wait_for_timeout"}] == []
    # Nobody can set an event that has no name; the one way to look again and again is that of patience.py.
    unnamed = [node.lineno for node in called if node.args and ast.unparse(node.func).endswith("Event().wait")]
    assert len(unnamed) == (file == "tests/patience.py")


@pytest.mark.parametrize("file", TESTS)
def test_no_test_is_imported(file):
    """What several tests share stands in a module that holds no tests, so that each file can be run and moved alone."""
    nodes = [node for node in ast.walk(parsed(ROOT / file)) if isinstance(node, ast.ImportFrom)]
    assert [node.module for node in nodes if str(node.module).startswith("test_")] == []


def test_assets_stay_small():
    sizes = {relative(path): path.stat().st_size for path in (ROOT / "assets").rglob("*") if path.is_file()}
    assert {file: size for file, size in sizes.items() if size >= 10 * MEBIBYTE} == {}
    assert sum(sizes.values()) < 96 * MEBIBYTE


def test_one_module_shows_what_the_page_takes_for_html():
    """There all that comes from a file or a visitor is escaped."""
    shown = {"Error", "Warning", "Info"}
    showing = {
        name for name, path in SOURCES.items() for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in shown
        and isinstance(node.func.value, ast.Name) and node.func.value.id == "gr"
    }  # fmt: skip
    assert showing == {"tabs.failures"}


THREADED = (
    *(name for name in SOURCES if top(name) == "tabs"),
    "bivdiff.media.carried", "bivdiff.toybox.conditioned", "bivdiff.studio.zerogpu",
    "bivdiff.studio.maker", "bivdiff.studio.crew", "bivdiff.studio.history.taking", "bivdiff.workers.worker",
)  # fmt: skip
"""Modules whose functions are called by many threads, before the model libraries are there."""


@pytest.mark.parametrize("name", THREADED)
def test_what_threads_import_late_they_import_one_after_the_other(name):
    tree = parsed(SOURCES[name])
    late = {
        node for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)
    }  # fmt: skip
    locked = {
        node for block in ast.walk(tree)
        if isinstance(block, ast.With) and any("'importing'" in ast.dump(item) for item in block.items)
        for node in ast.walk(block)
    }  # fmt: skip
    assert [node.lineno for node in late - locked] == []
