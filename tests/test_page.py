"""The real page in a headless browser, with a stand-in for the models (`fake_run.py`)."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from fake_run import FakeRun, Hold, fake_context
from pages import (
    LABELS,
    LOWEST_CONTRAST,
    SLIM,
    SMALL_TARGETS,
    TITLES,
    WIDE,
    come_to_rest,
    generate,
    go_to,
    let_draw,
    open_tab,
    overflow,
    place,
    shows_all,
)
from PIL import Image
from playwright.sync_api import Page, expect

from bivdiff.bridge.prompts import describe_edit
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import ModelUnavailableError
from bivdiff.media.film import FilmOptions
from bivdiff.media.reading import probe, read_clip
from bivdiff.media.writing import write_mp4
from bivdiff.toybox.clips import load_index
from tabs import compare, films, models
from tabs.history import layout
from tabs.page import build_page, launch_options

pytestmark = pytest.mark.browser

PATIENCE = 120  # seconds the page may take on a busy machine
TABS = {**TITLES, **{tab.NAME: tab.TITLE for tab in (compare, layout, models)}}
STILL = "* { transition: none !important; animation: none !important; }"  # colours as they end
# What cannot be used yet may be pale; a toast is Gradio's, and a button within a button.
EXEMPT = {"exclude": [[".is-idle"], ["button:disabled"], [".toast-body"]]}


@pytest.fixture(scope="module")
def run():
    return FakeRun()


@pytest.fixture(autouse=True)
def _usual_run(run):
    yield
    if isinstance(run.before, Hold):
        run.before.let()
    run.error, run.before = None, FakeRun.before


@pytest.fixture(scope="module")
def address(run):
    page = build_page(fake_context(run))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url
    page.close()


@contextmanager
def opening(chromium, address):
    """Gives a way to open the page, and at the end holds that nothing was wrong on the console or from elsewhere."""
    wrong, contexts = [], []

    def start(viewport=WIDE, theme="light", **options) -> Page:
        context = chromium.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if _elsewhere(request.url, address) else None)
        page.goto(f"{address}?__theme={theme}")
        page.wait_for_selector("#control-generate")
        shows_all(page, "control")
        return page

    start.wrong = wrong
    yield start
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def open_page(chromium, address):
    with opening(chromium, address) as start:
        yield start


@pytest.fixture(scope="module")
def visited(chromium, address):
    """A page for tests that each change one tab, or one thing of a tab, which no other of them does."""
    with opening(chromium, address) as start:
        yield start()


@pytest.fixture(scope="module")
def looked_at(chromium, address):
    """A page on which one run is done, for tests that only look at what it made."""
    with opening(chromium, address) as start:
        page = start()
        generate(page)
        yield page


def _elsewhere(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


def frames_shown(page: Page) -> list[str]:
    return page.eval_on_selector_all("#control-player .bdp-tile canvas", "all => all.map(one => one.dataset.frame)")


def test_the_film_of_a_result_is_saved_by_its_button(looked_at, tmp_path, monkeypatch):
    monkeypatch.setattr(films, "FilmOptions", partial(FilmOptions, seconds=0.5, wipe=False))
    page = looked_at
    with page.expect_download() as saved:
        page.locator("#control-player button", has_text="Film, square").click()
    saved.value.save_as(tmp_path / "film.mp4")
    info = probe(tmp_path / "film.mp4")
    assert (info.width, info.height) == (1080, 1080)
    assert saved.value.suggested_filename.endswith(".mp4")


def test_opening_and_pressing_the_one_button_gives_four_labelled_clips(open_page, run):
    page = open_page()
    generate(page)
    assert page.locator("#control-player .bdp-tile .bdp-label strong").all_inner_texts() == LABELS["control"]
    assert page.locator("#control-seed input").input_value() == str(run.requests[-1].seed)
    assert "Flicker" in page.locator("#control-player .bdp-tile").nth(1).inner_text()
    expect(page.locator("#control-progress .bd-headline")).to_have_text(re.compile(r"^Done in [\d.]+ s$"))
    # Who wants no motion gets none.
    first = frames_shown(page)
    let_draw(page, 30)
    assert frames_shown(page) == first
    page.locator("#control-player").get_by_label("Play", exact=True).click()
    page.wait_for_function(
        "before => document.querySelector('#control-player .bdp-tile canvas').dataset.frame !== before", arg=first[0]
    )


WALKED = ("framewise", "inversion", "smoothing")


def stages_shown(page, run):
    """Run, and yield each stage that has steps once the page shows it: in its midst the run waits for the next."""
    holds = {stage: Hold(stage) for stage in WALKED}
    run.before = lambda stage: [hold(stage) for hold in holds.values()]
    page.click("#control-generate")
    for stage, hold in holds.items():
        hold.let(1)
        page.wait_for_selector(f'#control-progress .is-now[data-stage="{stage}"]')
        yield stage
        hold.let()
    page.wait_for_selector('#control-progress [data-state="done"]')


def test_stages_fill_in_order(open_page, run):
    page = open_page()
    page.evaluate("""() => {
      window.seen = [];
      new MutationObserver(() => {
        const now = document.querySelector('#control-progress .is-now');
        if (now && window.seen.at(-1) !== now.dataset.stage) window.seen.push(now.dataset.stage);
      }).observe(document.querySelector('#control-progress'), { subtree: true, childList: true, attributes: true });
    }""")
    assert tuple(stages_shown(page, run)) == WALKED
    seen = page.evaluate("window.seen")
    order = ["load", "control", "framewise", "inversion", "smoothing"]
    assert [stage for stage in order if stage in seen] == seen
    assert seen[-3:] == list(WALKED)


def test_clips_play_in_step_and_stop_on_a_frame(looked_at):
    page = looked_at
    page.locator("#control-player .bd-player").focus()
    if page.locator("#control-player").get_by_label("Play", exact=True).count():
        page.keyboard.press(" ")
    seen = set()
    while len(seen) < 3:
        shown = frames_shown(page)
        assert len(set(shown)) == 1
        seen.add(shown[0])
    page.locator("#control-player .bd-player").focus()
    page.keyboard.press("Home")
    for key, frame in (("ArrowRight", "1"), ("ArrowRight", "2"), ("ArrowLeft", "1"), ("End", "7"), ("ArrowRight", "0")):
        page.keyboard.press(key)
        assert frames_shown(page) == [frame] * 4
    page.locator("#control-player input[type=range]").fill("5")
    assert frames_shown(page) == ["5"] * 4
    let_draw(page, 30)
    assert frames_shown(page) == ["5"] * 4
    page.locator("#control-player .bd-player").focus()
    page.keyboard.press(" ")
    page.wait_for_function("document.querySelector('#control-player .bdp-tile canvas').dataset.frame !== '5'")


def test_every_clip_shows_its_own_frame(looked_at):
    page = looked_at
    page.locator("#control-player .bd-player").focus()
    page.keyboard.press("Home")
    read = """all => all.map(c => [60, c.height - 61].map(
      row => [...c.getContext('2d').getImageData(20, row, 1, 1).data].slice(0, 3)))"""
    framewise, bridged, source, control = page.eval_on_selector_all("#control-player .bdp-tile canvas", read)
    assert source[0] == bridged[0][::-1]
    assert set(control[0]) <= {0, 255}
    assert framewise == source[::-1]  # upside down


def test_a_sample_fills_in_its_prompt_and_its_preview(open_page):
    page = open_page()
    sheet = """document.querySelector('#control-player [data-label="Source"] canvas').toDataURL()"""
    page.keyboard.press("Escape")
    before = page.evaluate(sheet)
    page.click('#control-samples [data-index="3"]')
    expect(page.locator("#control-prompt textarea")).to_have_value(load_index()[3].prompt)
    expect(page.locator('#control-samples [data-index="3"]')).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(f"before => {sheet} !== before", arg=before)


def test_an_upload_is_shown_and_used(open_page, run):
    page = open_page()
    page.set_input_files("#control-video input[type=file]", load_index()[4].file)
    expect(page.locator('#control-samples [aria-pressed="true"]')).to_have_count(0)
    for label in ("Source", "Edges"):
        expect(place(page, "control", label).locator("canvas[data-frame]")).to_have_count(1)
    # Of this clip nothing is made yet.
    expect(page.locator("#control-player .is-main.is-empty")).to_have_count(2)
    generate(page)
    np.testing.assert_array_equal(run.requests[-1].frames, read_clip(load_index()[4].file).frames)


def test_a_file_that_is_no_video_is_refused_with_a_sentence(open_page, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    page = open_page()
    page.set_input_files("#control-video input[type=file]", text)
    expect(place(page, "control", "Source").locator(".bdp-note")).to_contain_text("notes.mp4")


def start_and_hold(page, run) -> Hold:
    """Start a run and wait until the page shows its first stage, in the middle of which it stays until it is let go."""
    run.before = hold = Hold("framewise")
    page.click("#control-generate")
    hold.let(1)
    page.wait_for_selector('#control-progress .is-now[data-stage="framewise"]')
    return hold


def test_cancel_stops_the_run_for_good(open_page, run):
    page = open_page()
    expect(page.locator("#control-cancel")).to_be_disabled()
    hold = start_and_hold(page, run)
    expect(page.locator("#queue .bd-jobs-list li")).to_have_count(1)
    expect(page.locator("#control-progress .bd-clock")).to_contain_text("2 GB of 8 GB of the memory of cuda:0 in use")
    page.click("#control-cancel")
    expect(page.locator("#control-progress .bd-headline")).to_have_text("Stopping after this step")
    hold.let()
    page.wait_for_selector('#control-progress [data-state="stopped"]')
    assert run.closed.wait(PATIENCE)
    expect(page.locator("#control-generate")).to_be_enabled()
    expect(page.locator("#control-cancel")).to_be_disabled()
    expect(page.locator("#queue")).to_be_hidden()
    let_draw(page, 30)
    expect(page.locator("#control-progress .bd-progress")).to_have_attribute("data-state", "stopped")
    run.before = FakeRun.before
    generate(page)


def test_a_run_outlives_its_page_and_is_found_again_after_a_reload(open_page, run):
    page = open_page()
    hold = start_and_hold(page, run)
    page.reload()
    open_page.wrong.clear()  # a page that is left breaks off what it was loading, and says so
    expect(page.locator("#queue .bd-jobs-list li")).to_have_count(1)
    hold.let()
    page.wait_for_selector('#control-progress [data-state="done"]')
    expect(page.locator("#control-player .bdp-tile canvas[data-frame]")).to_have_count(4)
    expect(page.locator("#queue .bd-jobs-list li")).to_have_count(0)
    assert run.closed.is_set()


def test_several_runs_queue_up_change_places_and_are_taken_away(open_page, run):
    page = open_page()
    hold = start_and_hold(page, run)
    for number in (2, 3):
        page.locator("#control-prompt textarea").fill("a cone " * number)
        page.click("#control-generate")
        expect(page.locator("#queue .bd-jobs-list li")).to_have_count(number)
    titles = page.locator("#queue .bd-job-title")
    expect(titles).to_have_count(3)
    before = titles.all_inner_texts()
    page.get_by_role("button", name="Move forward").click()
    expect(titles.nth(1)).to_have_text(before[2])
    for left in (2, 1):
        page.locator("#queue li").last.get_by_role("button", name="Cancel").click()
        expect(page.locator("#queue .bd-jobs-list li")).to_have_count(left)
    page.locator("#queue li").get_by_role("button", name="Cancel").click()
    expect(page.locator("#queue .bd-job-words")).to_have_text("Stopping after this step")
    hold.let()
    expect(page.locator("#queue")).to_be_hidden()
    assert run.closed.wait(PATIENCE)


def test_two_browsers_see_each_their_own_jobs(open_page, run):
    mine, other = open_page(), open_page()
    hold = start_and_hold(mine, run)
    expect(other.locator("#queue .bd-jobs-list li")).to_have_count(0)
    other.click("#control-generate")
    expect(other.locator("#control-progress")).to_contain_text("1 job before it")
    expect(mine.locator("#queue .bd-jobs-list li")).to_have_count(1)
    for page in (mine, other):
        page.click("#control-cancel")
    hold.let()
    other.wait_for_selector('#control-progress [data-state="stopped"]')


def test_a_failure_says_what_to_do_and_keeps_the_last_result(open_page, run):
    page = open_page()
    generate(page)
    run.error = ModelUnavailableError("The weights are missing. Train them first.")
    page.click("#control-generate")
    page.wait_for_selector('#control-progress [data-state="failed"]')
    expect(page.locator("#control-progress .bd-headline")).to_have_text("The weights are missing. Train them first.")
    expect(page.locator("#control-player .bdp-tile canvas[data-frame]")).to_have_count(4)
    expect(page.locator("#control-player .bdp-facts")).to_contain_text("Seed")
    page.click("#control-generate")  # and the same again
    expect(page.locator("#control-progress .bd-headline")).to_have_text("The weights are missing. Train them first.")


def test_a_press_is_answered_at_once_and_what_was_before_comes_back_where_the_server_is_gone(open_page):
    page = open_page()
    page.clock.install()
    generate(page)
    done = page.locator("#control-progress .bd-headline").inner_text()
    page.route("**/queue/join*", lambda _: None)  # never answered
    page.click("#control-generate")
    expect(page.locator("#control-progress .bd-headline")).to_have_text("Asking for a turn")
    page.clock.fast_forward(61_000)
    expect(page.locator("#control-progress .bd-headline")).to_have_text(done)


def test_files_can_be_kept(looked_at):
    page = looked_at
    for name, selector in {
        "bridged.mp4": ".bdp-tile:nth-child(2) .bdp-save", "control.mp4": ".bdp-tile:nth-child(4) .bdp-save",
        "bridged.gif": ".bdp-download >> nth=0", "bridged-frames.zip": ".bdp-download >> nth=1",
    }.items():  # fmt: skip
        with page.expect_download() as download:
            page.locator(f"#control-player {selector}").click()
        assert download.value.suggested_filename == name
        assert download.value.path().stat().st_size > 500


def test_unknown_words_are_named_under_the_prompt(visited):
    page = visited
    page.fill("#control-prompt textarea", "a red dragon at noon")
    expect(page.locator("#control-prompt-hint")).to_contain_text("dragon")
    page.fill("#control-prompt textarea", "a red cube at noon")
    expect(page.locator("#control-prompt-hint")).to_be_hidden()


def test_the_preview_follows_the_control_type(open_page):
    page = open_page()
    page.locator("#control-type").get_by_text("Depth").click()
    expect(place(page, "control", "Depth").locator("canvas[data-frame]")).to_have_count(1)
    # What was made of the same clip stays, and says that it is of before.
    expect(page.locator("#control-player .is-main canvas[data-frame]")).to_have_count(2)
    expect(page.locator("#control-player .bdp-facts")).to_contain_text("Before your last change")


NAMELESS = """() =>
  [...document.querySelectorAll('button, input:not([type=file]), select, textarea, a')]
    .filter((e) => e.checkVisibility() && !e.closest('footer'))
    .filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim() || e.title))
    .map((e) => e.outerHTML)"""


def test_the_fields_of_editing_follow_the_image_model(visited):
    page = visited
    open_tab(page, "edit")
    edited = describe_edit(load_index()[0].caption, load_index()[0].instruction)
    assert edited != load_index()[0].caption
    expect(page.locator("#edit-description")).to_contain_text(edited)
    expect(page.locator("#edit-instruction textarea")).to_have_value(load_index()[0].instruction)
    page.locator("#edit-image-model").get_by_text("Prompt2Prompt").click()
    expect(page.locator("#edit-edited-prompt textarea")).to_have_value(edited)
    expect(page.locator("#edit-instruction")).to_have_count(0)


def test_the_mask_is_shown_over_the_frames(visited):
    page = visited
    open_tab(page, "inpaint")
    page.locator("#inpaint-mask-source").get_by_text("Boxes", exact=True).click()
    expect(page.locator("#inpaint-player .bdp-facts")).to_contain_text(
        "31% of the picture"
    )  # a quarter, grown by the usual 4 pixels
    page.locator("#inpaint-player .bd-player").focus()
    page.keyboard.press("Home")
    read = "all => all.map(c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])"
    shown = page.eval_on_selector_all("#inpaint-player .bdp-tile:not(.is-main) canvas", read)
    source, masked = np.array(shown).reshape(2, -1, 4)
    assert (source != masked).any(-1).mean() == pytest.approx(0.31, abs=0.01)
    page.fill("#inpaint-boxes textarea, #inpaint-boxes input", "nonsense")
    expect(place(page, "inpaint", "Made anew").locator(".bdp-note")).to_contain_text("nonsense")


def test_a_mask_can_be_painted_by_mouse_and_by_keyboard(open_page, run):
    page = open_page()
    open_tab(page, "inpaint")
    page.locator("#inpaint-mask-source").get_by_text("Painted", exact=True).click()
    expect(place(page, "inpaint", "Made anew").locator(".bdp-note")).to_contain_text("Nothing is painted yet")
    page.wait_for_selector("#inpaint-painter [data-ready]")
    canvas = page.locator("#inpaint-painter .bd-paint")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.4 * box["height"], steps=4)
    page.mouse.up()
    expect(place(page, "inpaint", "Made anew").locator("canvas[data-frame]")).to_have_count(1)
    generate(page, "inpaint")
    first = run.requests[-1].masks[0]
    assert first[51, 45] == 255
    assert first[110, 20] == 0
    page.locator("#inpaint-painter").get_by_text("Undo").click()
    expect(place(page, "inpaint", "Made anew").locator(".bdp-note")).to_contain_text("Nothing is painted yet")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    expect(place(page, "inpaint", "Made anew").locator("canvas[data-frame]")).to_have_count(1)


def test_the_canvas_follows_the_sides(visited):
    page = visited
    open_tab(page, "outpaint")
    facts = page.locator("#outpaint-player .bdp-facts")
    page.fill("#outpaint-top textarea, #outpaint-top input", "50%")
    expect(facts).to_contain_text("128 by 128 pixels")
    page.locator("#outpaint-extend-by").get_by_text("To a shape").click()
    expect(facts).to_contain_text("168 by 96 pixels")


def test_a_second_control_and_a_map_of_ones_own_are_shown(open_page):
    page = open_page()
    page.get_by_role("button", name="More on the control").click()
    page.locator("#control-second-type").get_by_text("Depth").click()
    labels = page.locator("#control-player .bdp-tile .bdp-label strong")
    expect(labels).to_have_text(["Frame by frame", "Bridged", "Source", "Edges", "Depth"])
    page.locator("#control-second-type").get_by_text("None").click()
    page.locator("#control-map-source").get_by_text("A clip that is the map").click()
    expect(place(page, "control", "Edges").locator(".bdp-note")).to_contain_text("no control clip yet")
    page.set_input_files("#control-map input[type=file]", load_index()[0].masks)
    expect(place(page, "control", "Edges").locator("canvas[data-frame]")).to_have_count(1)


def test_the_wipe_lays_one_clip_over_another(looked_at):
    page = looked_at
    player = page.locator("#control-player")
    player.locator(".bd-player").focus()
    page.keyboard.press("Home")
    expect(player.locator(".bdp-wipe")).to_be_hidden()
    player.get_by_role("button", name="Crisp").click()
    player.get_by_role("button", name="Wipe").click()
    stage, line = player.locator(".bdp-stage"), player.get_by_role("slider", name="Where the left clip ends")
    expect(player.get_by_label("Left clip", exact=True).locator("option:checked")).to_have_text("Frame by frame")
    expect(player.get_by_label("Right clip", exact=True).locator("option:checked")).to_have_text("Bridged")
    player.get_by_label("Left clip", exact=True).select_option("Source")
    expect(line).to_have_attribute("aria-valuenow", "50")
    columns, row, size = (20, 108), 60, 128

    def in_tile(number: int) -> list[tuple[int, ...]]:
        read = f"c => {list(columns)}.map(x => [...c.getContext('2d').getImageData(x, {row}, 1, 1).data].slice(0, 3))"
        canvas = page.locator("#control-player .bdp-tile canvas").nth(number)
        return [tuple(color) for color in canvas.evaluate(read)]

    def on_stage() -> list[tuple[int, ...]]:
        picture = Image.open(io.BytesIO(stage.screenshot())).convert("RGB")
        places = [((x + 0.5) / size * picture.width, (row + 0.5) / size * picture.height) for x in columns]
        return [picture.getpixel((int(x), int(y))) for x, y in places]

    source, bridged = in_tile(2), in_tile(1)
    assert source != bridged
    assert on_stage() == [source[0], bridged[1]]
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    expect(line).to_have_attribute("aria-valuenow", "95")
    assert on_stage() == source
    line.focus()
    page.keyboard.press("Home")
    assert on_stage() == bridged
    page.keyboard.press("ArrowRight")
    expect(line).to_have_attribute("aria-valuenow", "2")
    assert frames_shown(page) == ["0"] * 4  # the arrow moved the line, and not the clips
    player.locator(".bd-player").focus()
    page.keyboard.press("ArrowRight")
    assert frames_shown(page) == ["1"] * 4
    page.keyboard.press("Home")
    line.focus()
    page.keyboard.press("End")
    assert on_stage() == source
    for view in ("Crisp", "Clips"):
        player.get_by_role("button", name=view, exact=True).click()


@pytest.mark.timeout(600)  # the longest visit, on a busy machine
@pytest.mark.parametrize(
    ("viewport", "theme", "touch"),
    [(WIDE, "light", {}), (SLIM, "dark", {"has_touch": True, "is_mobile": True})], ids=["wide", "slim"],
)  # fmt: skip
def test_every_tab_runs_fits_can_be_read_and_is_open_to_all(open_page, run, viewport, theme, touch):
    """One visitor unfolds, runs and looks at everything: by mouse with axe on a wide page, by finger on a slim one."""
    page = open_page(viewport, theme, **touch)
    page.add_style_tag(content=STILL)
    for name in ("More on the control", "Trim and shape", "More prompts", "Steps and guidance", "Advanced"):
        page.get_by_role("button", name=name).click()
    page.locator("#control-tab .bd-words summary").click()
    page.locator("#control-ratio-meaning summary").click()
    wrong = {}
    for name, title in TABS.items():
        go_to(page, title)
        page.wait_for_selector(f"#{name}-tab", state="visible")
        if name in TASKS:
            open_tab(page, name)
            generate(page, name)
            assert page.locator(f"#{name}-player .bdp-tile .bdp-label strong").all_inner_texts() == LABELS[name]
            assert page.locator(f"#{name}-seed input").input_value() == str(run.requests[-1].seed)
            assert run.requests[-1].task == name
            page.locator(f"#{name}-player").get_by_role("button", name="Wipe").click()
            expect(page.locator(f"#{name}-samples .bd-sample").first).to_be_visible()
        let_draw(page, 3)
        come_to_rest(page)
        contrast, text = page.evaluate(LOWEST_CONTRAST)
        wrong[name] = [
            *([f"{overflow(page)} pixels stand over"] if overflow(page) > 0 else []),
            *([f"contrast {contrast}: {text}"] if contrast < 4.5 else []),
            *page.evaluate(NAMELESS),
            *(page.evaluate(SMALL_TARGETS) if touch else serious(page, f"#{name}-tab" if wrong else "body")),
        ]
    assert {name: found for name, found in wrong.items() if found} == {}
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    ours = [name for name in ids if name.partition("-")[0] in TASKS]
    assert len(ours) == len(set(ours)) > 50


def serious(page: Page, within: str = "body") -> list[tuple[str, list[str]]]:
    """The violations that axe-core calls serious or worse, each with a few of the places."""
    return [
        (item["id"], [node["html"][:90] for node in item["nodes"]][:3])
        for item in Axe().run(page, context={"include": [[within]], **EXEMPT}).response["violations"]
        if item["impact"] in ("serious", "critical")
    ]


def test_clips_wrap_on_a_narrow_screen(open_page):
    page = open_page(SLIM)
    tops = page.eval_on_selector_all(
        "#control-player .bdp-tile", "all => all.map(one => one.getBoundingClientRect().top)"
    )
    assert tops[0] == tops[1] < tops[2] == tops[3]


@pytest.mark.filterwarnings("ignore:The weights")
def test_axe_finds_nothing_serious_on_a_phone_in_any_state(open_page, run):
    page = open_page(SLIM, theme="dark")
    page.add_style_tag(content=STILL)
    assert serious(page) == []
    hold = start_and_hold(page, run)
    page.wait_for_selector(".bd-jobs:not([hidden])")
    assert serious(page) == []
    page.click("#control-cancel")
    hold.let()
    page.wait_for_selector('#control-progress [data-state="stopped"]')
    assert serious(page) == []
    run.error = ModelUnavailableError("The weights are missing. Pull them first.")
    page.click("#control-generate")
    page.wait_for_selector('#control-progress [data-state="failed"]')
    assert serious(page) == []


SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (!entry.hadRecentInput) window.shifts.push([entry.value, entry.sources.map((one) => one.node?.className)]);
    }
  }).observe({ type: "layout-shift" });
}"""


