"""The tab "Models": which there are, where each is, the memory they share, and buttons for each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from bivdiff.catalog.families import FAMILIES
from bivdiff.late import importing
from bivdiff.models.inventory import IN_MEMORY, Entry, named_specs
from bivdiff.units import say_bytes
from tabs import controls as shared
from tabs.binding import Values, bind
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK, slow
from tabs.failures import sentence
from tabs.following import HEARTBEAT
from tabs.widgets.models import model_list
from tabs.widgets.progress import progress_panel, progress_value, stage_chips

if TYPE_CHECKING:
    from bivdiff.models.manager import Readout
    from bivdiff.models.memory import Memory

NAME, TITLE = "models", "Models"
REFRESH = 3  # seconds
ALL = ""
ABOUT = (
    "Models are loaded when a run needs them. Here you can fetch one ahead of time, and give memory back. Choose a row."
)
STATES = {
    "absent": "It is not on this machine: pull it first.",
    "on disk": "Its files are here.",
    "in memory": "It is loaded, and comes to the device when a run needs it.",
    "on device": "It is loaded, and on the device.",
}
SLOW = slow("models")


class ModelsView(NamedTuple):
    """What an action shows on the page, in the order of the event's outputs; `gr.skip()` leaves a part as it is."""

    panel: Any = gr.skip()
    rows: Any = gr.skip()
    details: Any = gr.skip()
    readout: Any = gr.skip()
    pull: Any = gr.skip()
    stop: Any = gr.skip()
    load: Any = gr.skip()
    unload: Any = gr.skip()
    unload_all: Any = gr.skip()


