"""The tab "Models": its handlers, its doors to the real models, a client, and the page in a browser."""

from __future__ import annotations

import threading
import time

import pytest
from fake_models import FakeModels
from fake_run import FakeRun, fake_context
from gradio_client import Client
from pages import LOWEST_CONTRAST, SLIM, WIDE, come_to_rest, go_to, overflow
from playwright.sync_api import Page, expect

from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import hub
from bivdiff.settings import ASSETS, Settings
from tabs import failures, models
from tabs.context import AppContext
from tabs.page import build_page, launch_options

PATIENCE = 120  # seconds a thread or the page may take on a busy machine
HASTE = 0.5  # seconds between two readings of the memory


def values(model: str = "toybox/unet", **changes):
    return {"family": "", "search": "", "model": model, **changes}


def shown(view):
    """The parts of a view that change."""
    return {name: part for name, part in view._asdict().items() if not (isinstance(part, dict) and "__type__" in part)}


def can_press(view):
    """The buttons of a view that can be pressed."""
    parts = view._asdict()
    return {name for name in ("pull", "stop", "load", "unload", "unload_all") if parts[name].get("interactive")}


@pytest.fixture
def fake():
    return FakeModels()


@pytest.fixture
def context(fake):
    return fake_context(FakeRun(), fake)


# What is shown


def test_the_list_has_every_model_and_the_chosen_one(context):
    view = models.look(context, values("sd15/zeroscope"))
    rows = {row["key"]: row for row in view.rows["rows"]}
    assert view.rows["chosen"] == "sd15/zeroscope"
    assert view.rows["note"] == f"{len(rows)} of {len(rows)} models"
    assert rows["toybox/unet"]["state"] == "on disk"
    assert rows["sd15/zeroscope"] == {
        "key": "sd15/zeroscope", "kind": "video model", "state": "absent", "size": "2.82 GB",
        "native": "576 x 320, 24 frames", "licence": "cc-by-nc-4.0", "non_commercial": True,
    }  # fmt: skip
    assert rows["sd15/scheduler"]["size"] == "size unknown"
    assert "bytes from the number of parameters" in view.details
    assert "non-commercial" in view.details


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"family": "toybox", "search": "control canny"}, ["toybox/controlnet-canny"]),
        ({"search": "NOISE toybox"}, ["toybox/scheduler"]),
        ({"search": "cc-by-nc zeroscope unet"}, ["sd15/zeroscope"]),
        ({"search": "dragon"}, []),
    ],
)
def test_filters_leave_what_they_name(context, changes, keys):
    rows = models.look(context, values(**changes)).rows
    assert [row["key"] for row in rows["rows"]] == keys
    assert rows["note"].startswith(f"{len(keys)} of ") if keys else "Take some away" in rows["note"]


def test_buttons_are_for_what_can_be_done(context, fake):
    assert can_press(models.look(context, values("sd15/unet"))) == {"pull"}
    assert can_press(models.look(context, values("toybox/unet"))) == {"load"}
    fake.loaded = ["toybox/unet"]
    assert can_press(models.look(context, values("toybox/unet"))) == {"unload", "unload_all"}
    assert can_press(models.look(context, values(model=None))) == {"unload_all"}


def test_what_users_may_have_written_is_no_markup(context, fake, monkeypatch):
    entry = fake.inventory()[0]
    object.__setattr__(entry, "licence", "<script>")
    monkeypatch.setattr(fake, "inventory", lambda: [entry])
    assert "&lt;script&gt;" in models.look(context, values(entry.key)).details


def test_the_memory_is_told_in_bars_and_words(context, fake):
    fake.loaded = ["toybox/unet", "toybox/vae"]
    view = models.refresh(context, values())
    assert set(shown(view)) == {"rows", "readout"}
    for part in (
        "The device: cuda:0", "2 GB used, 6 GB free of 8 GB; models may take 7 GB", "--share: 25.0%", "This machine",
        "8 GB used, 24 GB free of 32 GB; models may take 20 GB", "model: each model comes to the device for its stage",
        "<dd>toybox/unet</dd>", "<dd>toybox/vae</dd>", "1 GB in 0.50 s, 2 GB/s",
    ):  # fmt: skip
        assert part in view.readout


def test_opening_shows_the_list_before_the_memory(context):
    first, second = models.open_tab(context, values())
    assert set(shown(first)) == {"rows", "details"}
    assert "readout" in shown(second)


# What is done


def test_a_pull_tells_how_far_it_is(context, fake):
    first, *between, last = models.pull(context, values("sd15/unet"))
    assert can_press(first) == {"stop"}
    assert first.panel["headline"] == "Pulling sd15/unet"
    shares = [view.panel["stages"][0]["percent"] for view in between]
    assert shares == [10 * number for number in range(10)]
    assert between[3].panel["detail"].startswith("3 GB of 10 GB, ")
    assert between[3].panel["remaining"] > 0
    assert last.panel["state"] == "done"
    assert fake.pulled == ["sd15/unet"]
    assert can_press(last) == {"load"}