@pytest.mark.parametrize("viewport", [WIDE, SLIM], ids=["wide", "slim"])
def test_nothing_moves_while_a_run_goes_on_or_when_it_ends(open_page, run, viewport):
    page = open_page(viewport, reduced_motion="no-preference")
    page.evaluate(SHIFTS)
    for _ in stages_shown(page, run):
        let_draw(page, 3)
    shows_all(page, "control")
    page.wait_for_selector(".bd-jobs[hidden]", state="attached")
    shifts = page.evaluate("window.shifts")
    assert sum(value for value, _ in shifts) < 0.01, shifts
    expect(page.locator("#control-progress .bd-headline")).to_contain_text("Done")


# The first minute of a stranger

BOX = """(selector) => {
  const box = document.querySelector(selector).getBoundingClientRect();
  return [box.top, box.bottom];
}"""
MOVES = """async (selector) => {
  const canvas = document.querySelector(selector);
  const seen = new Set();
  for (let turn = 0; turn < 400 && seen.size < 3; turn += 1) {
    seen.add(canvas.toDataURL());
    await new Promise(requestAnimationFrame);
  }
  return seen.size;
}"""


@pytest.mark.parametrize(
    "viewport", [{"width": 1280, "height": 800}, {"width": 400, "height": 850}], ids=["laptop", "phone"]
)
def test_the_first_screen_holds_generate_and_a_before_and_after_that_moves(open_page, viewport):
    page = open_page(viewport, reduced_motion="no-preference")
    for selector in ("#control-generate", "#hero .bd-hero-stage", "#hero .bd-hero-figure"):
        top, bottom = page.evaluate(BOX, selector)
        assert 0 <= top < bottom <= viewport["height"], selector
    top, bottom = page.evaluate(BOX, "#hero .bd-hero")
    assert bottom - top <= 240
    for part in (".bd-hero-stage", ".bd-hero-strips", ".bd-hero-told"):  # none stands over its card
        first, last = page.evaluate(BOX, f"#hero {part}")
        assert top < first < last < bottom, part
    first, last = page.evaluate(BOX, "#control-ratio-scale .bd-ratio-ends")
    assert last - first < 30  # in one line
    assert page.evaluate(MOVES, "#hero .bd-hero-stage canvas") >= 3
    top, _ = page.evaluate(BOX, "#control-player .bdp-tile:first-child canvas")
    assert top < viewport["height"]
    page.get_by_role("button", name="Put this away").click()
    expect(page.locator("#hero")).to_be_hidden()
    page.get_by_role("button", name="What is this?").click()
    expect(page.locator("#hero")).to_be_visible()
    page.reload()  # a later visit
    open_page.wrong.clear()  # a page that is left breaks off what it was loading, and says so
    page.wait_for_selector("#control-generate")
    expect(page.locator("#hero")).to_be_hidden()


