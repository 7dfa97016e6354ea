"""One visit in a browser that uses everything: it calls only what the guard serves, and no stranger's HTML is shown."""

from __future__ import annotations

import json
import zipfile
from functools import partial
from urllib.parse import urlsplit

import pytest
from fake_run import FakeRun, fake_context
from pages import TITLES, WIDE, generate, open_tab, shows_all
from playwright.sync_api import expect

from bivdiff.catalog.requests import default_request
from bivdiff.media import carried
from bivdiff.media.film import FilmOptions
from bivdiff.media.reading import read_clip
from bivdiff.media.writing import CARRY_NAME
from bivdiff.toybox.clips import load_index
from tabs import films
from tabs.door import Door
from tabs.page import build_page, launch_options

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # one long visit, on a busy machine too

PATIENCE = 100  # seconds the page may take on a busy machine
FORM = "<form id=trap><img src=/trap></form>"
ASKED_IN_VAIN = {("GET", "/monitoring/summary")}
"""What Gradio's own list of the actions asks for, and does without."""


DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        page = build_page(fake_context(FakeRun()))
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
        yield url
        page.close()


@pytest.fixture
def trap(tmp_path):
    """A file as the studio writes it, but for a setting that is HTML."""
    sample = load_index()[0]
    clip = read_clip(sample.file, num_frames=2, size=(64, 64))
    settings = carried.settings_of(default_request("control", "toybox", clip.frames, sample.prompt), 8.0)
    path = tmp_path / "trap.zip"
    with zipfile.ZipFile(path, "w") as archive:
        written = {CARRY_NAME: carried.FORMAT, "settings": {**settings, FORM: 1}}
        archive.writestr("settings.json", json.dumps(written))
    return path


def test_a_visit_that_uses_everything_calls_only_what_is_served(chromium, address, trap, monkeypatch):
    monkeypatch.setattr(films, "FilmOptions", partial(FilmOptions, seconds=0.5, wipe=False))
    called, wrong = set(), []
    context = chromium.new_context(viewport=WIDE)
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.on("request", lambda request: called.add((request.method, urlsplit(request.url)[1:3])))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address)

    # A run of an upload, a film of it, and a mask that is painted
    shows_all(page, "control")
    page.locator("#control-video input[type=file]").set_input_files(load_index()[1].file)
    generate(page)
    with page.expect_download():
        page.locator("#control-player button", has_text="Film, square").click()
    open_tab(page, "inpaint")

    # A comparison, the history, the models
    page.get_by_role("tab", name=TITLES["control"]).first.click()
    page.locator("#control-compare").click()
    page.locator("#compare-start").click()
    page.wait_for_selector('#compare-progress [data-state="done"]')
    page.get_by_role("tab", name="History").first.click()
    page.locator(".bd-past-star").first.click()
    page.locator(".bd-past-open").first.click()
    page.wait_for_selector("#history-player canvas[data-frame]")
    page.get_by_role("tab", name="Models").first.click()
    expect(page.locator("#models-readout")).not_to_contain_text("It is read when")

    # A stranger's file
    page.get_by_role("tab", name="History").first.click()
    page.locator("#history-drop input[type=file]").set_input_files(trap)
    toast = page.locator(".toast-body")
    expect(toast).to_contain_text("There is no setting named '<form id=trap")
    assert page.locator("#trap").count() == 0
    expect(page.locator("#history-drop input[type=file]")).to_have_count(1)  # there is room for another
    assert wrong == []

    # Scripts that do not stand in the page as it came run neither in an element nor as one
    for put, refused in (
        (f"document.body.insertAdjacentHTML('beforeend', '<img src=\"{DOT}\" onload=\"ran = 1\">')", "script-src-attr"),
        ("document.head.append(Object.assign(document.createElement('script'), {text: 'ran = 1'}))", "script-src-elem"),
    ):
        told = "(told) => document.addEventListener('securitypolicyviolation', told, {once: true})"
        what = f"() => new Promise({told}).then((it) => it.effectiveDirective)"
        assert page.evaluate(what.replace("() =>", f"() => {{ setTimeout(() => {put}); return", 1) + "}") == refused
    assert page.evaluate("() => window.ran") is None
    wrong.clear()

    # Gradio's own list of the actions
    page.locator("footer button", has_text="API").click()
    page.wait_for_selector("text=API documentation")
    context.close()
    place = urlsplit(address).netloc
    assert {host for _, (host, _) in called} <= {place, ""}
    unserved = {(method, path) for method, (_, path) in called if not Door().serves(method, path)}
    assert unserved <= ASKED_IN_VAIN
    assert [text for text in wrong if "404" not in text] == []
    assert {path for _, (_, path) in called} >= {
        "/", "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/run/predict",
    }  # fmt: skip
