"""README and docs keep their word: links lead somewhere, and commands are understood and, without a card, run.

So that this takes seconds, the runs take two steps a stage and four frames, and the weights are random: nothing is
said of their clips.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from bivdiff.cli.parser import build_parser
from bivdiff.settings import Settings
from tabs import serving

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "assets" / "toybox" / "README.md"]
MEBIBYTE = 2**20
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FEWER = {"--clips": "1", "--mixing-ratios": "0,1"}
"""Numbers of the commands that are replaced to run them."""
STEPS = ["--num-inference-steps", "2", "--num-inversion-steps", "2", "--num-smoothing-steps", "2"]
QUICK = {
    "run": [*STEPS, "--num-frames", "4"], "compare": [*STEPS, "--num-frames", "4"], "evaluate": STEPS,
    "batch": [*STEPS, "--num-frames", "2", "--size", "64x64"],
    "bench": [*STEPS, "--runs", "1"], "models": [], "probe": [],
}  # fmt: skip
"""What is added to a command to run it."""


@cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(text_of(path)) if name == language]


def commands(program: str) -> list[list[str]]:
    """The arguments of every command of README and docs that starts with a program: in a block, or within a line."""
    lines = []
    for path in [README, *DOCS]:
        lines += [line for block in blocks(path, "sh") for line in block.replace("\\\n", " ").splitlines()]
        lines += [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", FENCE.sub("", text_of(path)))]
    found = (re.fullmatch(rf"(?:\w+=\S* )*{program}(?:\s+(.*))?", line.strip()) for line in lines)
    return [shlex.split(match[1] or "", comments=True) for match in found if match]


COMMANDS = [words for words in commands(r"python -m bivdiff") if words]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    prose = FENCE.sub("", text_of(path))
    links = re.findall(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"|href=\"([^\"]+)\"", prose)
    broken = []
    for link in (next(filter(None, each)) for each in links):
        if re.match(r"https?:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.is_relative_to(ROOT) or not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_leads_to_every_page():
    assert {path.name for path in DOCS} == set(re.findall(r"\]\(docs/([\w-]+\.md)\)", text_of(README)))


def test_the_readme_is_short_and_its_pictures_are_small():
    assert len(text_of(README).splitlines()) <= 170
    shown = {match for each in re.findall(r"\]\((docs/pictures/[^)]+)\)|src=\"([^\"]+)\"", text_of(README))
             for match in each if match}  # fmt: skip
    assert shown
    assert sum((ROOT / name).stat().st_size for name in shown) < 4 * MEBIBYTE


def test_every_picture_is_shown():
    shown = {
        (path.parent / link).resolve()
        for path in PAGES
        for each in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text_of(path)) for link in each if link
    }  # fmt: skip
    assert {path for path in (ROOT / "docs" / "pictures").iterdir() if path not in shown} == set()


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    # "make it night" is an instruction to the toybox, and in code too.
    named = {words[0] for words in commands("make") if words and all("=" in word for word in words[1:])}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_commands_are_understood(words):
    if {"--help", "--version"} & set(words):
        with pytest.raises(SystemExit, match=r"^0$"):
            build_parser().parse_args(words)
    else:
        build_parser().parse_args(words)


def test_arguments_of_the_app_are_understood():
    given = commands(r"python app\.py")
    assert ["--mcp"] in given
    for words in given:
        serving.build_parser().parse_args(words)


def test_programs_and_their_flags_exist():
    text = "".join(map(text_of, PAGES))
    for path, given in re.findall(r"(benchmarks/\w+\.py)((?: --[a-z-]+(?: [^-`\s]\S*)*)*)", text):
        source = (ROOT / path).read_text("utf-8")
        assert {flag for flag in re.findall(r"--[a-z-]+", given) if f'"{flag}"' not in source} == set(), path
    for module in re.findall(r"python -m (bivdiff[\w.]*\w)", text):
        assert importlib.util.find_spec(module), f"python -m {module}"


def test_every_setting_is_explained_and_every_variable_exists():
    known = {f"BIVDIFF_{name.upper()}" for name in Settings.__dataclass_fields__}
    known |= {"BIVDIFF_AUTH", "BIVDIFF_ALLOWED_HOSTS"}
    assert set(re.findall(r"BIVDIFF_[A-Z0-9_]+", "".join(map(text_of, DOCS)))) == known
    assert set(re.findall(r"BIVDIFF_[A-Z0-9_]+", text_of(README))) <= known


def test_every_flag_of_the_app_is_explained():
    flags = {flag for action in serving.build_parser()._actions for flag in action.option_strings} - {"-h", "--help"}
    rows = re.findall(r"^\| `(--.*?) \|", text_of(ROOT / "docs" / "serving.md"), re.MULTILINE)
    assert {flag for row in rows for flag in re.findall(r"--[a-z-]+", row)} == flags


def test_the_architecture_is_that_of_the_tree():
    named = re.findall(r"`([\w./]+(?:\.py|/))`", text_of(ROOT / "docs" / "architecture.md"))
    there = [path for top in ("bivdiff", "tabs", "assets", "tests", "benchmarks") for path in (ROOT / top).rglob("*")]
    places = [f"/{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in [*there, ROOT / "app.py", ROOT / "tests",
              ROOT / "tabs", ROOT / "assets", ROOT / "benchmarks"]]  # fmt: skip
    assert [name for name in named if not any(place.endswith(f"/{name}") for place in places)] == []
    rooms = {f"bivdiff/{path.name}/" for path in (ROOT / "bivdiff").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(named)


# Run


@pytest.fixture
def beside_the_assets(tmp_path, monkeypatch, toybox_folder):
    """A folder to work in that has the clips, with weights that are random."""
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    monkeypatch.setenv("BIVDIFF_CACHE_FOLDER", str(tmp_path / "stages"))
    monkeypatch.setenv("BIVDIFF_MODELS_FOLDER", str(tmp_path / "models"))
    monkeypatch.setenv("BIVDIFF_DEVICE", "cpu")
    return tmp_path


def runs_here(words: list[str]) -> bool:
    """Whether a command needs no card, no weights from elsewhere and no clip of the reader's."""
    if words[0] == "models":
        return words[1] in {"list", "check"}
    # A benchmark of a comparison does in minutes what the tests of benchmarks do.
    # A cluster is started by the tests of workers.
    return not {"sd15", "ray", "--help", "--version", "--sweep"} & set(words)