@pytest.fixture(scope="module")
def stranger(chromium, address):
    """A page as it opens on a laptop, for tests that leave it as they found it."""
    with opening(chromium, address) as start:
        yield start({"width": 1280, "height": 800})


def test_what_every_run_needs_is_near_together_and_a_wide_screen_is_used(stranger):
    page = stranger
    parts = ("#control-samples", "#control-prompt", "#control-mixing-ratio", "#control-generate")
    tops, bottoms = zip(*(page.evaluate(BOX, part) for part in parts), strict=True)
    assert max(bottoms) - min(tops) <= 560
    page.set_viewport_size({"width": 1920, "height": 1080})
    width = "(selector) => document.querySelector(selector).getBoundingClientRect().width"
    assert page.evaluate(width, "#control-tab .bd-columns") >= 0.75 * 1920
    assert page.evaluate(width, "#control-player .is-main canvas") >= 480
    page.set_viewport_size({"width": 1280, "height": 800})


def test_who_goes_by_keyboard_sees_which_slider_is_meant(stranger):
    page = stranger
    for slider, before in {
        "#control-mixing-ratio input[type=range]": "#control-mixing-ratio .reset-button",
        "#control-player .bdp-scrubber": '#control-player [aria-label="One frame on"]',
    }.items():
        page.locator(before).focus()
        page.keyboard.press("Tab")
        expect(page.locator(slider)).to_be_focused()
        style, width = page.locator(slider).evaluate(
            "e => [getComputedStyle(e).outlineStyle, getComputedStyle(e).outlineWidth]"
        )
        assert (style, width) == ("solid", "2px"), slider