def build(context: AppContext, tab: gr.Tab, tabs: gr.Tabs) -> None:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page, the last of `tabs`."""
    with shared.columns():
        with gr.Column(elem_classes="bd-card", min_width=340, scale=5):
            shared.heading(1, "All models")
            shared.remark(ABOUT)
            controls = _filters()
            rows = model_list(elem_id=f"{NAME}-list")
        with gr.Column(elem_classes="bd-aside", min_width=340, scale=3):
            with shared.card():
                shared.heading(2, "The chosen model")
                keys = list(named_specs())
                controls["model"] = gr.Dropdown(
                    keys, value=keys[0], label="Model", info="The buttons below act on it; type to search",
                    elem_id=f"{NAME}-model",
                )  # fmt: skip
                details = gr.HTML(elem_id=f"{NAME}-details", apply_default_css=False)
                buttons = _buttons()
                panel = progress_panel(_panel("idle"), elem_id=f"{NAME}-progress", elem_classes="bd-panel")
            with shared.card():
                shared.heading(3, "Memory")
                readout = gr.HTML(
                    "<p>It is read when the tab opens.</p>", elem_id=f"{NAME}-readout", elem_classes="bd-memory",
                    apply_default_css=False,
                )  # fmt: skip
    shown = ModelsView(panel, rows, details, readout, *buttons)
    _wire_list(context, tab, tabs, controls, shown)
    _wire_actions(context, controls, shown)


def _filters() -> shared.Controls:
    families = [("All", ALL), *((family.title, name) for name, family in FAMILIES.items())]
    with shared.fields():
        return {
            "family": gr.Dropdown(
                families, value=ALL, label="Family", info="Models that belong together", elem_id=f"{NAME}-family",
                min_width=180,
            ),
            "search": gr.Textbox(
                label="Search", info="In name, kind, place and licence", elem_id=f"{NAME}-search", min_width=180,
                max_lines=1,
            ),
        }  # fmt: skip


def _buttons() -> tuple[gr.Button, ...]:
    """To pull, to stop that, to load, to unload one, to unload all: the last parts of a `ModelsView`."""

    def button(label: str, name: str, **options: Any) -> gr.Button:
        return gr.Button(label, interactive=False, elem_id=f"{NAME}-{name}", min_width=96, **options)

    with gr.Row(elem_classes="bd-run"):
        pull, stop = button("Pull", "pull", variant="primary"), button("Cancel", "cancel")
    with gr.Row(elem_classes="bd-run"):
        load, unload, unload_all = (
            button(label, label.lower().replace(" ", "-")) for label in ("Load", "Unload", "Unload all")
        )
    return pull, stop, load, unload, unload_all


# Wiring


def _wire_list(context: AppContext, tab: gr.Tab, tabs: gr.Tabs, controls: shared.Controls, shown: ModelsView) -> None:
    """The list, its filters, and the memory, which is read while the tab is open."""
    inputs = list(controls.values())
    show = bind(partial(look, context), controls)
    gr.on([controls["family"].change, controls["search"].input], show, inputs, list(shown), api_name="models_list",
          trigger_mode="always_last", **QUICK)  # fmt: skip
    controls["model"].change(show, inputs, list(shown), **QUICK, **PRIVATE)
    shown.rows.pick(
        None, shown.rows, controls["model"], js="(value) => value.chosen", show_progress="hidden", **PRIVATE
    )  # fmt: skip
    tab.select(bind(partial(open_tab, context), controls), inputs, list(shown), **SLOW, **PRIVATE)
    timer = gr.Timer(REFRESH, active=False)
    tabs.select(_is_open, None, timer, **QUICK, **PRIVATE)
    timer.tick(bind(partial(refresh, context), controls), inputs, list(shown), api_name="models_readout", **QUICK)


def _is_open(chosen: gr.SelectData) -> gr.Timer:
    return gr.Timer(active=chosen.value == TITLE)


def _wire_actions(context: AppContext, controls: shared.Controls, shown: ModelsView) -> None:
    inputs = list(controls.values())

    def on_click(button: gr.Button, handler: Any, api_name: str) -> Any:
        bound = bind(partial(handler, context), controls)
        return button.click(bound, inputs, list(shown), api_name=api_name, **SLOW)

    pulled = on_click(shown.pull, pull, "models_pull")
    on_click(shown.load, load, "models_load")
    on_click(shown.unload, unload, "models_unload")
    on_click(shown.unload_all, unload_all, "models_unload_all")
    halted = shown.stop.click(None, cancels=[pulled], queue=False, **PRIVATE)
    # Through the queue, so that it comes after the last thing the download had to show.
    halted.then(bind(partial(stopped, context), controls), inputs, list(shown), api_name="models_stop", **SLOW)


# What is shown


def look(context: AppContext, values: Values) -> ModelsView:
    """The list as the filters have it, and the chosen model with what can be done with it."""
    entries = context.models.inventory()
    wanted, words = values.get("family") or ALL, (values.get("search") or "").lower().split()
    found = [entry for entry in entries if wanted in {ALL, *entry.families} and _matches(entry, words)]
    key = values.get("model")
    chosen = next((entry for entry in entries if entry.key == key), None)
    note = f"{len(found)} of {len(entries)} models" if found else "No model has these words. Take some away."
    return ModelsView(
        rows={"rows": [_row(entry) for entry in found], "chosen": key or "", "note": note},
        details=_details(chosen),
        **_possible(entries, chosen),
    )


def open_tab(context: AppContext, values: Values) -> Iterator[ModelsView]:
    """The list at once; the memory as soon as the model libraries are there to be asked."""
    yield look(context, values)
    yield refresh(context, values)


def refresh(context: AppContext, values: Values) -> ModelsView:
    """The memory and where the models are; the buttons stay, since an action may be under way."""
    return ModelsView(rows=look(context, values).rows, readout=_readout(context))


def _matches(entry: Entry, words: list[str]) -> bool:
    text = f"{entry.key} {entry.kind} {entry.place} {entry.state} {entry.licence}".lower()
    return all(word in text for word in words)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key, "kind": entry.kind, "state": entry.state, "size": _size(entry), "native": entry.native,
        "licence": entry.licence, "non_commercial": entry.non_commercial,
    }  # fmt: skip


def _size(entry: Entry) -> str:
    return say_bytes(entry.bytes) if entry.bytes else "size unknown"


def _possible(entries: list[Entry], chosen: Entry | None) -> dict[str, Any]:
    """The buttons of a `ModelsView`: those that can do something can be pressed."""
    state = chosen.state if chosen else ""
    can = {
        "pull": state == "absent", "load": state == "on disk", "unload": state in IN_MEMORY,
        "unload_all": any(entry.state in IN_MEMORY for entry in entries),
    }  # fmt: skip
    return {name: gr.update(interactive=possible) for name, possible in can.items()}


def _details(entry: Entry | None) -> str:
    if entry is None:
        return '<p class="bd-hint">There is no such model. Choose a row of the list.</p>'
    terms = ' <span class="bd-terms">non-commercial</span>' if entry.non_commercial else ""
    facts = {
        "What": escape(entry.kind), "Where from": escape(entry.place), "Size": _size(entry),
        "Licence": escape(entry.licence) + terms, "Trained at": escape(entry.native),
        "Looked up": escape(entry.checked), "Families": escape(", ".join(entry.families)),
    }  # fmt: skip
    pill = f'<span class="bd-pill" data-state="{entry.state}">{entry.state}</span>'
    return f'<p class="bd-model-state">{pill} {STATES[entry.state]}</p>{_definitions(facts)}'


def _definitions(facts: Mapping[str, str]) -> str:
    """Labels and markup; those without any are left out."""
    rows = "".join(f"<dt>{label}</dt><dd>{text}</dd>" for label, text in facts.items() if text)
    return f'<dl class="bd-model-about">{rows}</dl>'


def _readout(context: AppContext) -> str:
    try:
        return _memory(context.models.readout())
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        return f'<p class="bd-hint">{escape(sentence(error))}</p>'


def _memory(read: Readout) -> str:
    with importing():
        from bivdiff.models.placement import POLICIES

    own = read.device_budget is not None
    bars = _bar(f"The device: {read.device}", read.device_memory, read.device_budget) if own else ""
    bars += _bar("This machine", read.host_memory, read.host_budget)
    swap = "none yet"
    if read.swap_bytes:
        speed = say_bytes(read.swap_bytes / max(read.swap_seconds, 1e-6))
        swap = f"{say_bytes(read.swap_bytes)} in {read.swap_seconds:.2f} s, {speed}/s"
    shared_memory = "" if own else f"{escape(read.device)}, which has no memory of its own"
    facts = {
        "Models run on": shared_memory,
        "Offload policy": f"{escape(read.policy)}: {escape(POLICIES[read.policy].lower())}",
        "On the device": escape(", ".join(read.resident)) or "nothing",
        "Loaded, and waiting": escape(", ".join(key for key in read.loaded if key not in read.resident)) or "nothing",
        "Last swap": swap,
    }
    return bars + _definitions(facts)


def _bar(label: str, memory: Memory, budget: int | None) -> str:
    """How full a memory is, as a bar and in words."""
    used = memory.total - memory.free
    share = 100 * used / max(memory.total, 1)
    told = f"{say_bytes(used)} used, {say_bytes(memory.free)} free of {say_bytes(memory.total)}"
    limit = f"; models may take {say_bytes(budget)}" if budget is not None else ""
    return (
        f'<div class="bd-meter"><strong>{escape(label)}</strong><div class="bd-fill" role="meter" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}" aria-label="{escape(label)}" aria-valuetext="{told}" '
        f'style="--share: {share:.1f}%"></div><span>{told}{limit}</span></div>'
    )


def _panel(
    state: str, headline: str = "", detail: str = "", *, label: str = "", share: float = 0,
    elapsed: float | None = None, remaining: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The value of the progress panel, whose only chip is the action; see `progress_value`."""
    chips = stage_chips({"action": label}, {"action": share}, current="action")
    return progress_value(state, chips, headline, detail, elapsed, remaining)


