"""The app as others meet it: served on a Space, on ZeroGPU, from a container, and called by programs."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
import yaml
from fake_run import FakeRun, fake_context
from packaging.requirements import Requirement
from patience import until_ended

from bivdiff.bridge import pipeline
from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import family_named
from bivdiff.catalog.own import check_allowed, check_may_manage
from bivdiff.compare import planning
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models.estimate import Estimate
from bivdiff.models.manager import ModelManager
from bivdiff.models.planning import Planned
from bivdiff.settings import Settings
from bivdiff.studio import zerogpu
from bivdiff.studio.jobs import Jobs
from bivdiff.studio.limits import check_clip, limits_sentence
from bivdiff.studio.maker import components_of_all
from bivdiff.types import GenerationResult
from tabs import compare, serving, task_tab
from tabs.context import AppContext
from tabs.page import build_page, launch_options
from tabs.requests import Submission

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
FRONT = yaml.safe_load(README.split("---\n")[1])
SERVED_AT = ("GRADIO_SERVER_NAME", "GRADIO_ROOT_PATH", "GRADIO_SHARE", "GRADIO_MCP_SERVER", "SPACE_ID", "BIVDIFF_AUTH",
             "BIVDIFF_FAMILIES", "SPACES_ZERO_GPU")  # fmt: skip
ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it
DEFAULT_ADDRESS = "http://127.0.0.1:7860"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in SERVED_AT:
        monkeypatch.delenv(name, raising=False)


def given(*arguments):
    return serving.build_parser().parse_args(arguments)


# Where it is served, and to whom


@pytest.mark.parametrize(
    ("arguments", "environment", "others"),
    [
        ([], {}, False),
        (["--server-name", "localhost"], {}, False),
        (["--server-name", "::1"], {}, False),
        (["--server-name", "127.0.0.2"], {}, False),
        (["--server-name", ANYWHERE], {}, True),
        (["--server-name", "studio.example"], {}, True),
        ([], {"GRADIO_SERVER_NAME": ANYWHERE}, True),
        (["--server-name", "127.0.0.1"], {"GRADIO_SERVER_NAME": ANYWHERE}, False),
        (["--share"], {}, True),
        ([], {"GRADIO_SHARE": "True"}, True),
        (["--root-path", "/studio"], {}, True),
        ([], {"SPACE_ID": "ada/studio"}, True),
    ],
)
def test_it_is_known_who_can_reach_the_page_and_models_of_ones_own_follow(monkeypatch, arguments, environment, others):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert serving.open_to_others(given(*arguments)) is others
    decided = {
        wish: serving.visitors_settings(Settings(own_models=wish), others).own_models for wish in ("auto", "yes", "no")
    }
    assert decided == {"auto": "no" if others else "yes", "yes": "yes", "no": "no"}


def test_a_wish_that_is_none_is_refused():
    with pytest.raises(InputError, match="BIVDIFF_OWN_MODELS is 'maybe'"):
        serving.visitors_settings(Settings(own_models="maybe"), False)


@pytest.mark.parametrize(
    ("said", "others", "most"),
    [(None, True, 64), (None, False, 0), (24, True, 24), (24, False, 24), (0, True, 0)],
)
def test_only_visitors_clips_are_bounded_unless_the_owner_says_a_number(said, others, most):
    settings = serving.visitors_settings(Settings(max_frames=said), others)
    assert settings.max_frames == most
    check_clip((most or 10**5, 64, 64), settings)
    if most:
        with pytest.raises(InputError, match=f"up to {most} frames, and this one has {most + 1}"):
            check_clip((most + 1, 64, 64), settings)
        assert f"up to {most} frames" in limits_sentence(settings)
    else:
        assert "as many frames as you have time and memory for" in limits_sentence(settings)


def test_nothing_that_is_not_said_is_opened():
    options = serving.serving_options(given())
    assert {name: value for name, value in options.items() if value} == {"ssl_verify": True}
    assert options["auth"] is options["mcp_server"] is None
    assert options["share"] is False  # None would let Gradio share of its own accord in a hosted notebook


def test_a_space_shows_the_built_in_family_unless_its_owner_says_otherwise(monkeypatch):
    assert serving.visitors_settings(Settings(), True).families == "all"
    monkeypatch.setenv("SPACE_ID", "ada/studio")
    assert serving.visitors_settings(Settings(), True).families == "toybox"
    monkeypatch.setenv("BIVDIFF_FAMILIES", "sd15")
    assert serving.visitors_settings(Settings.from_env(), True).families == "sd15"


def test_whoever_opens_the_door_is_told(monkeypatch):
    everywhere = given("--server-name", ANYWHERE)
    assert "password" in serving.open_door(everywhere, locked=False)
    assert serving.open_door(everywhere, locked=True) == ""
    assert serving.open_door(given(), locked=False) == ""
    monkeypatch.setenv("SPACE_ID", "ada/studio")
    assert serving.open_door(everywhere, locked=False) == ""


def test_accounts_come_from_arguments_a_file_and_the_environment(monkeypatch, tmp_path):
    listed = tmp_path / "accounts"
    listed.write_text("grace:with:colon\n\nalan:c,omma\n", "utf-8")
    monkeypatch.setenv("BIVDIFF_AUTH", "joan:one, mary:two")
    found = serving.accounts(given("--auth", "ada:secret", "--auth-file", str(listed)))
    assert found == [("ada", "secret"), ("joan", "one"), ("mary", "two"), ("grace", "with:colon"), ("alan", "c,omma")]


@pytest.mark.parametrize("wrong", ["ada", "ada:", ":secret"])
def test_an_account_without_name_or_password_is_refused_and_not_repeated(wrong):
    with pytest.raises(InputError, match="not so") as refused:
        serving.accounts(given("--auth", wrong))
    assert "secret" not in str(refused.value).replace("'ada:secret'", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--ssl-certfile", __file__], "both --ssl-certfile and --ssl-keyfile"),
        (["--ssl-certfile", "/no/such.pem", "--ssl-keyfile", __file__], "no file 'such.pem'"),
        (["--auth-file", "/no/such/list"], "--auth-file cannot be read"),
    ],
)
def test_what_cannot_be_served_so_is_told_before_anything_starts(arguments, told):
    with pytest.raises(InputError, match=told):
        serving.serving_options(given(*arguments))


def test_mcp_without_its_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"gradio\[mcp\]"):
        serving.serving_options(given("--mcp"))


def test_wrong_arguments_end_the_app_with_a_sentence():
    done = subprocess.run(
        [sys.executable, "app.py", "--auth", "ada"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip() == "A name and a password are wanted, as in 'ada:secret', and one of those given is not so."
    )


# What visitors may do


@pytest.mark.parametrize("named", [{"base_model": "/etc"}, {"loras": "a.safetensors:0.5"}, {"embeddings": "b.pt"}])
@pytest.mark.parametrize(("wish", "allowed"), [("yes", True), ("no", False), ("auto", False)])
def test_models_of_ones_own_are_refused_where_the_owner_does_not_allow_them(request_of, named, wish, allowed):
    settings, request = Settings(own_models=wish), request_of(**named)
    if allowed:
        check_allowed(request, settings)
        check_may_manage(settings)
        return
    with pytest.raises(InputError, match=f"'{next(iter(named))}' must be empty"):
        check_allowed(request, settings)
    with pytest.raises(InputError, match="Only the owner"):
        check_may_manage(settings)
    check_allowed(request_of(), settings)


def test_the_limits_are_told_in_words(monkeypatch):
    settings = Settings(own_models="yes", max_frames=24, max_jobs=1, max_queue=9)
    plain = limits_sentence(settings)
    assert plain == "A clip has up to 24 frames. You may have 1 job waiting or running, and 9 may wait in all."
    assert "up to 2 minutes" in limits_sentence(replace(settings, max_minutes=2))
    assert limits_sentence(replace(settings, own_models="no")).endswith("the owner's choice.")
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert "takes 120 s at most" in limits_sentence(replace(settings, max_minutes=2))


# The lent card


@pytest.fixture
def spaces(monkeypatch):
    """The stand-in for the package, on what looks like a ZeroGPU Space."""
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.syspath_prepend(ROOT / "tests" / "fake_spaces")
    monkeypatch.delitem(sys.modules, "spaces", raising=False)
    yield importlib.import_module("spaces")
    sys.modules.pop("spaces", None)


@pytest.fixture
def known_manager():
    """All of a manager that lending needs."""
    paces = {"toybox": 1.0}
    return SimpleNamespace(
        pace=SimpleNamespace(of=paces.get, note=lambda family, gflop, seconds: paces.update({family: gflop / seconds}))
    )


def lent(manager, work, seconds=1.0, needed=(), **settings):
    """The work, which is expected to take so long and to run with such models, with the card to itself."""
    return partial(zerogpu.Card(lambda: manager, Settings(**settings)).lend(work, lambda *_: needed), seconds)


def test_elsewhere_a_function_runs_as_it_is(known_manager):
    work = lent(known_manager, lambda *given: iter([os.getpid(), given]), seconds=1e9, needed=("nowhere",))
    assert list(work("a", "b")) == [os.getpid(), ("a", "b")]


def test_a_space_without_the_package_says_what_to_add(monkeypatch):
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(ModelUnavailableError, match=r"Add 'spaces' to requirements\.txt"):
        zerogpu.Card(dict, Settings())


@pytest.mark.usefixtures("spaces")
def test_a_lent_run_has_a_process_of_its_own_and_the_same_events(known_manager, request_of):
    def work(request):
        yield os.getpid()
        yield from FakeRun()(request)

    request = request_of()
    pid, *events = lent(known_manager, work)(request)
    assert pid != os.getpid()
    expected = list(FakeRun()(request))
    assert [(type(event), getattr(event, "message", "")) for event in events] == [
        (type(event), getattr(event, "message", "")) for event in expected
    ]
    assert isinstance(events[-1], GenerationResult)
    np.testing.assert_array_equal(events[-1].frames, expected[-1].frames)
    np.testing.assert_array_equal(events[-1].control_frames[0], expected[-1].control_frames[0])
    assert events[-1].request.settings() == expected[-1].request.settings()


@pytest.mark.usefixtures("spaces")
def test_a_lent_comparison_brings_its_cells(known_manager, request_of):
    run = FakeRun()
    *_, cell, result = lent(known_manager, run.sweep)(request_of(), {"mixing_ratio": (0.0, 1.0)}, True)
    assert cell.values == {"mixing_ratio": 1.0}
    assert [len(each.frames) for each in result.cells] == [4, 4]


@pytest.mark.usefixtures("spaces")
def test_closing_stops_the_other_process_before_its_next_step(known_manager, request_of, tmp_path):
    def work(_):
        try:
            while True:
                yield len(list(tmp_path.iterdir()))
        finally:
            (tmp_path / "closed").touch()

    with closing(lent(known_manager, work)(request_of())) as events:
        assert next(events) == 0
    assert (tmp_path / "closed").exists()


def test_what_is_asked_for_follows_from_what_is_expected(spaces, known_manager, request_of):
    for seconds in (2, 40, 80):
        assert list(lent(known_manager, lambda request: iter([request.seed]), seconds)(request_of())) == [1]
    assert spaces.asked == [10, 66, 126]


def test_more_than_there_is_to_be_had_is_refused_before_the_quota_is_touched(spaces, known_manager, request_of):
    work = lent(known_manager, lambda _: iter(()), 61.0, max_minutes=1)
    with pytest.raises(InputError, match=r"about 61 s .* 60 s is the most"):
        list(work(request_of()))
    assert spaces.asked == []
    assert zerogpu.asked_seconds(59.0, 60) == 60


@pytest.mark.usefixtures("spaces")
def test_an_error_for_users_crosses_over_whole(known_manager, request_of):
    with pytest.raises(ModelUnavailableError, match="Pull it first"):
        list(lent(known_manager, FakeRun(error=ModelUnavailableError("Not there. Pull it first.")))(request_of()))


@pytest.mark.usefixtures("spaces")
def test_another_error_stays_one_that_is_not_for_users(known_manager, request_of):
    with pytest.raises(gr.Error, match="ZeroDivisionError"):
        list(lent(known_manager, FakeRun(error=ZeroDivisionError("secret")))(request_of()))


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (
            gr.Error("You have exceeded your quota (60s requested vs. 9s left). ", title="ZeroGPU quota exceeded"),
            "no card for this run: You have exceeded your quota (60s requested vs. 9s left).",
        ),
        (gr.Error("No GPU was available", title="ZeroGPU client error"), "No GPU was available."),
        (gr.Error("GPU task aborted", title="ZeroGPU worker error"), "taken back before the run was done"),
        (RuntimeError("Connection closed by visitor while queueing"), "Start the run again."),
    ],
)
def test_why_no_card_is_lent_reaches_the_user_as_a_sentence(spaces, known_manager, request_of, refusal, told):
    spaces.refusal = refusal
    with pytest.raises(zerogpu.CardUnavailableError) as refused:
        list(lent(known_manager, FakeRun())(request_of()))
    assert told in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.usefixtures("spaces")
def test_how_fast_the_card_was_is_remembered_here(known_manager, request_of):
    def work(_):
        known_manager.pace.note("toybox", 500.0, 2.0)
        yield "done"

    assert list(lent(known_manager, work)(request_of())) == ["done"]
    assert known_manager.pace.of("toybox") == 250


class CardBoard:
    """Takes one update as the result, and notes whether the card had been given back when it wrote the files."""

    def __init__(self, given_back):
        self._given_back, self.was_given_back = given_back, None

    def take(self, update):
        return update == "done"

    def write(self, *_):
        self.was_given_back = self._given_back.exists()

    def end(self, *_):
        pass

    def remaining(self):
        return None


@pytest.mark.usefixtures("spaces")
def test_a_job_on_the_lent_card_tells_its_pace_and_gives_the_card_back_before_its_files_are_written(
    known_manager, request_of, tmp_path
):
    given_back = tmp_path / "given back"

    def work(_):
        try:
            known_manager.pace.note("toybox", 500.0, 2.0)
            yield "done"
        finally:
            given_back.touch()

    jobs, run = Jobs(threading.Lock()), lent(known_manager, work)
    board = partial(CardBoard, given_back)
    job = jobs.submit(board, lambda _: run(request_of()), owner="ada", place="control", title="")
    assert until_ended(jobs, job).state == "done"
    assert known_manager.pace.of("toybox") == 250
    assert job.board.was_given_back is True


@pytest.fixture
def placed(settings):
    """A manager of random toybox models with its defaults placed, as on ZeroGPU but for the device."""
    manager = ModelManager(replace(settings, offload="zerogpu"))
    return manager, zerogpu.place_models(manager, settings, "toybox")


def test_models_of_all_tasks_are_placed_before_there_is_a_card(placed):
    manager, keys = placed
    assert {"toybox/unet", "toybox/vae", "toybox/controlnet-canny"} <= set(keys)
    assert set(keys) == set(manager.loaded())
    assert manager.readout().policy == "zerogpu"
    assert manager.budget.device is None
    assert {"toybox/unet", "toybox/controlnet-canny"} <= set(manager.readout().resident)


def test_what_is_not_on_the_disk_is_neither_placed_nor_run(spaces, settings, tmp_path, request_of):
    missing = replace(settings, toybox_folder=tmp_path)
    assert zerogpu.place_models(ModelManager(replace(missing, offload="zerogpu")), missing, "toybox") == ()
    with pytest.raises(ModelUnavailableError, match="only its owner can put it there"):
        list(lent(ModelManager(missing), FakeRun(), needed=components_of(request_of()).every)(request_of()))
    assert spaces.asked == []


def test_a_comparison_is_not_run_either_where_a_model_of_one_of_its_clips_is_missing(request_of):
    video_models = family_named("sd15").video_models
    request = request_of(family="sd15", video_model="zeroscope", controls=(), frame_prior="mean")
    assert video_models["zeroscope"].unet in components_of_all(request, {"mixing_ratio": (0.0, 1.0)})
    needed = {*components_of_all(request, {"video_model": tuple(video_models)}, None)}
    assert needed >= {spec for model in video_models.values() for spec in model.components}


def test_a_real_run_on_the_lent_card_has_the_bits_of_one_here(spaces, placed, request_of):
    manager, _ = placed
    request = request_of()
    run = lent(manager, lambda request: pipeline.run(request, manager), needed=components_of(request).every)
    result = pipeline.last(run(request))
    np.testing.assert_array_equal(result.frames, pipeline.last(pipeline.run(request, manager)).frames)
    assert spaces.asked == [zerogpu.LEAST_SECONDS]


def test_the_whole_app_takes_the_lent_card_for_as_long_as_it_says(spaces, settings, request_of, tmp_path, monkeypatch):
    def planned(request, *_):
        return Planned(request, Estimate(1, 1, {"smoothing": 40.0 * (1 + len(spaces.asked))}, rough=False, fits=True))

    monkeypatch.setattr(planning, "planned", planned)
    context = AppContext.from_settings(replace(settings, families="toybox", history_folder=tmp_path))
    entries = {entry.key: entry.state for entry in context.models.inventory()}
    assert entries["toybox/unet"] == "on device"
    request = request_of()
    events = list(context.run(request, True))
    assert "takes 40 s" in events[0].message
    assert isinstance(events[-1], GenerationResult)
    assert spaces.asked == [66]
    context.control_maps(request)
    assert spaces.asked == [66]  # edges need no card
    *_, compared = context.sweep(request, {"mixing_ratio": (0.0, 1.0)}, True)
    assert len(compared.cells) == 2
    assert spaces.asked == [66, 126]


def test_visitors_of_the_whole_app_bring_no_models(settings, request_of, tmp_path):
    context = AppContext.from_settings(
        replace(settings, own_models="no", families="toybox", history_folder=tmp_path)
    )  # fmt: skip
    submission = Submission(request_of(loras="a.safetensors"), 8.0)
    for ask in (
        lambda: task_tab.submit(context, "control", submission, "a" * 32),
        lambda: compare.submit(context, "control", submission, {"mixing_ratio": [0.0]}, "a" * 32),
    ):
        with pytest.raises(InputError, match="'loras' must be empty"):
            ask()
    assert context.runs.find("a" * 32) == []
    panel = task_tab.foresee(context, lambda *_: submission, "control", {})
    assert panel["state"] == "failed"
    assert "'loras' must be empty" in panel["headline"]
    for action in (context.models.pull, context.models.load, context.models.unload):
        with pytest.raises(InputError, match="Only the owner"):
            action("toybox/unet")


# The container and the Space's front matter


def docker_lines():
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def docker_args(word):
    return [rest for name, rest in docker_lines() if name == word]


def test_what_the_container_copies_is_there_and_not_ignored():
    copied = [source for rest in docker_args("COPY") for source in rest.split()[:-1]]
    assert {"app.py", "bivdiff", "tabs", "assets", "requirements.txt"} <= set(copied)
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    for source in copied:
        assert (ROOT / source).exists()
        ignored = False
        for rule in rules:
            if fnmatch(source, rule.removeprefix("!")):
                ignored = not rule.startswith("!")
        assert not ignored, source


def test_the_container_has_the_spaces_python_starts_the_app_and_is_nobody_important():
    assert docker_args("FROM") == [f"python:{FRONT['python_version']}-slim"]
    program, *arguments = json.loads(docker_args("CMD")[0])
    assert (program, arguments[0]) == ("python", FRONT["app_file"])
    given(*arguments[1:])
    assert docker_args("USER") == ["studio"]
    environment = dict(pair.split("=", 1) for rest in docker_args("ENV") for pair in shlex.split(rest))
    assert environment["GRADIO_SERVER_PORT"] == docker_args("EXPOSE")[0] == "7860"
    known = {f"BIVDIFF_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert {name for name in environment if name.startswith("BIVDIFF_")} <= known
    assert serving.open_to_others(given("--server-name", environment["GRADIO_SERVER_NAME"]))


def test_the_front_matter_fits_the_app():
    assert FRONT["sdk"] == "gradio"
    assert FRONT["app_file"] == "app.py"
    assert len(FRONT["short_description"]) <= 60
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    wanted = {one.name: one for one in map(Requirement, (line for line in lines if line and line[0] != "#"))}
    assert wanted["gradio"].specifier.contains(FRONT["sdk_version"])


# Called by programs


@pytest.fixture(scope="module")
def address():
    page = build_page(fake_context(FakeRun()))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url.rstrip("/")
    page.close()


def example(language):
    """The example of the API in a language that the docs give."""
    section = (ROOT / "docs" / "api.md").read_text("utf-8").split("## HTTP")[1].split("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def test_the_python_example_of_the_docs_works(address, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {}
    exec(example("python").replace(DEFAULT_ADDRESS, address), names)  # noqa: S102 - it is our own
    assert Path(names["bridged"]).stat().st_size > 0
    assert names["record"]["settings"]["prompt"] in example("python")


def test_the_shell_example_of_the_docs_works(address):
    if shutil.which("curl") is None:
        pytest.skip("There is no curl on this machine.")
    script = example("sh").replace(DEFAULT_ADDRESS, address)
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    last = done.stdout.strip().splitlines()[-2:]
    assert last[0] == "event: complete"
    bridged, *_, record = json.loads(last[1].removeprefix("data: "))
    assert bridged["url"].startswith(address)
    assert httpx.get(bridged["url"]).content[4:8] == b"ftyp"
    assert record["settings"]["prompt"] in script


def test_two_requests_make_a_clip_and_tell_how_far_it_is(address):
    body = {"prompt": "a red cube", "num_inference_steps": 3, "seed": 7, "random_seed": False}
    begun = httpx.post(f"{address}/gradio_api/call/v2/control", json=body).json()
    text = httpx.get(f"{address}/gradio_api/call/v2/control/{begun['event_id']}", timeout=30).text
    events = [re.match(r"event: (\w+)\ndata: (.*)", part) for part in text.strip().split("\n\n")]
    assert {event[1] for event in events} >= {"generating", "complete"}
    assert events[-1][1] == "complete"
    assert json.loads(events[0][2])[-1]["stage"] == "load"
    assert json.loads(events[-1][2])[-1]["seed"] == 7


def test_a_refusal_arrives_as_a_sentence(address):
    begun = httpx.post(f"{address}/gradio_api/call/v2/control", json={"prompt": "x" * 10_000}).json()
    text = httpx.get(f"{address}/gradio_api/call/v2/control/{begun['event_id']}", timeout=30).text
    assert text.startswith("event: error")
    assert "at most 2000 are read. Shorten it." in json.loads(text.splitlines()[1].removeprefix("data: "))["error"]


def test_the_actions_are_tools_of_their_own_names():
    pytest.importorskip("mcp")
    page = build_page(fake_context(FakeRun()))
    page.launch(prevent_thread_lock=True, quiet=True, mcp_server=True, **launch_options())
    try:
        schema = httpx.get(f"{page.local_url}gradio_api/mcp/schema").json()
    finally:
        page.close()
    tools = {tool["name"]: tool for tool in schema}
    assert {"control", "edit", "inpaint", "outpaint", "smooth", "compare", "control_estimate"} <= set(tools)
    assert "mixing_ratio" in tools["control"]["inputSchema"]["properties"]
    ours = {name.removeprefix("sd15_") for name in tools if name.startswith("sd15_")}
    assert "edit_description" in ours | {*tools}
    public = {event.api_name for event in page.fns.values() if event.api_visibility == "public"}
    assert {*tools} <= public  # none bears the name of a handler that pages alone call