def test_what_the_ratio_does_is_shown_of_the_chosen_sample_and_without_motion_too(stranger):
    page = stranger
    fold = page.locator("#control-ratio-meaning")
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(fold.locator("figcaption")).to_have_text(
        ["0 closer to the frames", "½ between the two", "1 calmer, may drift"]
    )
    look = "all => all.map(each => each.toDataURL())"
    shown, sent = [fold.locator("canvas").evaluate_all(look)], []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    for sample in (1, 0):
        page.click(f'#control-samples [data-index="{sample}"]')
        expect(fold).to_contain_text(f"“{load_index()[sample].name}”")
        let_draw(page, 3)
        shown.append(fold.locator("canvas").evaluate_all(look))
        let_draw(page, 20)
        assert fold.locator("canvas").evaluate_all(look) == shown[-1]
    assert len({*shown[1], *shown[2]}) == 6
    assert not [each for each in sent if "data:image" in each]  # the clips are not sent back for the next
    calm = [float(told) for told in fold.locator(".bd-meaning-bar").all_inner_texts()]
    assert calm[0] > calm[1] > calm[2]
    fold.locator("summary").click()
    expect(fold.locator("canvas").first).to_be_hidden()


def test_the_heros_buttons_lead_to_its_sample_and_play_its_ratios_and_it_stands_still_where_that_is_wanted(stranger):
    page = stranger
    picture = page.locator("#hero .bd-hero-stage canvas")
    before = picture.evaluate("each => each.toDataURL()")
    let_draw(page, 30)
    assert picture.evaluate("each => each.toDataURL()") == before
    sample = page.locator('#control-samples [data-index="0"]')
    page.click('#control-samples [data-index="1"]')
    expect(sample).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Try it").click()
    expect(sample).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#control-ratio-scale .bd-ratio-mark")).to_have_count(5)
    slider = page.locator("#control-mixing-ratio input[type=range]")
    first = slider.input_value()
    slider.evaluate(
        "each => { window.ratios = []; each.addEventListener('input', () => window.ratios.push(each.value)); }"
    )
    page.clock.install()
    page.locator("#hero .bd-hero-ratio").click()
    for number in range(1, 6):
        page.wait_for_function("number => window.ratios.length === number", arg=number)
        page.clock.fast_forward(1600)
    page.wait_for_function("window.ratios.length === 6")
    assert page.evaluate("window.ratios") == ["0", "0.25", "0.5", "0.75", "1", first]


