"""What one takes away of a result: a film of a comparison, what a paper takes, and a link to what was published."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import partial
from zipfile import ZipFile

import gradio as gr
import numpy as np
import pytest
from fake_run import FakeRun, fake_context
from pages import LOWEST_CONTRAST, SLIM, WIDE, come_to_rest, generate, overflow, shows_all
from PIL import Image
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from bivdiff.compare.citation import BIBTEX
from bivdiff.compare.paper import FILES
from bivdiff.errors import InputError
from bivdiff.media.film import FilmOptions
from bivdiff.media.reading import read_clip
from bivdiff.studio.history import taking
from bivdiff.studio.history.runs import Runs
from tabs import compare, control, figures, films, task_tab
from tabs.door import Door
from tabs.figures import row_labels
from tabs.guard import Guard
from tabs.introduction import Introduced
from tabs.links import PublishedResults, write_published
from tabs.page import build_page, launch_options

ANNA, BORIS = "a" * 32, "b" * 32
PROMPT = 'a <b>red</b> cube "jumps"'


@pytest.fixture(scope="module")
def context():
    return fake_context(FakeRun())


@pytest.fixture(scope="module")
def compared(context):
    """A finished comparison of three ratios."""
    list(compare.compare(context, {}, None, "0, 0.5, 1", "", "", ANNA))
    return context.runs.find(ANNA)[0]


@pytest.fixture(scope="module")
def made(context):
    """A finished run."""
    values = {"sample": 1, "prompt": PROMPT, "random_seed": False, "seed": 5, "visitor": ANNA}
    list(task_tab.generate(context, control.read_job, "control", values))
    return context.runs.find(ANNA)[0]


def written_in(archive, name="figure.svg"):
    root = ET.fromstring(archive.read(name).decode())  # noqa: S314 - our own file
    return {"".join(text.itertext()).strip() for text in root.iter("{http://www.w3.org/2000/svg}text")}


# For a paper


def test_a_paper_takes_figure_caption_table_and_reference_of_a_run(context, made):
    with ZipFile(films.make_paper(context, made.id, "", "", "auto", "auto", ANNA)) as archive:
        assert set(archive.namelist()) == set(FILES.values())
        assert {"source", "frame by frame", f"bridged, ratio {made.settings['mixing_ratio']:g}"} <= written_in(archive)
        caption, table = (archive.read(name).decode() for name in ("caption.txt", "table.tex"))
        assert archive.read("bivdiff.bib").decode() == BIBTEX
    assert f"“{PROMPT}”" in caption
    assert "seed 5" in caption
    assert f"mixing ratio {made.settings['mixing_ratio']:g}" in caption
    assert f"{made.scores['framewise_excess_flicker']:.2f}" in table
    assert len(list(context.runs.folder(made.id).glob("tmp*"))) == 0


def test_a_figure_of_a_run_has_the_frames_and_rows_that_were_chosen_from_its_own(context, made):
    source, frames, bridged = figures.offer_rows(context, made.id, ANNA)["choices"]
    chosen = figures.make_chosen(context, made.id, "2, 8", [frames, bridged], "", "", ANNA)
    with ZipFile(chosen) as archive:
        texts = written_in(archive)
    assert {"frame 2", "frame 8", frames, bridged} <= texts
    assert not {source, "frame 1"} & texts
    assert figures.offer_rows(context, "", ANNA)["choices"] == []
    with pytest.raises(gr.Error, match="nothing to make a figure of yet"):
        figures.make_chosen(context, "", "", [], "auto", "auto", ANNA)


def test_a_run_has_a_contact_sheet_of_its_clips_and_a_comparison_its_own(context, made, compared):
    path, link = films.take(context, made.id, "sheet", ANNA)
    sheet = np.asarray(Image.open(path))
    tall = sheet.shape[0] // 3
    assert sheet.shape[1] == 8 * (2 * 128 + 4) + 4
    bridged = read_clip(made.files["bridged"], num_frames=8).frames
    assert np.array_equal(sheet[-4 - 256 : -4 : 2, 4:260:2], bridged[0])
    assert len({sheet[row * tall + 100, 100].tobytes() for row in range(3)}) == 3
    assert link == ""
    assert films.make_sheet(context, compared.id, ANNA) == str(compared.files["contact_sheet"])
    with pytest.raises(gr.Error, match="not in your history"):
        films.make_sheet(context, made.id, BORIS)


def test_whoever_asks_for_a_contact_sheet_is_told_that_it_is_being_made(context, made, monkeypatch):
    told = []
    monkeypatch.setattr(films, "inform", told.append)
    films.make_sheet(context, made.id, ANNA)
    assert told == ["The contact sheet is being made; it is saved in some seconds."]


def test_the_rows_that_a_comparison_offers_are_those_of_its_figure(context, compared):
    stopped = replace(compared, files={name: path for name, path in compared.files.items() if name != "cell 2"})
    assert row_labels(stopped) == ["source", "frame by frame", "ratio 0", "ratio 1"]
    path = films.make_paper(context, compared.id, "2, 8", ["frame by frame", "ratio 1"], "", "7", ANNA)
    with ZipFile(path) as archive:
        texts = written_in(archive)
    assert {"frame 2", "frame 8", "column 7 over time", "frame by frame", "ratio 1", "recommended"} <= texts
    assert "ratio 0" not in texts
    with pytest.raises(gr.Error, match="There is no clip 'ratio 7'"):
        films.make_paper(context, compared.id, "", "ratio 7", "auto", "auto", ANNA)
    with pytest.raises(gr.Error, match="not in your history"):
        films.make_paper(context, compared.id, "", "", "auto", "auto", BORIS)


def test_a_comparison_is_read_back_as_it_was(context, compared):
    result = taking.comparison(context.runs, compared)
    assert [cell.label for cell in result.cells] == ["ratio 0", "ratio 0.5", "ratio 1"]
    assert result.recommended.index == 0
    assert result.cells[1].request.mixing_ratio == 0.5
    kept = read_clip(compared.files["cell 2"], num_frames=8).frames
    assert np.array_equal(result.cells[1].frames, kept)
    compared.files["cell 2"].rename(away := compared.files["cell 2"].with_suffix(".away"))
    with pytest.raises(InputError, match="no longer all there"):
        taking.comparison(context.runs, context.runs.get(compared.id, ANNA))
    away.rename(compared.files["cell 2"])


def test_the_film_of_a_comparison_is_of_its_recommended_clip(context, compared, monkeypatch):
    shown, film_of = [], taking.film_of

    def watched(request, framewise, bridged, *others):
        shown.append((request.mixing_ratio, bridged, others[-1]))
        return film_of(request, framewise, bridged, *others)

    monkeypatch.setattr(taking, "film_of", watched)
    path = taking.film(context.runs, compared.id, ANNA, FilmOptions(shape="square", seconds=0.5, wipe=False))
    assert read_clip(path, num_frames=2).frames.shape[1:3] == (1080, 1080)
    ((ratio, bridged, levels),) = shown
    best = taking.comparison(context.runs, compared).best
    assert levels == (best.scores["excess_flicker"], best.framewise_scores["excess_flicker"])  # as the page says it
    assert ratio == 0
    assert np.array_equal(bridged, read_clip(compared.files["cell 1"], num_frames=8).frames)


# Links


@pytest.fixture(scope="module")
def visitor(context):
    """Who follows links, in front of an app that has nothing else to say."""
    app = Starlette(routes=[Route("/{rest:path}", lambda _: PlainTextResponse("the app"), methods=["GET", "POST"])])
    return TestClient(PublishedResults(app, context.runs), base_url="https://studio.example")


def publish(context, run, owner=ANNA):
    return films.switch_link(context, run.id, True, owner)


def test_a_published_result_is_a_page_of_its_own(context, made, visitor):
    link = publish(context, made)
    assert publish(context, made) == link  # the link stays what it is
    answer = visitor.get(f"/r/{link}")
    assert answer.status_code == 200
    page = answer.text
    assert "<b>red" not in page
    assert "&lt;b&gt;red" in page
    assert f'<meta property="og:url" content="https://studio.example/r/{link}">' in page
    assert f'<meta property="og:image" content="https://studio.example/r/{link}/card.jpg">' in page
    assert re.search(r'<meta property="og:description" content="Flicker at rest: [^"]+ frame by frame\.', page)
    assert f'href="../?r={link}"' in page
    assert "Seed 5" in page
    assert made.id not in page  # by which its other files would be found
    assert "%%" not in page
    assert answer.headers["cache-control"] == "no-cache"
    assert visitor.head(f"/r/{link}").status_code == 200
    clip = visitor.get(f"/r/{link}/bridged.mp4")
    assert clip.content == made.files["bridged"].read_bytes()
    picture = visitor.get(f"/r/{link}/card.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    (context.runs.folder(made.id) / "seen.jpg").write_bytes(picture.content)
    with Image.open(context.runs.folder(made.id) / "seen.jpg") as card:
        assert card.size == (1200, 630)


@pytest.mark.parametrize("path", [
    "{link}/pictures.zip", "{link}/index.html", "{link}/%2e%2e/runs.sqlite", "{link}x", "", "x" * 16, "{link}/a/b",
])  # fmt: skip
def test_nothing_else_is_found_below_it(context, made, visitor, path):
    link = publish(context, made)
    answer = visitor.get(f"/r/{path.format(link=link)}")
    assert answer.status_code == 404
    assert "There is nothing at this link" in answer.text
    assert "Nothing here" in answer.text


def test_what_is_no_link_goes_on_to_the_app(visitor):
    assert visitor.get("/").text == visitor.get("/radio").text == visitor.post("/r/x").text == "the app"


def test_the_guard_lets_readers_through_to_links_and_says_what_they_may_do(context, made):
    link = publish(context, made)
    app = PublishedResults(Starlette(), context.runs)
    guarded = TestClient(Guard(app, Door(), 2**20), base_url="http://localhost")
    answer = guarded.get(f"/r/{link}")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert guarded.head(f"/r/{link}/bridged.mp4").status_code == 200
    assert guarded.post(f"/r/{link}").status_code == 404


def test_the_studio_has_a_picture_and_tags_of_its_own(visitor):
    others = (
        '<html><head><meta charset="utf-8" />\n<meta\n property="og:image"\n content="https://else.where"\n/></head><p>'
    )
    routes = [Route("/", lambda _: HTMLResponse(others)), Route("/plain", lambda _: PlainTextResponse("og"))]
    app = Starlette(routes=routes)
    page = TestClient(Introduced(app, "/studio"), base_url="https://lab.example").get("/").text
    assert '<meta property="og:image" content="https://lab.example/studio/r/card.jpg">' in page
    assert "else.where" not in page
    assert page.endswith("</head><p>")
    whole = TestClient(Introduced(app, "https://open.example/s/")).get("/").text
    assert '<meta property="og:url" content="https://open.example/s">' in whole
    assert TestClient(Introduced(app)).get("/plain").text == "og"
    assert visitor.get("/r/card.jpg").headers["content-type"] == "image/jpeg"


def test_a_published_comparison_shows_the_frames_first_and_what_is_recommended(context, compared, visitor):
    page = visitor.get(f"/r/{publish(context, compared)}").text
    assert "Recommended: ratio 0. It " in page
    assert '"before": 1' in page
    assert '"label": "Frame by frame"' in page


def test_only_the_owner_publishes_and_switches_off_and_then_it_is_gone(context, made, visitor):
    link = publish(context, made)
    for on in (True, False):
        with pytest.raises(gr.Error, match="not in your history"):
            films.switch_link(context, made.id, on, BORIS)
    assert visitor.get(f"/r/{link}").status_code == 200
    assert films.switch_link(context, made.id, False, ANNA) == ""
    assert visitor.get(f"/r/{link}").status_code == 404
    assert context.runs.link(made.id, ANNA) == ""
    assert publish(context, made) != link


def test_a_link_goes_with_its_run(context, visitor):
    values = {"sample": 0, "prompt": "a cone", "random_seed": True, "visitor": BORIS}
    list(task_tab.generate(context, control.read_job, "control", values))
    (run,) = context.runs.find(BORIS)
    link = publish(context, run, BORIS)
    assert visitor.get(f"/r/{link}/bridged.mp4").status_code == 200
    context.runs.delete(run.id, BORIS)
    assert visitor.get(f"/r/{link}").status_code == visitor.get(f"/r/{link}/bridged.mp4").status_code == 404


def test_whoever_makes_their_own_starts_from_the_same_settings_and_pictures(context, made):
    link = publish(context, made)
    copied = context.runs.get(context.runs.copy_published(link, BORIS), BORIS)
    assert (copied.state, copied.settings) == ("dropped", made.settings)
    asked, own = (context.runs.job(run.id, run.owner)[0] for run in (made, copied))
    assert np.array_equal(asked.frames, own.frames)
    assert context.runs.copy_published(link, ANNA) == made.id  # it is there
    with pytest.raises(InputError, match="nothing at this link"):
        context.runs.copy_published("x" * 16, BORIS)


def test_a_run_without_a_result_has_nothing_to_publish(context):
    values = {"sample": 0, "prompt": "a cone", "random_seed": True}
    submission = control.read_job(context, values)
    waiting = context.runs.begin(submission.request, 8, ANNA)
    with pytest.raises(InputError, match="A link needs a result"):
        context.runs.publish(waiting, ANNA, partial(write_published, context.runs, "toybox"))
    context.runs.end(waiting, "cancelled")


def test_the_owner_of_a_studio_may_forbid_links(made):
    closed = fake_context(FakeRun(), links="no")
    with pytest.raises(gr.Error, match="does not let results be published"):
        films.switch_link(closed, made.id, True, ANNA)


def test_links_outlive_the_process(context, made):
    link = publish(context, made)
    again = Runs(context.settings)
    assert again.published(link)[0].id == made.id


@pytest.mark.browser
def test_from_a_result_to_its_link_and_back_to_the_studio(chromium):
    context = fake_context(FakeRun())
    page = build_page(context)
    options = launch_options(context.settings, runs=context.runs)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **options)
    complaints = []
    shown = chromium.new_page(viewport=SLIM, color_scheme="dark")
    shown.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    shown.goto(url)
    read = "all => all.map((one) => [one.getAttribute('property'), one.content])"
    told = dict(shown.eval_on_selector_all("head meta[property]", read))
    assert told["og:title"] == "BIVDiff Studio"
    assert "frame by frame they flicker" in told["og:description"]
    assert told["og:image"] == f"{url}r/card.jpg"
    assert shown.locator('meta[property="og:image"]').count() == 1  # of several, readers take the first
    expect(shown.locator(".bd-header a").first).to_have_attribute("href", "https://arxiv.org/abs/2312.02813")
    shows_all(shown, "control")
    generate(shown)
    shown.locator("#control-player button", has_text="Copy link").click()
    field = shown.get_by_label("Link", exact=True)
    expect(field).to_have_value(re.compile(rf"^{re.escape(url.rstrip('/'))}/r/[\w-]{{16}}$"))
    come_to_rest(shown)
    assert shown.evaluate(LOWEST_CONTRAST)[0] >= 4.5
    address = field.input_value()
    shown.get_by_role("button", name="Close", exact=True).click()
    expect(field).to_have_count(0)
    prompt, seed = (shown.locator(f"#control-{name}").input_value() for name in ("prompt textarea", "seed input"))

    other = chromium.new_context(viewport=SLIM, color_scheme="light").new_page()  # somebody else
    other.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    other.goto(address)
    expect(other.locator("h1")).to_have_text(prompt)
    expect(other.locator(".bdp-tile canvas[data-frame]")).to_have_count(4)
    assert overflow(other) <= 0
    contrast, text = other.evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, text
    other.get_by_role("link", name="Make your own from this").click()
    expect(other.locator("#control-prompt textarea")).to_have_value(prompt)
    expect(other.locator("#control-seed input")).to_have_value(seed)
    assert "?r=" not in other.url  # a reload begins anew
    other.context.close()
    shown.close()
    page.close()
    assert complaints == []


@pytest.mark.browser
def test_a_figure_is_of_the_run_that_is_shown_also_after_a_preview_and_over_the_next_run(chromium):
    page = build_page(fake_context(FakeRun()))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    shown = chromium.new_page(viewport=WIDE)
    shown.goto(url)
    shows_all(shown, "control")
    fold, rows = shown.locator("#control-figure"), shown.locator("#control-figure-rows label")
    expect(fold).to_be_hidden()  # of an example there is no figure
    generate(shown)
    expect(fold).to_be_visible()
    shown.locator("#control-type").get_by_text("Depth").click()
    expect(shown.locator("#control-player .bdp-facts")).to_contain_text("Before your last change")
    fold.locator("button").first.click()
    expect(rows).to_have_count(3)
    with shown.expect_download() as saved:
        shown.locator("#control-figure-make").click()
    assert saved.value.suggested_filename.endswith(".zip")
    shown.locator("#control-mixing-ratio input[type=number]").fill("0.3")
    shown.locator("#control-mixing-ratio input[type=number]").press("Tab")
    generate(shown)
    expect(rows.last).to_have_text("bridged, ratio 0.3")
    shown.click("#control-compare")
    shown.wait_for_selector('#compare-progress [data-state="done"]')
    expect(shown.locator("#compare-figure")).to_be_visible()
    shown.close()
    page.close()