# What is done


def pull(context: AppContext, values: Values) -> Iterator[ModelsView]:
    """Download the chosen model, if it is not there. Closing this generator stops that."""
    key, begun = str(values.get("model") or ""), time.monotonic()
    yield ModelsView(
        _panel("running", f"Pulling {key}", "Asking the model hub", label="Download", elapsed=0), **_busy(True)
    )
    try:
        with closing(context.models.pull(key)) as updates:
            for done, total in updates:
                yield ModelsView(_downloading(key, done, total, time.monotonic() - begun))
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield _failed(context, values, error)
        return
    yield _done(context, values, f"{key} is on the disk.")


def _downloading(key: str, done: int, total: int, elapsed: float) -> dict[str, Any]:
    speed = done / max(elapsed, 1e-3)
    told = f"{say_bytes(done)} of {say_bytes(total)}, {say_bytes(speed)}/s" if done else "Asking the model hub"
    remaining = (total - done) / speed if done else None
    share = min(done / total, 1) if total else 0
    return _panel(
        "running", f"Pulling {key}", told, label="Download", share=share, elapsed=elapsed, remaining=remaining
    )


def stopped(context: AppContext, values: Values) -> ModelsView:
    """What to show once a download is cancelled."""
    panel = _panel(
        "stopped", "Stopped.", "What has arrived is kept: pulling again goes on from there.", label="Download"
    )
    return look(context, values)._replace(panel=panel, stop=gr.update(interactive=False))


