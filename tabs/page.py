"""The page around the tabs: theme, header, and the list of tabs."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial, update_wrapper
from typing import Any

import gradio as gr
from gradio.components.navbar import Navbar
from starlette.middleware import Middleware

from bivdiff.catalog.families import family_named
from bivdiff.catalog.tasks import TASKS
from bivdiff.media.reading import LIMITS
from bivdiff.settings import Settings
from bivdiff.studio.limits import limits_sentence
from bivdiff.units import parse_bytes
from tabs import compare, control, edit, following, inpaint, models, outpaint, smooth
from tabs import controls as shared
from tabs.boards import visitor_of
from tabs.context import AppContext
from tabs.examples import how_it_works
from tabs.history import layout as history
from tabs.queue import queue_strip
from tabs.refusals import tell_refusals
from tabs.requests import Submission
from tabs.uploads import BoundedUploads
from tabs.widgets.bundle import page_head, page_header

TITLE = "BIVDiff Studio"
TABS = {tab.TASK: tab.build for tab in (control, edit, inpaint, outpaint, smooth)}
CACHE_SECONDS = 24 * 3600
QUEUE_SIZE = 64

# Fonts that come with the system: nothing is fetched from elsewhere.
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "monospace")

WARM = gr.themes.Color(
    "#fdf3ec", "#fae3d3", "#f4c5a6", "#eca678", "#e08a52", "#c9632a",
    "#ad4a14", "#8f3b0f", "#70300f", "#57270f", "#3d1b0a",
    name="warm",
)  # fmt: skip
COOL = gr.themes.Color(
    "#ecf6f6", "#d3eaeb", "#a9d6d9", "#79bec4", "#4aa3ab", "#1f838d",
    "#0f6a74", "#0d565f", "#0d464e", "#0c3a41", "#072529",
    name="cool",
)  # fmt: skip
PAPER = gr.themes.Color(
    "#faf8f4", "#f3f0e9", "#e5e0d5", "#cfc8ba", "#a49d90", "#746e64",
    "#575249", "#403c36", "#2a2a2e", "#1c1d22", "#141519",
    name="paper",
)  # fmt: skip


def build_page(context: AppContext) -> gr.Blocks:
    """The whole app: a page for each family of models, the first at the root.

    Starts nothing; give `launch_options()` to its `launch`.
    """
    gr.set_static_paths([context.runs.files_folder])  # as they are, so that what is deleted is gone
    first, *others = context.families
    with gr.Blocks(title=TITLE, delete_cache=(CACHE_SECONDS, CACHE_SECONDS), analytics_enabled=False) as page:
        _fill(replace(context, family=first), page)
    for name in others:
        before = set(page.fns)
        with page.route(_short(name), f"/{name}"):
            _fill(replace(context, family=name), page)
        for number in set(page.fns) - before:
            _name_for(page.fns[number], name)
    _name_tools(page)
    tell_refusals(page)
    page.queue(max_size=QUEUE_SIZE)
    return page


def _fill(context: AppContext, page: gr.Blocks) -> None:
    """One family's page: the header, a tab for each task, the comparison, and the models."""
    if len(context.families) > 1:
        Navbar(main_page_name=_short(context.families[0]))
    gr.HTML(page_header(), elem_id="header", apply_default_css=False)
    gr.HTML(how_it_works(), elem_id="how", apply_default_css=False)
    with gr.Row(elem_classes="bd-limits"):
        shared.remark(limits_sentence(context.settings))
        if "SPACE_ID" in os.environ:
            gr.DuplicateButton(size="sm", min_width=140, scale=0)
    visitor = gr.Textbox("", visible="hidden", label="Visitor", elem_id="visitor")
    parts = following.PageParts(visitor, queue_strip(context, visitor))
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
    page.load(None, None, visitor, js="() => window.bdVisitor()", api_visibility="private")


def rerun(context: AppContext, run_id: str, visitor: str) -> str:
    """Give a visitor's earlier run, or comparison, to the queue as it was; returns what to tell.

    Raises:
        InputError: it is not there any more, or too many jobs wait.
    """
    owner = visitor_of(visitor).owner
    run = context.runs.get(run_id, owner)
    # What fitted then may not fit now; where it does, nothing is changed.
    job, there = Submission(*context.runs.job(run_id, owner)), replace(context, family=run.family)
    if run.kind == "comparison":
        compare.submit(there, compare.Pending(run.task, job), run.settings["axes"], owner)
    else:
        following.submit(there, run.task, job, owner)
    return "It waits for its turn; its tab shows how far it is."


def _short(name: str) -> str:
    """A family's title without what is said of it."""
    return family_named(name).title.partition(":")[0]


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


def launch_options(settings: Settings | None = None) -> dict[str, Any]:
    """The look of the page, and the bounds on uploads, for `launch`.

    Raises:
        InputError: the owner's bound cannot be read.
    """
    bounds = ((settings or Settings()).uploads_size, Settings.uploads_size)
    most = next(bound for bound in map(parse_bytes, bounds) if bound is not None)
    return {
        "theme": theme(),
        "head": page_head(),
        "max_file_size": LIMITS.file_bytes,
        "app_kwargs": {"middleware": [Middleware(BoundedUploads, most=most)]},
        "footer_links": ["api", "settings"],
        "ssr_mode": False,
    }


def theme() -> gr.themes.Base:
    """Warm for what the image model makes, cool for what the video model makes, on paper or on slate."""
    base = gr.themes.Base(
        primary_hue=WARM,
        secondary_hue=COOL,
        neutral_hue=PAPER,
        font=SANS,
        font_mono=MONO,
        radius_size="md",
        text_size="md",
    )
    return base.set(
        body_background_fill="*neutral_100", body_background_fill_dark="*neutral_950",
        body_text_color="#22211f", body_text_color_dark="#ebe8e2",
        body_text_color_subdued="#625c52", body_text_color_subdued_dark="#a9a499",
        background_fill_primary="#fffdfa", background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50", background_fill_secondary_dark="#22232a",
        border_color_primary="*neutral_200", border_color_primary_dark="#34353e",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_width="0px", block_border_width_dark="0px", block_shadow="none", block_shadow_dark="none",
        block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
        block_label_text_color="*body_text_color", block_label_text_color_dark="*body_text_color",
        block_title_text_color="*body_text_color", block_title_text_color_dark="*body_text_color",
        block_title_text_weight="600", block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued", block_padding="0",
        input_background_fill="*neutral_50", input_background_fill_dark="#22232a",
        input_border_color="*neutral_300", input_border_color_dark="#454651", input_border_width="1px",
        input_border_color_focus="*secondary_500", input_border_color_focus_dark="*secondary_400",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_400", button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="#ffffff", button_primary_text_color_dark="#1d1006",
        button_secondary_background_fill="*neutral_200", button_secondary_background_fill_hover="*neutral_300",
        button_secondary_background_fill_dark="#34353e", button_secondary_background_fill_hover_dark="#454651",
        slider_color="*secondary_600", slider_color_dark="*secondary_400",
        checkbox_background_color_selected="*secondary_600", checkbox_background_color_selected_dark="*secondary_600",
        checkbox_border_color_selected="*secondary_600", checkbox_border_color_selected_dark="*secondary_600",
        loader_color="*secondary_500", link_text_color="*secondary_600", link_text_color_dark="*secondary_300",
    )  # fmt: skip
