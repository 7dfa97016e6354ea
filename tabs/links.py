"""Results that their owners have published: a page of its own for each, at `/r/<id>`, to be seen and not changed.

All that a link can show is written when it is switched on; here it is found and handed out, and nothing is computed for
a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.image_models import frames_name
from bivdiff.compare.player import player_scripts, player_style
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.late import importing
from bivdiff.media.card import card
from bivdiff.settings import ASSETS
from bivdiff.studio.history import taking
from bivdiff.studio.history.records import NO_LINK
from bivdiff.studio.history.runs import Runs
from tabs.door import LINKS
from tabs.guard import path_of
from tabs.history.clips import FILES, run_player
from tabs.history.wording import made_with, setting_in_words

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run

TITLE = "BIVDiff Studio"

PLACE = re.compile(r"/r/(?P<link>[A-Za-z0-9_-]{16})(?:/(?P<file>[A-Za-z0-9._-]{1,80}))?")
ADDRESS, LINK = "%%ADDRESS%%", "%%LINK%%"
"""In a page that was written: where it is, and its link, which are known when it is asked for."""

PAGE, CARD = "index.html", "card.jpg"
STUDIO_CARD = f"{LINKS}{CARD}"
"""The picture of the studio itself, for where its own address is posted."""

OFFERED = ("bridged", "framewise", "gif", "grid", "contact_sheet", "zip")
"""The files of a run that its page offers, by what they are."""

HEADERS = {"Cache-Control": "no-cache"}  # what is switched off is gone; the guard adds what a browser may do


class PublishedResults:
    """Middleware that answers for `/r/<id>` and what is below it.

    Args:
        app: has all else.
        runs: know which links are switched on.
        root: where a proxy has the page, as `--root-path` says it.
    """

    def __init__(self, app: ASGIApp, runs: Runs, root: str = "") -> None:
        self._app, self._runs, self._root = app, runs, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no published result."""
        path = path_of(scope) if scope["type"] == "http" else ""
        if not path.startswith(LINKS) or scope["method"] not in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        answer = await run_in_threadpool(self._answer, path, public_address(scope, self._root))
        await answer(scope, receive, send)

    def _answer(self, path: str, address: str) -> Response:
        if path == STUDIO_CARD:
            return FileResponse(ASSETS / CARD, headers=HEADERS)
        asked = PLACE.fullmatch(path)
        try:
            if asked is None:
                raise InputError(NO_LINK)
            run, folder = self._runs.published(asked["link"])
            return self._file(run, folder, asked["link"], asked["file"] or "", address)
        except (BIVDiffError, OSError):
            return HTMLResponse(_NOTHING.format(escape(NO_LINK)), 404, HEADERS)

    def _file(self, run: Run, folder: Path, link: str, name: str, address: str) -> Response:
        if not name:
            page = (folder / PAGE).read_text("utf-8")
            page = page.replace(ADDRESS, escape(f"{address}{LINKS}{link}")).replace(LINK, link)
            return HTMLResponse(page, 200, HEADERS)
        files = {path.name: path for path in offered(run).values()} | {CARD: folder / CARD}
        if name not in files:
            raise InputError(NO_LINK)
        return FileResponse(files[name], headers=HEADERS)


def public_address(scope: Scope, root: str) -> str:
    """The address of the studio as who asks for it knows it, without a slash at its end.

    Args:
        scope: of the request.
        root: where a proxy has the studio: a path, or a whole address.
    """
    root = root.rstrip("/")
    if "://" in root:
        return root
    asked = Request(scope)
    return f"{asked.url.scheme}://{asked.url.netloc}{root}"


def offered(run: Run) -> dict[str, Path]:
    """The files of a run that its page offers, by what they are."""
    return {name: run.files[name] for name in OFFERED if name in run.files}


def tags(title: str, says: str, address: str, picture: str) -> str:
    """The tags of a page's head that say what is shown of it where its address is posted."""
    told = {
        "og:type": "website", "og:site_name": TITLE, "og:title": title, "og:description": says, "og:url": address,
        "og:image": picture, "twitter:card": "summary_large_image",
    }  # fmt: skip
    kinds = {name: "name" if name.startswith("twitter") else "property" for name in told}
    lines = [f'<meta {kinds[name]}="{name}" content="{escape(text)}">' for name, text in told.items()]
    return "\n".join([f'<meta name="description" content="{escape(says)}">', *lines, ""])


# Writing


