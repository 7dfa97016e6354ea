"""A page for each family of models: what differs between them, on the server and in the browser."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_run import FakeRun, fake_context
from gradio_client import Client
from playwright.sync_api import expect

from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import blank_request
from bivdiff.errors import InputError, OutOfMemoryError
from bivdiff.fields import table
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest
from tabs import control, task_tab
from tabs.bridge import FOLLOWING, follow_models
from tabs.context import AppContext
from tabs.page import build_page, launch_options

BOTH = ("toybox", "sd15")
VALUES = {"sample": 0, "prompt": "a red cube", "random_seed": True}


@pytest.fixture(scope="module")
def run():
    return FakeRun()


@pytest.fixture(scope="module")
def context(run):
    return replace(fake_context(run), families=BOTH)


@pytest.fixture(scope="module")
def page(context):
    return build_page(context)


@pytest.fixture(scope="module")
def address(page):
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url
    page.close()


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def test_each_family_has_its_endpoints_and_its_defaults(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    defaults = {
        prefix: {item["parameter_name"]: item["parameter_default"] for item in named[f"/{prefix}control"]["parameters"]}
        for prefix in ("", "sd15_")
    }
    assert not any(name.endswith("_1") for name in named)
    assert defaults[""]["mixing_ratio"] == blank_request("control", "toybox").mixing_ratio < 1.0
    assert defaults["sd15_"]["mixing_ratio"] == 1.0
    assert "video_model" not in defaults[""]
    assert defaults["sd15_"]["video_model"] == "zeroscope"
    assert {"base_model", "loras", "embeddings"} <= set(defaults["sd15_"]) - set(defaults[""])


def test_a_familys_page_asks_for_its_own_models_and_size(run, context):
    sd15 = replace(context, family="sd15")
    job = control.read_job(sd15, {**VALUES, "video_model": "vidrd", "loras": "a:0.5", "window": 4})
    assert (job.request.family, job.request.video_model, job.request.loras) == ("sd15", "vidrd", "a:0.5")
    assert job.request.frames.shape[1:3] == (512, 512)
    assert job.request.window == 4
    small = control.read_job(sd15, {**VALUES, "size": "320x192"})
    assert small.request.frames.shape[1:3] == (192, 320)
    list(task_tab.generate(sd15, control.read_job, "control", {**VALUES, "fit_memory": False}))
    assert run.requests[-1].family == "sd15"
    assert run.requests[-1].window is None
    assert run.fitted[-1] is False


def test_what_a_run_will_take_is_told_without_running(run, context):
    before = len(run.requests)
    panel = task_tab.foresee(context, control.read_job, "control", VALUES)
    assert panel["headline"] == "This takes 8 s."
    assert len(run.requests) == before
    assert task_tab.foresee(context, control.read_job, "control", {**VALUES, "mixing_ratio": 7})["state"] == "failed"


def test_an_unknown_family_is_told_at_once():
    assert AppContext.from_settings(Settings(families="sd15, toybox")).families == ("sd15", "toybox")
    with pytest.raises(InputError, match="nowhere"):
        AppContext.from_settings(Settings(families="nowhere"))


def test_the_real_doors_fit_a_request_or_say_that_it_does_not(settings, request_of):
    context = AppContext.from_settings(replace(settings, host_memory="60MB"))
    events = context.run(request_of(), False)
    with pytest.raises(OutOfMemoryError, match=r"beside its libraries.*60 MB.*Fit to my memory"):
        next(events)
    roomy = AppContext.from_settings(settings)
    first = next(roomy.run(request_of(), True))
    assert first.message.startswith("This takes")
    assert roomy.expected(request_of()) == first.message


@pytest.mark.browser
def test_one_comes_from_one_family_to_the_other_and_sees_what_is_its_own(address, chromium):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(address)
    expect(page.get_by_text("The words the toybox knows").first).to_be_visible()
    page.get_by_role("link", name="Stable Diffusion 1.5").click()
    expect(page.locator("#control-video-model")).to_be_visible()
    complaints.clear()  # a page that is left breaks off what it was loading, and says so
    expect(page.get_by_text("The words the toybox knows")).to_have_count(0)
    expect(page.get_by_role("link", name="Toybox")).to_be_visible()
    page.set_viewport_size({"width": 400, "height": 850})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.close()
    assert complaints == []


@pytest.mark.parametrize("name", BOTH)
def test_every_video_model_of_a_family_can_be_chosen(context, name):
    """What a task starts with follows it; one's own choice stays, but for a noise that there is not."""
    page = replace(context, family=name)
    started = [getattr(blank_request("control", name), field) for field in FOLLOWING]
    for video_model, video in family_named(name).video_models.items():
        followed = follow_models(page, "control", None, video_model, *started)
        usual = blank_request("control", name, None, video_model)
        assert followed == [getattr(usual, field) for field in FOLLOWING]
        chosen = {"video_model": video_model, **dict(zip(FOLLOWING, followed, strict=True))}
        assert control.read_job(page, {**VALUES, **chosen}).request.video_model == video_model
        own = [0.31, "image", "linear", 0.77, 3, 4, 2.5]
        kept = follow_models(page, "control", None, video_model, *own)
        assert kept == (own if video.shares_space else [0.31, "video", "capped", 0.77, 3, 4, 2.5])


def test_the_page_lets_settings_follow_the_models(page):
    """Those of the tab that the choice stands in, and all of them."""
    shown = {block.elem_id: number for number, block in page.blocks.items() if getattr(block, "elem_id", None)}
    labels = [table(GenerationRequest)[field].label for field in FOLLOWING]
    for choice in ("control-image-model", "control-video-model", "smooth-video-model"):
        # Both families' pages have it, and that of Stable Diffusion is built last.
        led = [fn for fn in page.fns.values() if (shown[choice], "input") in fn.targets]
        assert labels in [[part.label for part in fn.outputs] for fn in led], choice