TOLD = """() => {
  window.told = "";
  const note = () => { window.told += document.querySelector(".toast-wrap")?.textContent ?? ""; };
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true });
}"""
REACHED = """(parts) => [...document.querySelectorAll(parts)].map((each) => {
  each.scrollIntoView({ block: 'nearest' });
  const { left, top, width, height } = each.getBoundingClientRect();
  return each.contains(document.elementFromPoint(left + width / 2, top + height / 2));
})"""


def test_an_empty_prompt_is_told_before_the_run_and_the_jobs_stand_over_no_control_of_the_player(stranger, run):
    page = stranger
    page.evaluate(TOLD)
    page.locator("#control-prompt textarea").fill("")
    run.before = hold = Hold("framewise")
    page.click("#control-generate")
    page.wait_for_function("window.told.includes('The prompt is empty')")
    page.add_style_tag(content=".toast-wrap { display: none; }")  # it goes by itself, later
    hold.let(1)
    page.wait_for_selector(".bd-jobs:not([hidden])")
    for size in (SLIM, {"width": 1280, "height": 800}):
        page.set_viewport_size(size)
        let_draw(page, 2)
        reached = page.evaluate(REACHED, "#control-player .bdp-transport :is(button, input, select)")
        assert reached == [True] * 7, size
    page.click("#control-cancel")
    hold.let()
    page.wait_for_selector('#control-progress [data-state="stopped"]')


