"""The one middleware in front of the page: what comes through, how large it may be, what a browser may do here."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import re
import secrets
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bivdiff.late import importing
from tabs import uploads
from tabs.door import ACTIONS, API, FILE, LINKS, NAME, PROGRESS, STREAMS, UPLOAD, Door, host_name, is_loopback
from tabs.traffic import Traffic
from tabs.visitors import network_of

MOST_OPEN = 2048  # requests that are read or answered at once; see `most_open`
MOST_QUERY = 4096  # bytes behind the path
MOST_BODY = 16 * 2**20  # bytes of a request that is no upload: a painted mask is the largest part of one
MOST_BODIES = 16 * MOST_BODY  # of all that are being read: they are in memory
SMALL_BODY = 64 * 2**10  # bytes of each that do not count among these: what asks for little is always read
MOST_PARTS = 20_000  # lists, objects and values in it: read, each takes many times what it does when it is sent
BODY_SECONDS = 120.0  # in which such a request is to be sent
PIECE_SECONDS = 60.0  # in which more of an upload is to come
DRAINED_SECONDS = 30.0  # for which a refused request is still read
DRAINED = 64 * 2**20  # bytes of a refused request that are still read, so that its sender gets to read why

NOT_SERVED = "There is nothing at this address. The page is at “/”, and its foot lists what programs may call."
STRANGE_HOST = (
    "This studio is served to this machine alone, and “{}” is another name. Open it as localhost, or let the owner "
    "start it with --allowed-host {}."
)
STRANGE_ORIGIN = (
    "This request comes from a page of “{}”, which may not use this studio. Open the studio itself, or let the owner "
    "start it with --allowed-host {}."
)
LONG_QUERY = f"What stands behind the “?” of an address may have {MOST_QUERY} letters, and this has more."
WRONG_NAME = "The name of a session or an upload has up to 64 letters of A-Z, a-z, 0-9, _ and -. Choose another one."
TOO_LARGE = f"A request may have {MOST_BODY // 2**20} MB, and this one has more. Send files by the upload instead."
TOO_MANY = f"A request may have {MOST_PARTS:,} values, and this one has more. Send files by the upload instead."
BUSY = "The studio is reading too many large requests now. Try again in a while."
CROWDED = (
    "The studio has too many windows and requests open now, most of them from where you are. Close some of them, and "
    "load this one again in a while."
)
SLOW = "This request did not come to its end in time. Send it again, or something smaller."
CUT_OFF = "The upload was cut off. Send it again."
UNREADABLE = (
    "This request cannot be read: it names an action, a parameter or a session that is not there, or lacks one. "
    "“gradio_api/info” lists the actions with their parameters."
)
DISK_FULL = "The studio's disk is full. Nothing of yours is lost; try again later, or tell the owner to make room."
FAILED = "Something failed that should not have. Nothing of yours is lost; try again, or look into the server's log."

# Scripts that stand in the page itself are known by a word that is another for each answer, or by their digest: what a
# text brings with it, an element's `onerror` for one, never runs. Gradio makes functions of the widgets' scripts, which
# is what 'unsafe-eval' is needed for, and writes styles into the page. All else is of this origin.
CONTENT = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
OF_A_SPACE = " https://huggingface.co https://*.huggingface.co"
# A published result plays its clips by scripts of its own, and asks for nothing but its own files.
CONTENT_OF_LINKS = (
    "default-src 'none'; img-src 'self' data: blob:; media-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# A visitor's file that is opened by itself runs nothing, and is no page of this origin.
CONTENT_OF_FILES = "default-src 'none'; media-src 'self'; img-src 'self'; style-src 'unsafe-inline'; sandbox"

NONCE = "bivdiff.nonce"
"""Where a request has the word by which the scripts of its page are known; see `Introduced`, which writes it there."""

OF_A_PROXY = (b"x-forwarded-host", b"x-gradio-server")

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Visit:
    """A request on its way through.

    Attributes:
        refused: the answer that stands instead of what the page would say, once there is one.
        answered: whether an answer has begun.
        over: whether all of the request has been read, or its sender is gone, or nothing more is waited for.
        late: whether it is the last.
    """

    refused: Response | None = None
    answered: bool = False
    over: bool = False
    late: bool = False
    size: int = 0


class Guard:
    """The middleware.

    Args:
        app: what it stands in front of.
        door: who may come in, and by which way.
        most_uploads: bytes that uploads may take together.
        head: what the page adds to its head by itself, whose scripts may run.
        clock: seconds.
    """

    def __init__(
        self, app: ASGIApp, door: Door, most_uploads: int, head: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._door, self._digests, self._clock = app, door, digests_of(head), clock
        self._room = uploads.Room(most_uploads)
        self._bodies, self._open = Traffic(MOST_BODIES), Traffic(most_open())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a sentence."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        path = path_of(scope)
        scope[NONCE] = secrets.token_urlsafe(16)
        dressed = self._dressed(send, path, scope[NONCE])
        if refused := self._refusal(scope, path):
            await refused(scope, receive, dressed)
            return
        if self._door.behind_proxy:
            scope["client"] = client_of(scope, self._door.from_afar)
        else:
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in OF_A_PROXY]
        place = place_of(scope)
        if not self._open.takes(place):
            refused = _sentence(503, CROWDED)
            refused.headers["Connection"] = "close"
            await refused(scope, receive, dressed)
            return
        try:
            await self._let_in(_Visit(), scope, receive, dressed)
        finally:
            self._open.gives_back(place)
        if path.rstrip("/") in (UPLOAD, PROGRESS):
            uploads.forget_progress()

    async def _let_in(self, visit: _Visit, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and path_of(scope).rstrip("/") == UPLOAD:
            await self._upload(visit, scope, receive, send)
        elif scope["method"] == "POST":
            await self._post(visit, scope, receive, send)
        else:
            await self._pass_on(visit, scope, receive, send)

    def _refusal(self, scope: Scope, path: str) -> Response | None:
        """Why a request may not come in, by its head alone."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._door.knows(host):
            return _sentence(403, STRANGE_HOST.format(shown(host), shown(host_name(host))))
        if origin is not None and not self._door.lets_in(origin, host):
            return _sentence(403, STRANGE_ORIGIN.format(shown(origin), shown(host_name(origin))))
        if not self._door.serves(scope["method"], path):
            return _sentence(404, NOT_SERVED)
        asked = scope["query_string"]
        if len(asked) > MOST_QUERY:
            return _sentence(414, LONG_QUERY)
        names = [name for key, name in parse_qsl(str(asked, "latin-1")) if key in ("session_hash", "upload_id")]
        return None if all(re.fullmatch(NAME, name) for name in names) else _sentence(422, WRONG_NAME)

    # What is sent

    async def _upload(self, visit: _Visit, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an upload on as long as there is room for it."""
        headers = Headers(scope=scope)
        parts = uploads.Parts(headers.get("content-type", "").encode("latin-1"))
        await run_in_threadpool(self._room.enter, visit, place_of(scope))

        def look(data: bytes) -> None:
            begun = parts.files
            try:
                parts.look(data)
            except MultiPartException as error:
                visit.refused = _sentence(422, error.message)
                raise
            if why := self._room.takes(visit, len(data), parts.files - begun):
                visit.refused = _sentence(507, why)
                raise MultiPartException(why)

        async def coming() -> Message:
            message = await self._next(visit, receive, self._clock() + PIECE_SECONDS)
            if visit.refused is not None:
                raise MultiPartException(SLOW)
            if message["type"] == "http.disconnect":
                visit.over = True
                raise MultiPartException(CUT_OFF)  # of all that may end it, Gradio cleans up after this alone
            visit.over = not message.get("more_body", False)
            look(message.get("body", b""))
            return message

        try:
            said = headers.get("content-length", "")
            if said.isdecimal() and (why := self._room.lacks(visit, int(said))):
                visit.refused = _sentence(507, why)
                await self._answer(visit, scope, receive, send)
            else:
                await self._pass_on(visit, scope, coming, send, receive)
        finally:
            self._room.leave(visit, stays=visit.over and visit.refused is None)

    async def _post(self, visit: _Visit, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no upload as long as it is small, and comes in time."""
        place, by = place_of(scope), self._clock() + BODY_SECONDS
        held = parts = 0

        async def coming() -> Message:
            nonlocal held, parts
            message = await self._next(visit, receive, by)
            if message["type"] == "http.request" and visit.refused is None:
                visit.over = not message.get("more_body", False)
                body = message.get("body", b"")
                visit.size += len(body)
                parts += sum(map(body.count, (b"[", b"{", b",")))
                more = max(visit.size - SMALL_BODY, 0) - held
                if visit.size > MOST_BODY:
                    visit.refused = _sentence(413, TOO_LARGE)
                elif parts > MOST_PARTS:
                    visit.refused = _sentence(413, TOO_MANY)
                elif more and not self._bodies.takes(place, more):
                    visit.refused = _sentence(503, BUSY)
                else:
                    held += more
            elif message["type"] == "http.disconnect":
                visit.over = True
            if visit.refused is not None:
                raise HTTPException(visit.refused.status_code)
            return message

        try:
            await self._pass_on(visit, scope, coming, send, receive)
        finally:
            self._bodies.gives_back(place, held)

    async def _next(self, visit: _Visit, receive: Receive, by: float) -> Message:
        """What comes next of a request; where nothing comes by a time of the clock, the visit is refused."""
        if visit.over:
            return await receive()
        with suppress(asyncio.TimeoutError):
            left = by - self._clock()
            if left > 0:
                return await asyncio.wait_for(receive(), left)
        visit.refused = _sentence(408, SLOW)
        visit.over = visit.late = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _pass_on(
        self, visit: _Visit, scope: Scope, receive: Receive, send: Send, rest: Receive | None = None
    ) -> None:
        """Let the page answer, but for what was refused meanwhile or fails there."""

        async def answering(message: Message) -> None:
            if visit.refused is None:
                visit.answered = True
                await send(message)

        try:
            await self._app(scope, receive, answering)
        except Exception as error:
            if visit.answered and re.fullmatch(STREAMS, path_of(scope)):
                _log.info("A stream of answers ended early: %s", repr(error.__context__ or error)[:200])
                await send({"type": "http.response.body", "body": b"", "more_body": False})  # it has said so itself
                return
            if visit.answered:
                raise
            if visit.refused is None:
                visit.refused = _answer_to(error, path_of(scope))
        if visit.refused is not None and not visit.answered:
            await self._answer(visit, scope, rest or receive, send)

    async def _answer(self, visit: _Visit, scope: Scope, receive: Receive, send: Send) -> None:
        """Say why a request is refused, once its sender has come to an end."""
        answer, drained, by = visit.refused, 0, self._clock() + DRAINED_SECONDS
        while not visit.over and drained < DRAINED:
            message = await self._next(visit, receive, by)
            visit.over = message["type"] == "http.disconnect" or not message.get("more_body", False)
            drained += len(message.get("body", b""))
        if answer is not None:
            if visit.late or not visit.over:
                answer.headers["Connection"] = "close"  # nothing else can be read behind what was left unread
            await answer(scope, receive, send)

    def _dressed(self, send: Send, path: str, nonce: str) -> Send:
        """`send` with the headers that say what a browser may do with an answer."""
        content = CONTENT.format(scripts=f"'nonce-{nonce}'{self._digests}") + OF_A_SPACE * self._door.on_space
        if path.startswith(FILE):
            content = CONTENT_OF_FILES
        elif path.startswith(LINKS):
            content = CONTENT_OF_LINKS

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = content
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
            await send(message)

        return dressed


def most_open() -> int:
    """Requests that may be open at once: half of the files and connections that the system lets the app have."""
    if sys.platform == "win32":  # it sets no such bound
        return MOST_OPEN
    with importing():
        import resource

    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_OPEN if allowed == resource.RLIM_INFINITY else min(MOST_OPEN, allowed // 2)


def digests_of(head: str) -> str:
    """The scripts in a piece of HTML, each as a source that a Content-Security-Policy allows."""
    digests = (sha256(script.encode()).digest() for script in re.findall(r"<script>(.*?)</script>", head, re.DOTALL))
    return "".join(f" 'sha256-{b64encode(digest).decode()}'" for digest in digests)


def path_of(scope: Scope) -> str:
    """The path of a request, relative to where a proxy has the page."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def client_of(scope: Scope, from_afar: bool = False) -> tuple[str, int] | None:
    """From where a request comes, by what the proxy before the studio says.

    A proxy appends whom it was asked by, and whoever asked may have written anything before that. So it is the last
    address, but for this machine's own, and only where who says so is of this machine or of a private network.

    Args:
        scope: of the request.
        from_afar: whether there are more proxies in between, and all who ask come over the Internet: then it is the
            last address that is of no private network.
    """
    peer: tuple[str, int] | None = scope.get("client")
    with suppress(ValueError):  # this or that is no address: what stands before it anybody may have written
        if peer is not None and ipaddress.ip_address(peer[0]).is_global:
            return peer
        said = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
        for place in reversed([host_name(each.strip()) for each in said.split(",") if each.strip()]):
            address = ipaddress.ip_address(place)
            if not (address.is_loopback or (from_afar and not address.is_global)):
                return str(address), 0
    return peer


def place_of(scope: Scope) -> str:
    """The place that a request comes from, which others may share; empty for this machine's own."""
    host = (scope.get("client") or ("",))[0]
    return "" if not host or is_loopback(host) else network_of(host)


def shown(text: str) -> str:
    """What somebody sent, so that it can be repeated in a sentence."""
    return re.sub(r"[^A-Za-z0-9.:/_-]", "?", text)[:100] or "(none)"


def _sentence(status: int, text: str) -> Response:
    return PlainTextResponse(text, status_code=status)


def _answer_to(error: Exception, path: str) -> Response:
    """What to answer where the page fails before it can say why itself."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        _log.error("The disk is full.", exc_info=error)
        return _sentence(507, DISK_FULL)
    if re.fullmatch(f"({ACTIONS}|{API}/(cancel|reset)|{UPLOAD}|/login)/?", path) and not isinstance(error, OSError):
        _log.info("A request could not be read: %s", repr(error)[:200])
        return _sentence(422, UNREADABLE)
    _log.error("A request failed unexpectedly.", exc_info=error)
    return _sentence(500, FAILED)
