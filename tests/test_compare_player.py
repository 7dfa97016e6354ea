"""The comparison player: its value, the plain file opened from disk, and the component on a page of Gradio."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from pages import LOWEST_CONTRAST, SLIM, WIDE, let_draw, overflow
from PIL import Image
from playwright.sync_api import Page, expect
from sheets import cut_up

from bivdiff.compare.player import FOLDER, PARTS, player_script, player_style
from bivdiff.media.heat import heat_picture
from bivdiff.media.reading import read_clip
from bivdiff.toybox.clips import load_index
from tabs.widgets.bundle import FOLDER as WIDGETS
from tabs.widgets.bundle import STYLES, page_head
from tabs.widgets.player import ComparedClip, clip_player, comparison_value

PATIENCE = 120_000  # milliseconds the page may take on a busy machine
COUNT, SIZE, FPS = 8, 64, 8
STEP = 30  # levels of red from one frame to the next
# As it is written into an export, except for its colours.
PLAIN = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Comparison</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style>
<style>:root {{ color-scheme: light dark; }} body {{ background: light-dark(#fffdfa, #1c1d22); }}</style></head>
<body><div id="player" class="bd-player"></div><p>Notes <input id="field"></p>
<script type="application/json" id="data">{data}</script><script>{script}
window.chosen = [];
window.player = bdStudio.mountPlayer(document.getElementById("player"),
  JSON.parse(document.getElementById("data").textContent), {{ onChoose: (index) => window.chosen.push(index) }});
</script></body></html>"""
# Of every cell the frame that its canvas shows, told from the colour in its middle, and what the player says it shows.
SHOWN = """player => {
  const shown = [...document.querySelectorAll('.bdp-tile:not(.is-empty) canvas')].map((canvas) => {
    const [red] = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data;
    return red / 30;
  });
  return [shown, player.state().frame];
}"""
PIXELS = "all => all.map(c => [...c.getContext('2d').getImageData(9, 9, 1, 1).data].slice(0, 3))"
CANVASES = ".bdp-tile:not(.is-empty) canvas"


def clip(green: int = 0, blue: int = 0, count: int = COUNT) -> np.ndarray:
    """Frames of one colour each, whose red is the frame's number times `STEP`."""
    frames = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    frames[..., 0] = (STEP * np.arange(count))[:, None, None]
    frames[..., 1:] = green, blue
    return frames


def cells(number: int, waiting: tuple[int, ...] = ()) -> list[ComparedClip]:
    return [
        ComparedClip(f"{index / 10}", None if index in waiting else clip(20 * index), pending=index in waiting,
             scores={"Flicker": 2.5 + index})
        for index in range(number)
    ]  # fmt: skip


def write_page(folder: Path, value: dict) -> str:
    path = folder / "comparison.html"
    # A "</script>" in a label must not end the data.
    path.write_text(
        PLAIN.format(css=player_style(), script=player_script(), data=json.dumps(value).replace("<", "\\u003c")),
        "utf-8",
    )
    return path.as_uri()


def in_a_file(cells: list[ComparedClip], fps: float, **marks) -> dict:
    """The player's value with the pictures inside, as a page that is opened from disk has them."""
    value = comparison_value(cells, fps, **marks)
    for shown, cell in zip(value["tiles"], [*marks.get("befores", ()), *cells], strict=True):
        shown["sheet"] = cell.sheet
        shown["heat"] = None if cell.heat is None else heat_picture(cell.heat, (cell.rest or {}).get("level"))
    return value


@pytest.fixture
def watched(chromium):
    """New pages; at the end holds that nothing was wrong on the console or fetched from elsewhere."""
    wrong, contexts = [], []

    def start(viewport=WIDE, home="file:", reduced_motion="no-preference", **options) -> Page:
        context = chromium.new_context(viewport=viewport, reduced_motion=reduced_motion, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if _elsewhere(request.url, home) else None)
        return page

    yield start
    for context in contexts:
        context.close()
    assert wrong == []


def _elsewhere(url: str, home: str) -> bool:
    return not url.startswith((home, "data:", "blob:"))