def write_published(runs: Runs, front: str, run: Run, folder: Path) -> None:
    """Write what a link shows into a folder: the page, and a picture of it for where it is posted.

    Args:
        runs: know the run.
        front: key of the family whose page is at the root.
        run: what is shown.
        folder: where to.

    Raises:
        InputError: the run's clips cannot be read.
    """
    show = _comparison if run.kind == "comparison" else _run
    player, looks, says, clips = show(runs, run)
    own = "" if run.family == front else run.family
    (folder / PAGE).write_text(_page(run, player, looks, says, f"../{own}?r={LINK}"), "utf-8")
    card(clips, says).save(folder / CARD, quality=88)


_Shown: TypeAlias = "tuple[dict[str, Any], str, str, list[tuple[str, np.ndarray]]]"


def _run(runs: Runs, run: Run) -> _Shown:
    """The player's value, the class of its element, what is to be seen, and the clips of its picture."""
    pair = taking.pair(runs, run)
    value = run_player(run, pair.request, "")
    for one in value["tiles"]:
        one.pop("file", None)
    words = run.scores.get("steadiness")
    clips = [(frames_name(run.image_model), pair.framewise), ("Bridged", pair.bridged)]
    return value | {"downloads": []}, "is-row", f"Flicker at rest: {words}." if words else "", clips


def _comparison(runs: Runs, run: Run) -> _Shown:
    with importing():
        from bivdiff.compare.page import player_data
        from bivdiff.compare.sweep import paper_cell

    result = taking.comparison(runs, run)
    paper = paper_cell(result.request, result.cells)
    clips = [(frames_name(run.image_model), result.best.framewise_frames), (result.best.label, result.best.frames)]
    return player_data(result.cells, run.fps, result.recommended.index, paper), "", result.recommended.why, clips


def _page(run: Run, player: Mapping[str, Any], looks: str, says: str, studio: str) -> str:
    title = run.prompt.strip() or made_with(run)
    family = FAMILIES[run.family].title.partition(":")[0] if run.family in FAMILIES else run.family
    settings = "".join(f"<li>{escape(setting_in_words(name, value))}</li>" for name, value in run.settings.items()
                       if value not in ("", None, []))  # fmt: skip
    files = "".join(
        f'<a href="{LINK}/{escape(path.name)}" download>{escape(FILES.get(name, name))}</a>'
        for name, path in offered(run).items()
    )
    made = f"{made_with(run)}. {family}, seed {run.seed}."
    return _PAGE.format(
        title=escape(title), says=escape(says), made=escape(made),
        tags=tags(title, f"{says} {made}".strip(), ADDRESS, f"{ADDRESS}/{CARD}"),
        style=player_style(), scripts=player_scripts(player), looks=looks, studio=escape(studio),
        settings=settings, files=files,
    )  # fmt: skip


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} · BIVDiff Studio</title>
{tags}<style>{style}</style>
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 1200px; margin: 0 auto; padding: 24px 16px 64px; background: light-dark(#faf8f3, #16171b);
  font: 16px/1.5 system-ui, sans-serif; color: light-dark(#22211f, #ebe8e2); }}
h1 {{ margin: 0 0 4px; font-size: clamp(20px, 3vw, 28px); line-height: 1.25; overflow-wrap: anywhere; }}
p {{ margin: 0 0 12px; }}
.says {{ font-weight: 600; }}
.made, li {{ color: light-dark(#625c52, #a9a499); }}
.acts {{ display: flex; flex-wrap: wrap; gap: 8px; margin: 24px 0; }}
.acts a {{ min-height: 24px; padding: 10px 16px; border: 1px solid light-dark(#8f887b, #7d7a74); border-radius: 9px;
  color: inherit; text-decoration: none; }}
.acts .first {{ border-color: transparent; background: light-dark(#0f6a74, #79bec4);
  color: light-dark(#fff, #10211f); font-weight: 600; }}
:is(a, summary):focus-visible {{ outline: 2px solid light-dark(#0f6a74, #79bec4); outline-offset: 2px; }}
summary {{ width: fit-content; padding: 10px 0; cursor: pointer; }}
ul {{ columns: 260px; margin: 0; padding-left: 18px; font-size: 14px; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="says">{says}</p>
<p class="made">{made}</p>
<div class="bd-player {looks}"></div>
<nav class="acts" aria-label="What to do with it">
<a class="first" href="{studio}">Make your own from this</a>{files}</nav>
<details><summary>All settings</summary><ul>{settings}</ul></details>
{scripts}
<noscript>The clips need JavaScript to be played here. The files above hold them too.</noscript>
</body>
</html>
"""

_NOTHING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Nothing here · BIVDiff Studio</title>
<style>:root {{ color-scheme: light dark; }} body {{ max-width: 40em; margin: 15vh auto; padding: 0 16px;
font: 17px/1.5 system-ui, sans-serif; }} a {{ color: inherit; }}</style></head>
<body><h1>Nothing here</h1><p>{}</p><p><a href="../">To the studio</a></p></body></html>
"""
