"""The whole studio in a browser: every tab runs the toybox's models, and nothing stands in for anything."""

from __future__ import annotations

import base64
import zipfile

import pytest
from pages import LABELS, WIDE, generate, open_tab
from playwright.sync_api import Page, expect

from bivdiff.media import carried
from bivdiff.media.reading import read_clip
from bivdiff.settings import Settings
from tabs.context import AppContext
from tabs.page import build_page, launch_options

PATIENCE = 120  # seconds that a run may take on a busy machine
# Whether a browser has the codec differs; one that has it must show the frames one after the other.
PLAY = """async (base64) => {
  const video = document.createElement("video");
  if (!video.canPlayType('video/mp4; codecs="avc1.42E01E"')) return "no codec";
  video.muted = true;
  video.src = `data:video/mp4;base64,${base64}`;
  await video.play();
  await new Promise((resolve) => { video.ontimeupdate = () => video.currentTime > 0.3 && resolve(); });
  return `${video.videoWidth}x${video.videoHeight}`;
}"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    settings = Settings(
        device="cpu", history_folder=folder / "history", cache_folder=folder / "stages", families="toybox"
    )
    page = build_page(AppContext.from_settings(settings))
    page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield page.local_url
    page.close()


@pytest.fixture
def page(chromium, address):
    context = chromium.new_context(viewport=WIDE)
    wrong, opened = [], context.new_page()
    opened.set_default_timeout(PATIENCE * 1000)
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.goto(address)
    opened.wait_for_selector("#control-generate")
    yield opened
    context.close()
    assert wrong == []


def plays(page: Page, task: str) -> None:
    """The file that one takes along is a clip of eight different frames, which this browser plays if it can."""
    with page.expect_download() as download:
        page.locator(f"#{task}-player .bdp-tile[data-label=Bridged] .bdp-save").click()
    path = download.value.path()
    frames = read_clip(path).frames
    count, height, width, _ = frames.shape
    assert (count, height * width) == (8, 128 * 130 if task == "outpaint" else 128 * 128)
    assert frames.std() > 10
    assert all((frames[number] != frames[0]).any() for number in range(1, 8))
    assert carried.read(path).settings["task"] == task
    assert page.evaluate(PLAY, base64.b64encode(path.read_bytes()).decode()) in {"no codec", f"{width}x{height}"}


@pytest.mark.parametrize("task", LABELS)
def test_every_tab_makes_a_video_that_plays(page, task):
    if task != "control":
        open_tab(page, task)
    generate(page, task)
    plays(page, task)


def test_a_run_again_from_the_history_shows_on_its_tab_without_a_reload(page):
    page.click("#control-generate")
    expect(page.locator("#control-progress .bd-clock")).to_contain_text("of the machine's memory in use")
    page.wait_for_selector('#control-progress [data-state="done"]')
    page.get_by_role("tab", name="History").click()
    page.locator(".bd-past-open").first.click()
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("tab", name="Controllable generation").click()
    expect(page.locator("#control-player .bdp-facts")).to_contain_text("kept from an earlier run")  # the second run's
    page.get_by_role("tab", name="History").click()
    expect(page.locator(".bd-past")).to_have_count(2)


def test_ratios_are_compared_and_the_page_to_take_along_opens(page, chromium, tmp_path):
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-ratios textarea, #compare-ratios input").first.fill("0, 1")
    page.click("#compare-start")
    expect(page.locator("#compare-player .bdp-tile:not(.is-empty)")).to_have_count(3, timeout=PATIENCE * 1000)
    page.wait_for_selector('#compare-progress [data-state="done"]')
    expect(page.locator("#compare-player")).to_contain_text("Likeness to the truth")  # the world knows a sample's
    with page.expect_download() as download:
        page.locator("#compare-zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    (index,) = tmp_path.rglob("index.html")
    wrong, context = [], chromium.new_context(viewport=WIDE, offline=True)
    taken = context.new_page()
    taken.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    taken.on("pageerror", lambda error: wrong.append(str(error)))
    taken.goto(index.as_uri())
    expect(taken.locator(".bdp-tile:not(.is-empty)")).to_have_count(3)
    context.close()
    assert wrong == []