def test_the_slider_plays_the_clips_of_a_sample(open_page):
    page = open_page()
    bridged = place(page, "control", "Bridged")
    expect(page.locator("#control-ratio-scale .bd-ratio-mark")).to_have_count(5)
    page.locator("#control-player .bd-player").focus()
    page.keyboard.press("Home")
    pictures = set()
    for ratio in (0, 0.25, 0.5, 0.75, 1):
        page.locator("#control-mixing-ratio input[type=range]").fill(str(ratio))
        expect(bridged.locator(".bdp-label span")).to_have_text(f"ratio {ratio:g}")
        page.wait_for_function("!document.querySelector('#control-player .bd-player').player.state().loading")
        let_draw(page, 2)
        pictures.add(bridged.locator("canvas").evaluate("canvas => canvas.toDataURL()"))
    assert len(pictures) == 5
    expect(page.locator(".bd-ratio-make").first).to_be_hidden()
    page.locator("#control-mixing-ratio input[type=range]").fill("0.6")
    expect(page.locator("#control-ratio-scale .bd-ratio-make")).to_have_text("Make ratio 0.6")


def test_a_run_at_another_ratio_joins_the_clips_of_the_one_before(open_page):
    page = open_page()
    page.locator("#control-random-seed input").uncheck()
    for ratio in ("0.25", "0.6"):
        page.locator("#control-mixing-ratio input[type=range]").fill(ratio)
        generate(page)
        expect(page.locator("#control-player .bdp-facts")).to_contain_text(ratio)
    marks = page.locator("#control-ratio-scale .bd-ratio-mark")
    expect(marks).to_have_count(2)
    marks.first.click()
    expect(place(page, "control", "Bridged").locator(".bdp-label span")).to_have_text("ratio 0.25")