def test_closing_a_pull_stops_it(context, fake):
    views = models.pull(context, values("sd15/unet"))
    for _ in range(4):
        next(views)
    views.close()
    assert fake.stopped.is_set()
    assert fake.pulled == []
    assert models.stopped(context, values("sd15/unet")).panel["state"] == "stopped"


def test_loading_waits_for_the_device_and_gives_it_back(context, fake):
    context.device.acquire()
    views = models.load(context, values())
    assert next(views).panel["headline"] == "Loading toybox/unet"
    assert next(views).panel["headline"] == "toybox/unet waits for a run to end"
    assert fake.loaded == []
    context.device.release()
    *_, last = views
    assert last.panel["headline"] == "toybox/unet is in memory."
    assert can_press(last) == {"unload", "unload_all"}
    assert not context.device.locked()


def test_the_device_is_held_while_a_model_is_loaded(context, monkeypatch, fake):
    held = []
    monkeypatch.setattr(fake, "load", lambda _: held.append(context.device.locked()))
    list(models.load(context, values()))
    assert held == [True]


def test_unloading_one_and_all(context, fake):
    fake.loaded = ["toybox/unet", "toybox/vae", "toybox/scheduler"]
    assert models.unload(context, values()).panel["headline"] == "toybox/unet is out of memory."
    assert fake.loaded == ["toybox/vae", "toybox/scheduler"]
    assert models.unload_all(context, values()).panel["headline"] == "Models are out of memory."
    assert fake.loaded == []


@pytest.mark.parametrize(
    ("error", "said"),
    [(ModelUnavailableError("The hub is away. Try again."), "The hub is away. Try again."),
     (RuntimeError("secret /srv/path"), failures.UNEXPECTED)],
)  # fmt: skip
@pytest.mark.parametrize("action", [models.pull, models.load, models.unload, models.unload_all])
def test_a_failure_is_a_sentence_on_the_page(context, fake, action, error, said):
    fake.error = error
    done = action(context, values("sd15/unet"))
    last = done if isinstance(done, models.ModelsView) else list(done)[-1]
    assert (last.panel["state"], last.panel["headline"]) == ("failed", said)
    assert can_press(last) == {"pull"}
    assert not context.device.locked()


# The real doors


@pytest.fixture
def real(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    real = Settings(device="cpu", toybox_folder=settings.toybox_folder, models_folder=tmp_path, own_models="yes")
    return AppContext.from_settings(real).models


def state_of(doors, key: str) -> str:
    return next(entry.state for entry in doors.inventory() if entry.key == key)


def test_the_real_models_are_loaded_and_dropped(real):
    assert state_of(real, "toybox/vae") == "on disk"
    real.load("toybox/vae")
    real.load("toybox/unet")
    assert state_of(real, "toybox/vae") == "in memory"
    assert real.readout().loaded == ("toybox/unet", "toybox/vae")
    real.unload("toybox/vae")
    assert [state_of(real, key) for key in ("toybox/vae", "toybox/unet")] == ["on disk", "in memory"]
    real.unload()
    assert real.readout().loaded == ()


def test_what_a_run_holds_stays(real):
    manager = real._tools.manager()
    (spec,) = (entry.spec for entry in real.inventory("toybox") if entry.key == "toybox/vae")
    with manager.hold(spec):
        with pytest.raises(InputError, match="'toybox/vae' is in use by a run"):
            real.unload("toybox/vae")
        real.unload()
        assert state_of(real, "toybox/vae") == "in memory"


def test_loading_downloads_nothing(real):
    for key in ("sd15/vae", "sd15/animatediff-v1-5-3"):
        with pytest.raises(ModelUnavailableError, match=r"not on this machine\. Pull it first"):
            real.load(key)
    with pytest.raises(ModelUnavailableError, match="HF_HUB_OFFLINE"):
        list(real.pull("sd15/vae"))
    with pytest.raises(InputError, match="stands for"):
        real.pull("toybox")


# A client, and the page


@pytest.fixture(scope="module")
def served():
    return FakeModels()


@pytest.fixture(scope="module")
def address(served):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "REFRESH", HASTE)
        page = build_page(fake_context(FakeRun(), served))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url
    page.close()


@pytest.fixture(autouse=True)
def _usual_models(served):
    yield
    served.slow, served.error, served.loaded, served.pulled = False, None, [], []


