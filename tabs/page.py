"""The page around the tabs: theme, header, and the list of tabs."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial, update_wrapper
from typing import Any

import gradio as gr
from gradio.components import Navbar
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from bivdiff.catalog.families import FAMILIES, family_named
from bivdiff.catalog.tasks import TASKS
from bivdiff.media.source import LIMITS
from bivdiff.settings import Settings
from bivdiff.studio.history.runs import Runs
from bivdiff.studio.limits import check_clip, limits_sentence
from bivdiff.toybox.clips import load_index
from bivdiff.units import parse_bytes
from tabs import compare, control, edit, inpaint, models, outpaint, smooth, task_tab
from tabs import controls as shared
from tabs.context import AppContext
from tabs.door import Door
from tabs.examples import hero_clip, how_it_works
from tabs.guard import Guard
from tabs.history import layout as history
from tabs.housekeeping import kept_clean
from tabs.introduction import Introduced
from tabs.links import TITLE, PublishedResults
from tabs.queue import queue_strip
from tabs.refusals import tell_refusals
from tabs.requests import Submission
from tabs.sessions import keep_sessions_small
from tabs.theme import theme
from tabs.visitors import visitor_of
from tabs.waiting import QUEUE_SIZE, take_turns
from tabs.widgets.bundle import page_head, page_header
from tabs.widgets.hero import hero
from tabs.widgets.samples import sample_script

TABS = {tab.TASK: tab.build for tab in (control, edit, inpaint, outpaint, smooth)}
CACHE_SECONDS = 24 * 3600
THREADS = 96  # that handle events: more than may watch, read, look and wait together
SESSIONS = 5000  # of visitors, with what they chose: the one that is looked at least leaves


def build_page(context: AppContext) -> gr.Blocks:
    """The whole app: a page for each family of models, the first at the root.

    Starts nothing; give `launch_options()` to its `launch`.
    """
    keep_sessions_small()
    take_turns()
    gr.set_static_paths([context.runs.files_folder])  # as they are, so that what is deleted is gone
    first, *others = context.families
    with gr.Blocks(title=TITLE, delete_cache=(CACHE_SECONDS, CACHE_SECONDS), analytics_enabled=False) as page:
        _fill(replace(context, family=first), page)
    for name in others:
        before = set(page.fns)
        with page.route(family_named(name).title, f"/{name}"):
            _fill(replace(context, family=name), page)
        for number in set(page.fns) - before:
            _name_for(page.fns[number], name)
    _name_tools(page)
    tell_refusals(page)
    page.queue(max_size=QUEUE_SIZE, api_open=False)
    return page


def _fill(context: AppContext, page: gr.Blocks) -> None:
    """One family's page: the header, a tab for each task, the comparison, and the models."""
    if len(context.families) > 1:
        Navbar(main_page_name=family_named(context.families[0]).title)
    gr.HTML(page_header(context.family, context.families[0]), elem_id="header", apply_default_css=False)
    hero(hero_clip(), elem_id="hero")
    visitor = gr.Textbox("", visible="hidden", label="Visitor", elem_id="visitor")
    parts = task_tab.PageParts(visitor, queue_strip(context, visitor))
    with gr.Tabs(elem_id="tabs") as tabs:
        built = []
        for number, (task, build) in enumerate(TABS.items()):
            with gr.Tab(TASKS[task].title, id=task, elem_id=f"{task}-tab", elem_classes="bd-tab") as tab:
                # The first is open from the start.
                built.append(build(context, tab if number else page, parts))
        with gr.Tab(compare.TITLE, id=compare.NAME, elem_id=f"{compare.NAME}-tab", elem_classes="bd-tab"):
            compare.build(context, tabs, built, parts)
        with gr.Tab(history.TITLE, id=history.NAME, elem_id=f"{history.NAME}-tab", elem_classes="bd-tab") as tab:
            history.build(context, tab, tabs, built, visitor, partial(rerun, context))
        with gr.Tab(models.TITLE, id=models.NAME, elem_id=f"{models.NAME}-tab", elem_classes="bd-tab") as tab:
            models.build(context, tab, tabs)
    gr.HTML(how_it_works(), elem_id="how", apply_default_css=False)
    with gr.Row(elem_classes="bd-limits"):
        shared.remark(limits_sentence(context.settings))
        if "SPACE_ID" in os.environ:
            gr.DuplicateButton(size="sm", min_width=140, scale=0)
    page.load(None, None, visitor, js="() => window.bdVisitor()", api_visibility="private")


