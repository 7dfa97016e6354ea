"""The rules of the house: who may import whom, what a module must have, and that README and assets keep their word.

In it: what can be read from the files without running a model. Not in it: what the code does.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEBIBYTE = 2**20

LAYERS = (
    "errors amounts types settings specs",
    "own_models catalog axes annotators media carried metrics masks tracking canvas",
    "models",
    "latents previews guidance attention prompts windows sampling metering reuse store semantics",
    "tasks inversion smoothing inventory",
    "pipeline planning scores sweep jobs runs export zerogpu limits",
    "evaluation",
    "bench",
    "__main__",
)
"""The rooms of bivdiff, lowest first: a room imports from its own layer and from those below.

Above them all come tabs and then app. The toybox stands beside them: it may import any room, and everything from the
models up may import it.
"""

LEVEL = {room: level for level, layer in enumerate(LAYERS) for room in layer.split()}
TABS, APP = len(LAYERS), len(LAYERS) + 1
TOYBOX = LEVEL["models"]
KNOW_ONLY_TYPES_AND_ERRORS = ("annotators", "media", "metrics", "masks", "tracking", "canvas")
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "accelerate"}
NAMELESS = {"util", "utils", "helper", "helpers", "misc", "stuff"}


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    dotted(path): path
    for path in sorted([*ROOT.glob("app.py"), *ROOT.glob("bivdiff/**/*.py"), *ROOT.glob("tabs/**/*.py")])
}


def imports(name: str) -> set[str]:
    """Every module that a source imports, anywhere in it, as the longest name that is one of ours."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {member if member in SOURCES else str(node.module) for member in inside}
    return found


def our_imports(name: str) -> set[str]:
    return {target for target in imports(name) if target.partition(".")[0] in ("app", "tabs", "bivdiff")}


def room(name: str) -> str:
    """The part of bivdiff that a module belongs to: `models` for `bivdiff.models.manager`."""
    return name.split(".")[1] if "." in name else ""


def level(name: str) -> int:
    if name == "app":
        return APP
    if name.partition(".")[0] == "tabs":
        return TABS
    if room(name) == "toybox":
        return TOYBOX
    if name == "bivdiff":
        return 0
    assert room(name) in LEVEL, f"{name} has no place: put '{room(name)}' into LAYERS of {Path(__file__).name}"
    return LEVEL[room(name)]


@pytest.mark.parametrize("name", SOURCES)
def test_imports_point_downwards(name):
    if room(name) == "toybox":
        return
    upward = {target for target in our_imports(name) if level(target) > level(name)}
    assert not upward


def test_imports_have_no_cycle():
    order = tuple(TopologicalSorter({name: our_imports(name) - {name} for name in SOURCES}).static_order())
    assert set(order) >= set(SOURCES)  # and a cycle would have raised


@pytest.mark.parametrize("name", [name for name in SOURCES if room(name) in KNOW_ONLY_TYPES_AND_ERRORS])
def test_what_handles_pixels_knows_only_types_and_errors(name):
    assert {room(target) for target in our_imports(name)} <= {"types", "errors", "masks", room(name)}


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("bivdiff")])
def test_the_library_knows_no_page(name):
    assert not {target.partition(".")[0] for target in imports(name)} & {"gradio", "gradio_client", "tabs", "app"}


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith(("tabs", "app"))])
def test_the_page_knows_no_model_library(name):
    assert not {target.partition(".")[0] for target in imports(name)} & HEAVY


@pytest.mark.parametrize(
    "name", ["app", "bivdiff.catalog", "bivdiff.media", "bivdiff.toybox.clips", "bivdiff.toybox.data"]
)
def test_importing_loads_no_model_library(name):
    code = f"import sys, {name}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_nothing_is_named_after_nothing():
    paths = [*SOURCES.values(), *ROOT.glob("tests/**/*.py")]
    assert not [path for path in paths if NAMELESS & {path.stem, *path.relative_to(ROOT).parts}]


@pytest.mark.parametrize("path", [*SOURCES.values(), *sorted(ROOT.glob("tests/**/*.py"))], ids=dotted)
def test_every_module_says_what_is_in_it(path):
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def test_assets_stay_small():
    sizes = {path: path.stat().st_size for path in (ROOT / "assets").rglob("*") if path.is_file()}
    assert max(sizes.values()) < 10 * MEBIBYTE
    assert sum(sizes.values()) < 64 * MEBIBYTE


def readme_commands(program: str) -> list[list[str]]:
    """The arguments of every shell command in the README's code that starts with `program`."""
    text = (ROOT / "README.md").read_text("utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    commands = []
    for line in [*(line for block in blocks for line in block.splitlines()), *inline]:
        if match := re.match(rf"\s*(?:\$ )?(?:\w+=\S* )*{program}(?:\s+(.*))?$", line):
            # Only the command itself counts, not what its output goes to.
            words = shlex.split(re.split(r"\s(?:\||>|&&|;|2>)", match[1] or "")[0], comments=True)
            commands.append(words)
    return commands


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    # "make it night" is an instruction to the toybox, and in code too.
    commands = [words for words in readme_commands("make") if all("=" in word for word in words[1:])]
    assert {words[0] for words in commands} >= {"demo", "test"}
    assert {words[0] for words in commands} <= targets


def test_commands_of_the_readme_are_understood():
    commands = [words for words in readme_commands(r"(?:\S*/)?python3? -m bivdiff") if words]
    assert commands
    assert [shlex.join(words) for words in commands if not understood(words)] == []


def understood(words: list[str]) -> bool:
    from bivdiff.__main__ import build_parser

    try:
        build_parser().parse_args(words)
    except SystemExit as stopped:  # --help ends so, too, with status 0
        return not stopped.code
    return True


def test_modules_that_the_readme_runs_exist():
    text = (ROOT / "README.md").read_text("utf-8")
    for name in re.findall(r"python3? -m (bivdiff[\w.]*\w)", text):
        assert importlib.util.find_spec(name), f"python -m {name}"