def test_a_client_lists_pulls_loads_and_unloads(address, served):
    client = Client(address, verbose=False)
    _, listed, *_ = client.predict(family="toybox", search="vae", api_name="/models_list")
    assert [row["key"] for row in listed["rows"]] == ["toybox/vae"]
    panel, *_ = client.predict(model="sd15/vae", api_name="/models_pull")
    assert (panel["headline"], served.pulled) == ("sd15/vae is on the disk.", ["sd15/vae"])
    panel, listed, *_ = client.predict(model="sd15/vae", api_name="/models_load")
    assert panel["headline"] == "sd15/vae is in memory."
    assert {row["key"] for row in listed["rows"] if row["state"] == "in memory"} == {"sd15/vae"}
    assert "sd15/vae" in client.predict(api_name="/models_readout")[3]
    assert client.predict(model="sd15/vae", api_name="/models_unload")[0]["state"] == "done"
    assert client.predict(api_name="/models_unload_all")[0]["state"] == "done"
    assert client.predict(api_name="/models_stop")[0]["state"] == "stopped"
    assert served.loaded == []


@pytest.fixture
def open_tab(chromium, address):
    """Opens the page at the tab, and at the end holds that nothing was wrong on the console."""
    wrong, contexts = [], []

    def start(viewport=WIDE, theme="light") -> Page:
        context = chromium.new_context(viewport=viewport)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}?__theme={theme}")
        page.wait_for_selector("#control-generate")
        go_to(page, "Models")
        page.wait_for_selector("#models-readout .bd-meter")
        return page

    yield start
    for context in contexts:
        context.close()
    assert wrong == []


def row(page: Page, key: str):
    return page.locator(f'#models-list [data-key="{key}"]')


@pytest.mark.browser
def test_choosing_a_row_and_loading_it(open_tab, served):
    page = open_tab()
    expect(row(page, "toybox/unet").locator(".bd-pill")).to_have_text("on disk")
    row(page, "toybox/unet").click()
    expect(page.get_by_label("Model", exact=True)).to_have_value("toybox/unet")
    expect(row(page, "toybox/unet")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#models-details")).to_contain_text("128 x 128")
    page.get_by_role("button", name="Load", exact=True).click()
    expect(row(page, "toybox/unet").locator(".bd-pill")).to_have_text("in memory")
    expect(page.locator("#models-progress .bd-headline")).to_have_text("toybox/unet is in memory.")
    expect(page.get_by_role("button", name="Unload", exact=True)).to_be_enabled()
    served.loaded = []  # as if a run had made room for itself: the open tab finds out
    expect(row(page, "toybox/unet").locator(".bd-pill")).to_have_text("on disk")


@pytest.mark.browser
def test_the_keyboard_chooses_searches_pulls_and_cancels(open_tab, served):
    served.slow = True
    page = open_tab()
    page.get_by_label("Search").fill("zeroscope unet")
    expect(page.locator("#models-list .bd-model")).to_have_count(1)
    row(page, "sd15/zeroscope").focus()
    page.keyboard.press("Enter")
    pull = page.get_by_role("button", name="Pull")
    expect(pull).to_be_enabled()
    pull.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#models-progress .bd-detail")).to_contain_text("GB of 10 GB")
    page.locator("#models-cancel").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector('#models-progress [data-state="stopped"]')
    assert served.stopped.wait(PATIENCE)
    assert served.pulled == []


@pytest.mark.browser
def test_the_memory_is_asked_for_only_while_the_tab_is_open(open_tab, served, monkeypatch):
    asked = threading.Semaphore(0)
    real = served.readout
    monkeypatch.setattr(served, "readout", lambda: (asked.release(), real())[1])
    page = open_tab()
    for _ in range(2):
        assert asked.acquire(timeout=PATIENCE)
    page.get_by_role("tab", name="Editing").click()
    page.wait_for_selector("#edit-generate")
    deadline = time.monotonic() + PATIENCE
    while asked.acquire(timeout=4 * HASTE):
        assert time.monotonic() < deadline


@pytest.mark.browser
@pytest.mark.parametrize(("viewport", "theme"), [(WIDE, "dark"), (SLIM, "light")])
def test_the_tab_fits_and_can_be_read(open_tab, served, viewport, theme):
    served.error = ModelUnavailableError(f"The file {ASSETS}/{'x' * 60} cannot be read. Fetch it again.")
    page = open_tab(viewport, theme)
    row(page, "sd15/zeroscope").click()
    pull = page.get_by_role("button", name="Pull")
    expect(pull).to_be_enabled()
    pull.click()
    page.wait_for_selector('#models-progress [data-state="failed"]')
    expect(pull).to_be_enabled()
    come_to_rest(page)
    assert overflow(page) <= 0
    contrast, text = page.evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, text
    nameless = page.evaluate("""() => [...document.querySelectorAll('#models-tab :is(button, input)')]
        .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.labels?.length || e.textContent.trim() || e.title))
        .map((e) => e.outerHTML)""")
    assert nameless == []