def rerun(context: AppContext, run_id: str, visitor: str) -> str:
    """Give a visitor's earlier run, or comparison, to the queue as it was; returns what to tell.

    Raises:
        InputError: it is not there any more, or too many jobs wait.
    """
    owner = visitor_of(visitor).owner
    run = context.runs.get(run_id, owner)
    # What fitted then may not fit now; where it does, nothing is changed.
    check_clip(context.runs.shape(run_id, owner), context.settings)  # before it is unpacked
    with context.decoding():
        job = Submission(*context.runs.job(run_id, owner), sound=context.runs.sound(run_id, owner))
    there = replace(context, family=run.family)
    if run.kind == "comparison":
        compare.submit(there, run.task, job, run.settings["axes"], owner)
    else:
        task_tab.submit(there, run.task, job, owner)
    return "It waits for its turn; its tab shows how far it is."


def _name_for(event: Any, name: str) -> None:
    """Give an endpoint the family's name in front, where Gradio has put a number behind."""
    if isinstance(event.api_name, str):
        event.api_name = f"{name}_{re.sub(r'_[0-9]+$', '', event.api_name)}"


def _name_tools(page: gr.Blocks) -> None:
    """Give every public handler the name of its endpoint: MCP tools are called after their handlers."""
    for event in page.fns.values():
        if event.fn is not None and isinstance(event.api_name, str) and event.api_visibility == "public":
            # One of its own: two endpoints may have one handler.
            event.fn = update_wrapper(partial(event.fn), event.fn)
            event.fn.__name__ = event.api_name


def answer_head(_: Request) -> HTMLResponse:
    """Say that the page is there, without making it.

    `launch` asks so whether it can be reached, and gives up after three seconds. Making the page for the first time,
    with what is known of all its endpoints, takes longer on a busy computer.
    """
    return HTMLResponse()


def launch_options(
    settings: Settings | None = None, door: Door | None = None, runs: Runs | None = None, root: str = ""
) -> dict[str, Any]:
    """The look of the page, the guard in front of it, and what answers beside it, for `launch`.

    Args:
        settings: have the bound on uploads.
        door: who may come in; without one, only who sits at this machine.
        runs: the history, whose published results are shown at their links; None shows none.
        root: where a proxy has the page.

    Raises:
        InputError: the owner's bound cannot be read.
    """
    bounds = ((settings or Settings()).uploads_size, Settings.uploads_size)
    most = next(bound for bound in map(parse_bytes, bounds) if bound is not None)
    door = door or Door(pages=tuple(FAMILIES))
    published = [] if runs is None else [Middleware(PublishedResults, runs=runs, root=root)]
    head = page_head(sample_script(load_index()))
    introduced = Middleware(Introduced, root=root)
    return {
        "theme": theme(),
        "head": head,
        "max_file_size": LIMITS.file_bytes,
        "app_kwargs": {
            "middleware": [Middleware(Guard, door=door, most_uploads=most, head=head), *published, introduced],
            "routes": [Route("/", answer_head, methods=["HEAD"])],
            "lifespan": kept_clean,
        },
        "state_session_capacity": SESSIONS,
        "max_threads": THREADS,
        "footer_links": ["api", "settings"],
        "ssr_mode": False,
    }