def test_own_words_stay_and_the_samples_are_to_be_had(open_page):
    page = open_page()
    prompt = page.locator("#control-prompt textarea")
    prompt.fill("a green cone")
    page.click('#control-samples [data-index="1"]')
    expect(page.locator("#control-words-note")).to_contain_text(load_index()[1].prompt)
    expect(prompt).to_have_value("a green cone")
    page.click("#control-sample-words")
    expect(prompt).to_have_value(load_index()[1].prompt)
    expect(page.locator("#control-words-note")).to_be_hidden()
    prompt.fill("a red cube stands still on a blue floor at noon")
    page.locator("#control-tab .bd-words summary").click()
    for word in ("jumps", "pink"):
        page.locator("#control-tab .bd-words button", has_text=re.compile(f"^{word}$")).last.click()
    page.locator("#control-tab .bd-words button", has_text=re.compile("^night$")).click()
    expect(prompt).to_have_value("a red cube jumps on a pink floor at night")


def test_what_was_typed_is_there_after_a_reload(open_page):
    page = open_page()
    prompt = page.locator("#control-prompt textarea")
    prompt.fill("a green cone")
    open_tab(page, "edit")
    instruction = page.locator("#edit-instruction textarea")
    instruction.fill("make the cone blue")
    page.click('#edit-samples [data-index="1"]')
    page.click("#edit-sample-words")  # which takes the place of what was typed
    expect(instruction).to_have_value(load_index()[1].instruction)
    page.reload()
    open_page.wrong.clear()  # a page that is left breaks off what it was loading, and says so
    shows_all(page, "edit")  # the tab is in the address
    expect(instruction).to_have_value(load_index()[0].instruction)
    go_to(page, TITLES["control"])
    expect(prompt).to_have_value("a green cone")
    with page.expect_request(lambda request: "a green cone" in (request.post_data or "")):  # the server has it too
        page.click("#control-generate")
    page.wait_for_selector('#control-progress [data-state="done"]')
    open_tab(page, "edit")
    instruction.fill("make the cone red")
    go_to(page, TITLES["control"])
    for _ in range(2):  # in a tab that is not opened in between
        page.reload()
        shows_all(page, "control")
    open_page.wrong.clear()
    open_tab(page, "edit")
    expect(instruction).to_have_value("make the cone red")


