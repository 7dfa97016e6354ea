"""What the page relies on in Gradio and Gradio does not document: that it is as it was when the page was written."""

from __future__ import annotations

import ast
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import gradio as gr
import pytest
from fake_run import FakeRun, fake_context
from gradio.queueing import Queue
from gradio.state_holder import SessionState
from packaging.requirements import Requirement

from tabs import sessions, waiting
from tabs.page import build_page

ROOT = Path(__file__).resolve().parent.parent

RELIED_ON = {
    "app.py": {
        "tunneling.Tunnel.kill": "db80deffbb74",
        "tunneling.Tunnel._start_tunnel": "bfb996057c78",
    },
    "tabs/binding.py": {
        "utils.get_function_params": "9a3d63a71f45",
        "utils.get_function_description": "b845743db628",
    },
    "tabs/guard.py": {
        "route_utils.GradioMultiPartParser.parse": "4009d74c96db",
    },
    "tabs/housekeeping.py": {
        "blocks.Block.render": "cfeb0ce3caeb",
        "blocks.Blocks.render": "456e969623ef",
        "route_utils.delete_files_created_by_app": "03913bce1ef4",
    },
    "tabs/page.py": {
        "block_function.BlockFunction": "00f4714b268e",
        "blocks.Blocks.fns": "a1dfe008a0b2",
        "mcp.GradioMCPServer.get_tool_to_endpoint": "0c93040ffd20",
    },
    "tabs/refusals.py": {
        "blocks.Blocks.preprocess_data": "3bee96459367",
        "blocks.Blocks.process_api": "5c3b22458d70",
        "route_utils.call_process_api": "d13d7c057f36",
    },
    "tabs/sessions.py": {
        "blocks.BlocksConfig.__init__": "d4f5ef51cd00",
        "blocks.BlocksConfig.__copy__": "2a70d9a06dc4",
        "state_holder.SessionState": "d917b63814c2",
        "state_holder.StateHolder": "1ee87dba44b9",
    },
    "tabs/uploads.py": {
        "route_utils.FileUploadProgress": "a3d03bd42c65",
        "utils.get_upload_folder": "fc9219d0d5ed",
    },
    "tabs/visitors.py": {
        "context.LocalContext": "6434704b815b",
    },
    "tabs/widgets/upload.py": {
        "blocks.Block.get_block_class": "ffa651548ff5",
        "blocks.Block.get_block_name": "445e9bc0fe6a",
    },
    "tabs/waiting.py": {
        "queueing.Event": "e1e4ba3c17d9",
        "queueing.EventQueue": "1ccdef1458f7",
        "queueing.Queue.__init__": "991309ece4bf",
        "queueing.Queue.__len__": "d1eacd77ab62",
        "queueing.Queue.compute_analytics_summary": "c49fe095a6c7",
        "queueing.Queue.get_events": "d220d9b53d6a",
        "queueing.Queue.process_events": "42890da0448d",
        "queueing.Queue.push": "0ac2d66e1cf1",
        "queueing.Queue.send_message": "dbd9a4b8763b",
        "queueing.Queue.start_processing": "1588c9806a02",
        "server_messages.ProcessCompletedMessage": "3268173f1a86",
        "utils.error_payload": "4149543bf391",
    },
}
"""By who relies on it: parts of Gradio that are replaced or read there, each with the digest of its source."""

CASES = [(who, part) for who, parts in RELIED_ON.items() for part in parts]


@cache
def parts_of(module: str) -> dict[str, str]:
    """The source of every class and function of a module of Gradio, by its name, as its file has it."""
    spec = find_spec(f"gradio.{module}")
    text = Path(spec.origin).read_text("utf-8")
    found = {}

    def look(node: ast.AST, place: str) -> None:
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{place}{part.name}"] = ast.get_source_segment(text, part)
                look(part, f"{place}{part.name}.")

    look(ast.parse(text), "")
    return found


def digest_of(part: str) -> str | None:
    module, _, name = part.partition(".")
    source = parts_of(module).get(name)
    return source and sha256(source.encode()).hexdigest()[:12]


@pytest.mark.parametrize(("who", "part"), CASES)
def test_gradio_is_as_the_page_takes_it_to_be(who, part):
    found = digest_of(part)
    assert found, f"Gradio {gr.__version__} has no gradio.{part} any more, which {who} relies on: mend that module."
    assert found == RELIED_ON[who][part], (
        f"gradio.{part} of Gradio {gr.__version__} is not what {who} was written for. Read what has changed, mend that "
        f"module where it matters, and write its new digest here: {found}"
    )


def test_the_page_replaces_what_it_says():
    build_page(fake_context(FakeRun()))
    assert {name: getattr(Queue, name) for name in waiting.REPLACED} == waiting.REPLACED
    assert {name: getattr(SessionState, name) for name in sessions.REPLACED} == sessions.REPLACED


def test_all_that_is_imported_of_gradio_and_not_documented_is_held():
    documented = {*gr.__all__, *gr.components.__all__}
    imported = {
        (path.relative_to(ROOT).as_posix(), alias.name)
        for path in [ROOT / "app.py", *ROOT.glob("tabs/**/*.py")]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in ("gradio", "gradio_client")
        for alias in node.names
    }
    assert {(who, name) for who, name in imported if name not in documented and who not in RELIED_ON} == set()


def test_gradio_is_asked_for_in_the_one_minor_version_that_is_held():
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    wanted = next(Requirement(line) for line in lines if line.startswith("gradio"))
    major, minor = map(int, gr.__version__.split(".")[:2])
    assert wanted.specifier.contains(f"{major}.{minor}.99")
    assert not wanted.specifier.contains(f"{major}.{minor + 1}.0")


def test_the_documents_name_every_module_that_relies_on_it():
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    listed = text.partition("## What of Gradio is not documented")[2].partition("\n## ")[0]
    assert {who for who in RELIED_ON if f"`{who}`" not in listed} == set()