@pytest.fixture
def open_file(watched, tmp_path):
    def start(value: dict | None = None, **options) -> Page:
        value = value or in_a_file(cells(3), FPS)
        page = watched(**options)
        page.goto(write_page(tmp_path, value))
        ready(page, sum(cell["sheet"] is not None for cell in value["tiles"]))
        return page

    return start


def ready(page: Page, number: int) -> None:
    page.evaluate("() => new Promise(requestAnimationFrame)")  # what was asked for is drawn at the player's next turn
    page.wait_for_function(
        "number => player.state().drawn.filter((frame) => frame !== null).length === number", arg=number
    )


def state(page: Page) -> dict:
    return page.evaluate("player.state()")


def shown(page: Page) -> tuple[list[float], int]:
    """What the canvases show and what the player says, read in one turn of the page."""
    pictures, frame = page.evaluate(f"({SHOWN})(player)")
    return pictures, frame


def assert_in_step(page: Page, number: int, frame: int | None = None) -> int:
    pictures, told = shown(page)
    assert pictures == [told] * number
    assert frame is None or told == frame
    return told


def drag(page: Page, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    box = page.locator(selector).bounding_box()
    page.mouse.move(box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + end[0] * box["width"], box["y"] + end[1] * box["height"], steps=5)
    page.mouse.up()


# The value


def test_a_value_says_all_about_its_cells():
    cell = ComparedClip("0.5", clip(count=5), "slerp", scores={"PSNR": float("inf"), "Flicker": np.float32(2.5)})
    value = in_a_file([cell, ComparedClip("1", pending=True, note="Waits")], 12.5, recommended=0, paper=1)
    picture = value["tiles"][0].pop("sheet")
    assert value == {
        "fps": 12.5, "numFrames": 5, "recommended": 0, "paper": 1, "before": 0, "downloads": [],
        "tiles": [
            {"label": "0.5", "sublabel": "slerp", "pending": False, "note": "", "tone": "", "best": [], "rest": None,
             "heat": None, "scores": {"PSNR": None, "Flicker": 2.5}},
            {"label": "1", "sublabel": "", "pending": True, "note": "Waits", "tone": "", "best": [], "rest": None,
             "heat": None, "scores": {}, "sheet": None},
        ],
    }  # fmt: skip
    shifted = comparison_value([cell], 8, recommended=0, befores=[ComparedClip("Frame by frame", clip())])
    assert (shifted["recommended"], shifted["paper"], shifted["before"]) == (1, None, 1)
    assert [one["label"] for one in shifted["tiles"]] == ["Frame by frame", "0.5"]
    assert (picture["width"], picture["height"], picture["columns"], picture["count"]) == (SIZE, SIZE, 3, 5)
    assert cut_up(picture)[4, 1, 1].tolist() == [4 * STEP, 0, 0]
    json.dumps(value, allow_nan=False)


def test_frames_are_encoded_once_and_served_from_a_file():
    frames = read_clip(load_index()[0].file).frames
    first = ComparedClip("0", frames)
    value = comparison_value([first], 8)
    assert comparison_value([first, ComparedClip("1")], 8)["tiles"][0]["sheet"] is value["tiles"][0]["sheet"]
    source = value["tiles"][0]["sheet"]["src"]
    with Image.open(source["path"]) as picture:
        assert picture.size == (3 * frames.shape[2], 3 * frames.shape[1])
    assert comparison_value([ComparedClip("again", frames)], 8)["tiles"][0]["sheet"]["src"]["path"] == source["path"]
    assert len(json.dumps(comparison_value([ComparedClip(str(index), frames) for index in range(12)], 8))) < 10_000


# One clock


@pytest.mark.browser
def test_all_cells_show_the_same_frame_at_any_instant(open_file):
    page = open_file(in_a_file(cells(12), FPS))
    seen = set()
    while len(seen) < 5:
        seen.add(assert_in_step(page, 12))
    page.get_by_label("Playback speed").select_option("0.5")
    assert state(page)["speed"] == 0.5
    seen = set()
    while len(seen) < 3:
        seen.add(assert_in_step(page, 12))
    page.get_by_role("button", name="Pause").click()
    held = assert_in_step(page, 12)
    let_draw(page, 30)
    assert_in_step(page, 12, held)
    page.get_by_label("Frame", exact=True).fill("5")
    assert_in_step(page, 12, 5)
    page.get_by_label("One frame on").click()
    assert_in_step(page, 12, 6)
    page.get_by_label("One frame back").click()
    assert_in_step(page, 12, 5)


@pytest.mark.browser
def test_twelve_clips_of_512_pixels_leave_no_frame_out(watched, tmp_path):
    frames = read_clip(load_index()[0].file, num_frames=COUNT, size=(512, 512)).frames
    frames[:, 240:272, 240:272] = clip()[:, :32, :32]
    pair = [ComparedClip("one", frames), ComparedClip("other", frames[:, :, ::-1])]
    page = watched()
    page.clock.install(time=0)
    page.goto(write_page(tmp_path, in_a_file(pair * 6, FPS)))
    ready(page, 12)
    page.clock.pause_at(60_000)
    page.evaluate("player.seek(0), player.play(true)")
    seen = [assert_in_step(page, 12)]
    for _ in range(100):
        page.clock.run_for(20)
        seen.append(assert_in_step(page, 12))
    changes = [after - before for before, after in pairwise(seen) if after != before]
    assert {change % COUNT for change in changes} == {1}
    assert len(changes) in {15, 16}  # two seconds at 8 frames per second, the last of which may be about to come


@pytest.mark.browser
def test_without_the_loop_it_stops_at_the_last_frame(open_file):
    page = open_file()
    page.get_by_label("Playback speed").select_option("2")
    page.get_by_label("Play again and again").click()
    page.wait_for_function("!player.state().playing")
    assert_in_step(page, 3, COUNT - 1)
    page.get_by_role("button", name="Play", exact=True).click()  # from the start, since it stands at the end
    page.wait_for_function("!player.state().playing")
    assert_in_step(page, 3, COUNT - 1)
    page.get_by_label("Play again and again").click()
    page.get_by_role("button", name="Play", exact=True).click()
    for _ in range(2):
        page.wait_for_function("player.state().frame > 4")
        page.wait_for_function("player.state().frame < 3")
    assert state(page)["playing"]


@pytest.mark.browser
def test_nothing_drifts_in_an_hour(watched, tmp_path):
    page = watched()
    page.clock.install(time=0)
    page.goto(write_page(tmp_path, in_a_file(cells(2), 7.3)))
    ready(page, 2)
    page.clock.pause_at(60_000)
    page.evaluate("player.seek(0), player.play(true), window.began = performance.now()")
    for leap in (100, 33_333, 3_600_000, 777):
        page.clock.fast_forward(leap)
        page.clock.run_for(40)
        passed = page.evaluate("performance.now() - window.began")
        frame = assert_in_step(page, 2)
        # An animation frame may have come up to 20 ms before.
        assert frame in {int(at / 1000 * 7.3) % COUNT for at in (passed, passed - 20)}


@pytest.mark.browser
def test_who_wants_no_motion_gets_none(open_file):
    page = open_file(reduced_motion="reduce")
    let_draw(page, 30)
    assert_in_step(page, 3, 0)
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("player.state().frame > 0")


@pytest.mark.browser
def test_a_finished_cell_changes_nothing_else(open_file):
    begun, done = (cells(4, waiting) for waiting in ((1, 3), ()))
    kept = [done[index] if index in (1, 3) else cell for index, cell in enumerate(begun)]
    page = open_file(in_a_file(begun, FPS))
    expect(page.locator(".is-pending .bdp-note")).to_have_text(["Being made"] * 2)
    page.get_by_label("Choose 0.2").click()
    page.get_by_label("Zoom in, all clips").click()
    page.get_by_label("Playback speed").select_option("0.25")
    page.evaluate("player.seek(2), player.play(true)")
    before = state(page)
    page.evaluate("value => player.update(value)", in_a_file(kept, FPS))
    ready(page, 4)
    after = state(page)
    assert 2 <= after["frame"] <= 4
    assert after["ready"] == [True] * 4
    for name in ("playing", "speed", "chosen", "zoom", "view"):
        assert after[name] == before[name], name
    assert after["chosen"] == 2
    assert_in_step(page, 4)
    # Another comparison: what was chosen is gone.
    page.evaluate("value => player.update(value)", in_a_file([ComparedClip("a", clip()), ComparedClip("b")], FPS))
    ready(page, 1)
    assert state(page)["chosen"] is None


# Views


@pytest.mark.browser
def test_the_difference_of_equal_clips_is_black(open_file):
    same = [
        ComparedClip("a", clip(40, 9)),
        ComparedClip("b", clip(40, 9)),
        ComparedClip("c", clip(50, 9)),
        ComparedClip("d", clip(120, 9, count=5)),
    ]
    page = open_file(in_a_file(same, FPS))
    page.evaluate("player.seek(3)")
    page.get_by_role("button", name="Difference").click()
    ready(page, 4)
    expect(page.locator(".bdp-legend")).to_contain_text("“a”")
    expect(page.locator(".bdp-badge.is-reference")).to_have_count(1)
    colors = page.eval_on_selector_all(CANVASES, PIXELS)
    assert colors == [[3 * STEP, 40, 9], [0, 0, 0], [0, 40, 0], [0, 255, 0]]
    page.get_by_label("Amplified").select_option("1")
    page.get_by_label("Compared with").select_option("3")
    ready(page, 4)
    assert page.eval_on_selector_all(CANVASES, PIXELS) == [[0, 80, 0], [0, 80, 0], [0, 70, 0], [3 * STEP, 120, 9]]
    page.get_by_role("button", name="Clips", exact=True).click()
    ready(page, 4)
    assert_in_step(page, 4, 3)


@pytest.mark.browser
def test_the_heat_map_shows_where_a_clip_flickers_at_rest(open_file):
    half = np.zeros((SIZE, SIZE), np.float32)
    half[:, : SIZE // 2] = 24
    still = ComparedClip("still", clip(), heat=np.zeros_like(half), rest={"level": 0, "before": 12, "words": "none"})
    part_of = ComparedClip("part", clip(9), heat=half, rest={"level": 12, "before": 12, "words": "as much"})
    plain = ComparedClip("source", clip(20))
    page = open_file(in_a_file([still, part_of, plain], FPS))
    page.get_by_role("button", name="Flicker", exact=True).click()
    expect(page.locator(".bdp-mean")).to_have_text(["flicker at rest 0", "flicker at rest 12", ""])
    expect(page.locator(".bdp-scale")).to_have_text("024")
    expect(page.locator(".bdp-legend")).to_contain_text("Black is as still as the source")
    ready(page, 3)
    read = "all => all.map(c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join())"
    empty, mapped, shown_as_it_is = (
        np.array(text.split(","), int).reshape(SIZE, SIZE, 4) for text in page.eval_on_selector_all(CANVASES, read)
    )
    assert not empty[..., :3].any()
    assert not mapped[:, SIZE // 2 + 4 :, :3].any()
    assert mapped[:, : SIZE // 2 - 4, :3].min() > 100
    assert shown_as_it_is[0, 0, 1] == 20


@pytest.mark.browser
def test_without_a_heat_map_there_is_no_such_view(open_file):
    page = open_file()
    expect(page.get_by_role("button", name="Flicker", exact=True)).to_be_disabled()


@pytest.mark.browser
def test_what_the_clips_were_made_of_comes_first_and_is_no_choice(open_file):
    rest = {"level": 1.5, "before": 6, "words": "75% less than frame by frame"}
    first = ComparedClip("Frame by frame", clip(), tone="image", rest={"level": 6, "before": 6, "words": "as much"})
    made = [
        ComparedClip("ratio 0", clip(90), scores={"Sharpness": "99%"}, rest={**rest, "level": 3}),
        ComparedClip("ratio 1", clip(200), scores={"Sharpness": "97%"}, rest=rest),
        ComparedClip("ratio 2", clip(40)),
    ]
    best = [(), ("Flicker at rest",), ()]
    page = open_file(in_a_file(made, FPS, recommended=1, best=best, befores=[first]))
    expect(page.locator(".bdp-tile .bdp-choose:visible")).to_have_count(3)
    page.locator(".bdp-picture").first.click(position={"x": 90, "y": 90})
    assert state(page)["chosen"] is None
    page.get_by_label("Choose ratio 1").click()
    chosen = page.get_by_role("button", name="ratio 1, chosen")
    chosen.hover()
    assert page.evaluate("window.chosen") == [2]
    contrast, text = page.evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, text
    bars = page.locator(".bdp-tile").nth(2).locator(".bdp-restbar")
    expect(bars).to_have_text(["6", "1.5"])
    widths = [bar.evaluate("bar => parseFloat(getComputedStyle(bar, '::before').width)") for bar in bars.all()]
    assert widths[1] / widths[0] == pytest.approx(0.25, abs=0.02)
    expect(page.locator(".bdp-tile").nth(2).locator(".bdp-rest p")).to_contain_text("75% less than frame by frame")
    expect(page.locator(".bdp-best")).to_have_text(["best"])
    expect(page.locator(".bdp-tile").first.locator(".bdp-restbar")).to_have_count(1)
    page.get_by_role("button", name="Wipe").click()
    assert state(page)["wipe"] == {"left": 0, "right": 2, "share": 0.5}


@pytest.mark.browser
def test_the_wipe_follows_mouse_and_keys(open_file):
    page = open_file(
        in_a_file([ComparedClip("red", clip()), ComparedClip("mid", clip(90)), ComparedClip("green", clip(200))], FPS)
    )
    page.evaluate("player.seek(0)")
    page.get_by_role("button", name="Wipe").click()
    line = page.get_by_role("slider", name="Where the left clip ends")
    assert state(page)["wipe"] == {"left": 0, "right": 2, "share": 0.5}

    def colors() -> list[int]:
        picture = Image.open(io.BytesIO(page.locator(".bdp-stage").screenshot())).convert("RGB")
        return [
            picture.getpixel((int(share * picture.width), picture.height // 3))[1] for share in (0.1, 0.4, 0.6, 0.9)
        ]

    assert colors() == [0, 0, 200, 200]
    drag(page, ".bdp-stage", (0.5, 0.5), (0.8, 0.5))
    expect(line).to_have_attribute("aria-valuenow", "80")
    assert colors() == [0, 0, 0, 200]
    page.get_by_label("Right clip", exact=True).select_option("1")
    line.focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelectorAll('.bdp-stage canvas')[0].width > 0")
    let_draw(page, 2)
    assert colors() == [90] * 4
    page.keyboard.press("ArrowRight")
    expect(line).to_have_attribute("aria-valuenow", "2")
    assert state(page)["frame"] == 0  # the arrow moved the line, and not the clips
    expect(page.locator(".bdp-stage .bdp-label")).to_have_text(["mid", "red"])


@pytest.mark.browser
def test_the_transport_stays_in_sight_over_the_clips_and_never_over_what_stands_above_them(open_file):
    page = open_file(viewport={"width": 1280, "height": 400})
    page.evaluate("document.querySelector('.bd-player').style.marginTop = '320px'")
    box = "selector => document.querySelector(selector).getBoundingClientRect().toJSON()"
    views, transport = page.evaluate(box, ".bdp-views"), page.evaluate(box, ".bdp-transport")
    assert transport["top"] >= views["bottom"]
    page.evaluate("scrollTo(0, 200)")
    transport = page.evaluate(box, ".bdp-transport")
    assert transport["bottom"] <= 400 < page.evaluate(box, ".bdp-grid")["bottom"]


@pytest.mark.browser
def test_zoom_is_the_same_for_all(open_file):
    page = open_file()
    looks = "all => all.map(c => getComputedStyle(c).transform)"
    page.locator(".bdp-picture").first.hover(position={"x": 30, "y": 200})
    page.mouse.wheel(0, -300)
    assert state(page)["zoom"]["z"] == 1  # who only scrolls past is not held up
    page.locator(".bd-player").focus()
    page.mouse.wheel(0, -500)
    page.wait_for_function("player.state().zoom.z > 1.5")
    drag(page, ".bdp-tile:nth-child(2) .bdp-picture", (0.5, 0.5), (0.3, 0.4))
    zoom = state(page)["zoom"]
    assert zoom["x"] > 0
    assert state(page)["chosen"] is None
    assert len(set(page.eval_on_selector_all(CANVASES, looks))) == 1
    page.keyboard.press("Shift+ArrowRight")
    assert state(page)["zoom"]["x"] > zoom["x"]
    page.locator(".bdp-picture").first.dblclick()
    assert state(page)["zoom"] == {"z": 1, "x": 0, "y": 0}
    page.keyboard.press("+")
    expect(page.get_by_label("Show whole pictures")).to_have_text("150%")
    page.keyboard.press("0")
    expect(page.get_by_label("Show whole pictures")).to_have_text("100%")


# Keys, fingers, choice


@pytest.mark.browser
def test_keys(open_file):
    page = open_file(in_a_file(cells(5), FPS))
    page.locator(".bd-player").focus()
    page.keyboard.press("Home")
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 7), ("ArrowRight", 0)):
        page.keyboard.press(key)
        assert_in_step(page, 5, frame)
    page.keyboard.press(" ")
    assert state(page)["playing"]
    page.keyboard.press("3")
    assert page.locator(".bdp-tile:visible .bdp-label").all_inner_texts() == ["0.2"]
    wide = page.locator(".bdp-tile:visible .bdp-picture").bounding_box()["width"]
    page.keyboard.press("PageDown")
    assert page.locator(".bdp-tile:visible .bdp-label").all_inner_texts() == ["0.3"]
    page.keyboard.press("9")  # there is none
    page.keyboard.press("Escape")
    expect(page.locator(".bdp-tile:visible")).to_have_count(5)
    assert wide > 2 * page.locator(".bdp-picture").first.bounding_box()["width"]
    assert_in_step(page, 5)


@pytest.mark.browser
def test_keys_are_heard_where_one_points_and_never_while_typing(open_file):
    page = open_file()
    page.evaluate("player.seek(4)")
    page.locator("#field").focus()
    page.locator(".bdp-picture").first.hover()
    page.keyboard.type("1 2")
    page.keyboard.press("ArrowLeft")
    after = state(page)
    assert (after["frame"], after["focused"], after["playing"]) == (4, False, False)
    assert page.input_value("#field") == "1 2"
    page.locator("#field").blur()
    page.keyboard.press("ArrowLeft")
    assert_in_step(page, 3, 3)
    page.mouse.move(5, 890)
    page.keyboard.press("ArrowLeft")
    assert_in_step(page, 3, 3)


@pytest.mark.browser
def test_a_finger_turns_the_clips_over_on_a_phone(open_file):
    page = open_file(in_a_file(cells(4), FPS, paper=2), viewport=SLIM, has_touch=True, is_mobile=True)
    touch = page.context.new_cdp_session(page)

    def swipe(by: float) -> None:
        box = page.locator(".bdp-tile:visible .bdp-picture").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for name, share in (("touchStart", 0), ("touchMove", 0.5), ("touchMove", 1), ("touchEnd", None)):
            points = [] if share is None else [{"x": x + share * by, "y": y}]
            touch.send("Input.dispatchTouchEvent", {"type": f"{name}", "touchPoints": points})

    label = page.locator(".bdp-tile:visible .bdp-label")
    assert overflow(page) <= 0
    expect(label).to_have_text("0.0")
    for by, text in ((-120, "0.1"), (-120, "0.2"), (120, "0.1"), (-15, "0.1"), (120, "0.0"), (120, "0.0")):
        swipe(by)
        expect(label).to_have_text(text)
    page.get_by_label("Show 0.2").click()
    expect(label).to_have_text("0.2")
    expect(page.locator(".bdp-tile:visible .is-paper")).to_have_text("The paper's")
    assert_in_step(page, 4)


@pytest.mark.browser
def test_a_click_chooses_and_nothing_is_markup(open_file):
    named = [
        ComparedClip("<b>0</b></script>", clip()),
        ComparedClip("1", clip(9), "<i>all</i>"),
        ComparedClip("2", note="<u>none</u>"),
    ]
    page = open_file(in_a_file(named, FPS, recommended=1))
    assert page.locator(".bdp-label strong").first.inner_text() == "<b>0</b></script>"
    assert page.locator(".bd-player :is(b, i, u)").count() == 0
    page.locator(".bdp-picture").nth(1).click(position={"x": 90, "y": 90})
    page.locator(".bdp-picture").nth(2).click()  # is not there yet
    assert page.evaluate("window.chosen") == [1]
    expect(page.locator(".is-chosen")).to_have_count(1)
    expect(page.get_by_role("button", name="1, <i>all</i>, chosen")).to_have_attribute("aria-pressed", "true")


@pytest.mark.browser
@pytest.mark.parametrize(("viewport", "theme"), [(WIDE, "dark"), (SLIM, "light")], ids=["wide", "slim"])
def test_everything_fits_has_a_name_and_can_be_read(open_file, viewport, theme):
    frames = [read_clip(sample.file).frames for sample in load_index()[:5]]
    cells = [
        ComparedClip(
            f"{i / 4:g}",
            f,
            "a rather long sublabel",
            scores={"Sharpness": "98%"},
            heat=np.ones(f.shape[1:3], np.float32),
            rest={"level": i, "before": 5, "words": "less than frame by frame"},
        )
        for i, f in enumerate(frames)
    ]
    shown, best = [*cells, ComparedClip("wait", pending=True)], [*[("Sharpness", "Flicker at rest")] * len(cells), ()]
    value = in_a_file(shown, 8, recommended=1, paper=2, best=best)
    page = open_file(value, viewport=viewport, color_scheme=theme)
    page.get_by_role("button", name="Keys").click()
    for view in ("Wipe", "Difference", "Flicker", "Clips"):
        page.get_by_role("button", name=view, exact=True).click()
        assert overflow(page) <= 0
        contrast, text = page.evaluate(LOWEST_CONTRAST)
        assert contrast >= 4.5, (view, text)
    assert (
        page.evaluate("""() => [...document.querySelectorAll('.bd-player :is(button, input, select)')]
      .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim())).map((one) => one.outerHTML)
    """)
        == []
    )


# On a page of Gradio


@pytest.fixture(scope="module")
def address():
    begun, done = cells(3, waiting=(1,)), cells(3)
    with gr.Blocks(analytics_enabled=False) as page:
        player = clip_player(comparison_value(begun, FPS, paper=2), "choice", elem_id="compare")
        said, used = gr.Textbox(elem_id="said"), gr.Textbox(elem_id="used")
        more, use = gr.Button("More", elem_id="more"), gr.Button("Use this", elem_id="use")

        def tell(event: gr.EventData) -> str:
            return str(event.index)

        player.pick(tell, None, said)
        more.click(lambda: comparison_value([begun[0], done[1], begun[2]], FPS, recommended=1, paper=2), None, player)
        use.click(lambda value: str(value.get("chosen")), player, used)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, footer_links=[], ssr_mode=False, head=page_head())
    yield url
    page.close()


@pytest.mark.browser
def test_it_works_on_a_page_of_gradio(watched, address):
    page = watched(home=address, color_scheme="dark")
    page.goto(f"{address}?__theme=light")
    page.wait_for_selector("#compare .bdp-transport")
    page.evaluate("window.player = document.querySelector('#compare .bd-player').player")
    ready(page, 2)
    assert_in_step(page, 2)
    page.locator("#compare .bdp-picture").nth(2).click()
    expect(page.locator("#said textarea, #said input")).to_have_value("2")
    page.get_by_label("Zoom in, all clips").click()
    page.evaluate("player.setSpeed(0.25), player.seek(3), player.play(true)")
    page.click("#more")
    ready(page, 3)
    after = state(page)
    assert (after["chosen"], after["playing"], after["zoom"]["z"]) == (2, True, 1.5)
    assert after["frame"] >= 3
    assert_in_step(page, 3)
    expect(page.locator("#compare .bdp-badge.is-recommended")).to_have_text("Recommended")
    page.click("#use")
    expect(page.locator("#used textarea, #used input")).to_have_value("2")
    # The page's own theme counts, not what the system prefers.
    scheme = "root => getComputedStyle(root).colorScheme"
    assert page.eval_on_selector(".bd-player", scheme) == "light"
    page.evaluate("document.body.classList.add('dark')")
    assert page.eval_on_selector(".bd-player", scheme) == "dark"


# Its files


def test_every_file_of_the_player_is_part_of_it():
    assert sorted(path.stem for path in FOLDER.glob("*.js")) == sorted(PARTS)


def test_the_styles_of_all_widgets_are_on_the_page():
    assert sorted(path.stem for path in WIDGETS.glob("*.css")) == sorted(STYLES)
    head = page_head()
    assert all(path.read_text("utf-8") in head for path in WIDGETS.glob("*.css"))
    assert player_style() in head