def unlike(given: list[list[str]]) -> list[list[str]]:
    """Each command once, whatever its output is called; one that is only named, without arguments, is none."""
    named = {}
    for words in filter(lambda words: words[1:], given):
        named["\0".join("" if before == "--output" else word for before, word in pairwise(["", *words]))] = words
    return list(named.values())


RUN = unlike([words for words in COMMANDS if runs_here(words)])


@pytest.mark.parametrize("words", RUN, ids=shlex.join)
def test_commands_run(beside_the_assets, capsys, words):
    from bivdiff.cli.main import main

    if "jobs.jsonl" in words:
        (lines,) = [block for block in blocks(ROOT / "docs" / "api.md", "json") if '"video"' in block]
        (beside_the_assets / "jobs.jsonl").write_text(lines, "utf-8")
    shorter = [FEWER.get(before, word) for before, word in pairwise(["", *words])]
    assert main([*shorter, *QUICK[words[0]]]) == 0, capsys.readouterr().err
    if "--output" in words:
        written = beside_the_assets / words[words.index("--output") + 1]
        assert (written / "index.html" if words[0] in {"compare", "batch"} else written).stat().st_size > 0


def test_the_commands_that_run_are_of_every_kind():
    assert {words[0] for words in RUN} == {"run", "compare", "batch", "evaluate", "bench", "models", "probe"}
    tasks = {words[words.index("--task") + 1] for words in RUN if words[0] == "run"}
    assert tasks == {"control", "edit", "inpaint", "outpaint", "smooth"}


@pytest.mark.usefixtures("beside_the_assets")
def test_the_lines_of_python_run():
    (code,) = blocks(README, "python")
    assert code in blocks(ROOT / "docs" / "api.md", "python")
    statements = [line for line in code.splitlines() if line]
    assert len(statements) <= 6
    steps = "num_inference_steps=2, num_inversion_steps=2, num_smoothing_steps=2"
    quick = code.replace('blue floor at night")', f'blue floor at night", {steps})')
    assert quick != code
    names = {}
    exec(quick, names)  # noqa: S102 - it is our own
    said = re.search(r"result\.frames\s+# uint8 (\(.*?\))", code)[1]
    assert names["result"].frames.shape == ast.literal_eval(said)
    assert str(names["result"].frames.dtype) == "uint8"