def test_an_upload_says_what_of_it_is_used(open_page, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (20, 64, 128, 3), np.uint8)
    write_mp4(tmp_path / "mine.mp4", frames, 10)
    page = open_page()
    page.set_input_files("#control-video input[type=file]", tmp_path / "mine.mp4")
    told = page.locator("#control-footage")
    expect(told).to_contain_text("mine.mp4: 20 frames, 2.0 s at 10 fps, 128 by 64.")
    expect(told).to_contain_text("Used: 8 frames, 1 to 8, the sides cut off, at 128 by 128.")
    expect(page.locator("#control-words-note")).to_contain_text("describe the sample")
    told.get_by_role("button", name="Use all 20 frames, about 20 s").click()
    expect(told).to_contain_text("Used: 20 frames, 1 to 20")
    told.get_by_role("button", name="Start at 1.1 s").click()
    expect(told).to_contain_text("Used: 9 frames, 12 to 20")


def test_a_job_leads_to_its_tab_and_the_address_has_the_open_one(open_page, run):
    page = open_page()
    hold = start_and_hold(page, run)
    page.get_by_role("tab", name="Editing").first.click()
    assert page.evaluate("location.hash") == "#edit"
    page.locator("#queue .bd-job-title").first.click()
    expect(page.locator("#control-generate")).to_be_visible()
    page.click("#control-cancel")
    hold.let()
    page.get_by_role("tab", name="Outpainting").first.click()
    page.reload()
    open_page.wrong.clear()  # a page that is left breaks off what it was loading, and says so
    expect(page.locator("#outpaint-generate")).to_be_visible()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector('#outpaint-progress [data-state="done"]')