def load(context: AppContext, values: Values) -> Iterator[ModelsView]:
    """Read the chosen model into memory, as soon as no run has the device."""
    key, begun = str(values.get("model") or ""), time.monotonic()
    yield ModelsView(_panel("running", f"Loading {key}", label="Load", elapsed=0), **_busy(False))
    while not context.device.acquire(timeout=HEARTBEAT):
        waited = time.monotonic() - begun
        yield ModelsView(_panel("running", f"{key} waits for a run to end", label="Load", elapsed=waited))
    try:
        context.models.load(key)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        failure: Exception | None = error
    else:
        failure = None
    finally:
        context.device.release()
    yield _failed(context, values, failure) if failure else _done(context, values, f"{key} is in memory.")


def unload(context: AppContext, values: Values) -> ModelsView:
    """Drop the chosen model from memory, unless a run holds it."""
    key = str(values.get("model") or "")
    try:
        context.models.unload(key)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        return _failed(context, values, error)
    return _done(context, values, f"{key} is out of memory.")


def unload_all(context: AppContext, values: Values) -> ModelsView:
    """Drop every model from memory that no run holds."""
    try:
        context.models.unload()
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        return _failed(context, values, error)
    held = [entry.key for entry in context.models.inventory() if entry.state in IN_MEMORY]
    left = f"In use by a run, and so still there: {', '.join(held)}." if held else ""
    return _done(context, values, "Models are out of memory.", left)


def _busy(can_stop: bool) -> dict[str, Any]:
    """The buttons of a `ModelsView` during an action."""
    others = dict.fromkeys(("pull", "load", "unload", "unload_all"), gr.update(interactive=False))
    return {**others, "stop": gr.update(interactive=can_stop)}


def _done(context: AppContext, values: Values, told: str, detail: str = "") -> ModelsView:
    return _ended(context, values, _panel("done", told, detail))


def _failed(context: AppContext, values: Values, error: Exception) -> ModelsView:
    return _ended(context, values, _panel("failed", sentence(error)))


def _ended(context: AppContext, values: Values, panel: dict[str, Any]) -> ModelsView:
    view = look(context, values)
    return view._replace(panel=panel, readout=_readout(context), stop=gr.update(interactive=False))
