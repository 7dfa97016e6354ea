"""The guard in front of the page: what comes through, how much of it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import math
import os
import socket
import time
import tracemalloc
from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
import httpx
import pytest
from fake_run import FakeRun, fake_context
from gradio import routes
from gradio.state_holder import SessionState, StateHolder
from patience import PATIENCE, until
from starlette.testclient import TestClient

from bivdiff.errors import InputError
from bivdiff.settings import Settings
from tabs import compare, controls, guard, housekeeping, serving, sessions, uploads
from tabs.door import Door
from tabs.page import build_page, launch_options
from tabs.weights import bytes_in
from tabs.widgets.upload import Upload

BOUND = 200_000  # bytes that uploads may take here
BOUNDARY_TEXT = "strangers"
BOUNDARY = BOUNDARY_TEXT.encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def address(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr(uploads, "MEASURED_SECONDS", 0.0)  # the tests delete what lies there
        page = build_page(fake_context(FakeRun()))
        options = launch_options(replace(Settings(), uploads_size=f"{BOUND}"))
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **options)
        yield url
        page.close()


@pytest.fixture(autouse=True)
def _empty(folder):
    yield
    until(lambda: not files(folder) or not [path.unlink(missing_ok=True) for path in files(folder)])
    # Nothing is on its way: what lies there is counted anew.


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def part(size: int, field: str = "files", name: str | None = "clip.mp4", fill: bytes = b"x") -> bytes:
    said = f'form-data; name="{field}"' + ("" if name is None else f'; filename="{name}"')
    return b"--" + BOUNDARY + f"\r\nContent-Disposition: {said}\r\n\r\n".encode() + fill * size + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


class Sending:
    """An upload in pieces, without a length, as no browser sends it."""

    def __init__(self, address: str, path: str = "/gradio_api/upload") -> None:
        place = urlsplit(address)
        self._socket = socket.create_connection((place.hostname, place.port), timeout=PATIENCE)
        kind = f"multipart/form-data; boundary={BOUNDARY_TEXT}"
        head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n"
        self._socket.sendall(f"{head}Connection: close\r\n\r\n".encode())

    def send(self, data: bytes) -> Sending:
        self._socket.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        return self

    def end(self) -> tuple[int, str]:
        """Come to an end; returns the answer's status and text."""
        self._socket.sendall(b"0\r\n\r\n")
        answer = b""
        with self._socket:
            while data := self._socket.recv(2**16):
                answer += data
        head, _, text = str(answer, "utf-8").partition("\r\n\r\n")
        return int(head.split()[1]), text

    def cut_off(self) -> None:
        self._socket.close()


# What is uploaded


def test_an_upload_that_does_not_say_its_size_is_counted_as_it_comes(address, folder):
    assert Sending(address).send(body(part(120_000))).end()[0] == 200
    status, text = Sending(address).send(part(40_000)[:-2]).send(b"y" * 80_000).send(body(b"\r\n")).end()
    assert (status, "no room for more uploads" in text) == (507, True)
    assert [path.stat().st_size for path in files(folder)] == [120_000]  # and nothing is left of the other


def test_uploads_side_by_side_share_the_room(address, folder):
    sending = [Sending(address).send(part(96_000, fill=fill)[:-2]) for fill in (b"a", b"b", b"c")]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda each: each.send(b"z" * 24_000).send(body(b"\r\n")).end(), sending))
    statuses = [status for status, _ in answers]
    assert set(statuses) <= {200, 507}
    assert statuses.count(507) >= 2
    assert len(files(folder)) == statuses.count(200)
    if not files(folder):  # where none gave way in time, none got in: and then there is room for the next
        assert Sending(address).send(body(part(120_000))).end()[0] == 200
    assert sum(path.stat().st_size for path in files(folder)) == 120_000


def test_a_request_holds_few_files(address, folder):
    few = body(*[part(1, fill=bytes([65 + number])) for number in range(uploads.MOST_FILES)])
    assert Sending(address).send(few).end()[0] == 200
    assert len(files(folder)) == uploads.MOST_FILES
    status, text = Sending(address).send(body(*[part(1, name=f"{number}.mp4") for number in range(200)])).end()
    assert (status, text) == (422, uploads.TOO_MANY)
    assert len(files(folder)) == uploads.MOST_FILES


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (body(part(100, field="other")), "a field named “files”"),
        (body(part(100), part(100, field="files", name=None)), "a field named “files”"),
        (body(part(100), part(5, field="upload_id", name=None)), "a field named “files”"),
        (b"no multipart at all", "multipart/form-data"),
        (part(100).replace(b"\r\n\r\n", b"\r\n" + b"X-Long: " + b"y" * 20_000 + b"\r\n\r\n"), "multipart/form-data"),
    ],
)
def test_an_upload_that_is_none_is_told_and_leaves_nothing(address, folder, sent, words):
    status, text = Sending(address).send(sent).end()
    assert status == 422, text
    assert words in text
    assert files(folder) == []


def test_an_upload_that_is_cut_off_leaves_nothing(address, folder):
    sending = Sending(address).send(part(20_000)[:-2])
    until(lambda: files(folder))
    sending.cut_off()
    until(lambda: not files(folder))


def test_a_large_upload_is_refused_before_it_comes_and_its_sender_reads_why(address):
    answer = httpx.post(f"{address}gradio_api/upload", files={"files": ("a.mp4", bytes(3_000_000))}, timeout=PATIENCE)
    assert (answer.status_code, "no room" in answer.text) == (507, True)


def test_one_address_cannot_fill_the_room_for_all(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    room, unit = uploads.Room(1000 * uploads.BESIDE), uploads.BESIDE

    def send(place: str, count: int, stays: bool = True) -> str:
        """Send one file that takes so many units of the room."""
        upload, size = object(), max(count - 1, 0) * unit
        room.enter(upload, place)
        why = room.takes(upload, size, files=bool(count))
        if not why and stays:
            (tmp_path / f"{len(list(tmp_path.iterdir()))}").write_bytes(bytes(size))
        room.leave(upload, stays=not why and stays)
        monkeypatch.setattr(room, "_measured", -uploads.MEASURED_SECONDS)
        return why

    assert [send("eve", 100) for _ in range(5)] == [""] * 5  # nobody else wants it
    assert "stays for others" in send("eve", 100)
    assert send("ada", 200, stays=False) == send("ada", 200) == ""
    assert "stays for others" in send("ada", 60)
    assert send("", 100) == ""  # who sits at the machine has all of it
    assert "no room for more uploads now" in send("", 300)
    hour = time.time() + uploads.KEPT_SECONDS + 3600
    monkeypatch.setattr(uploads.time, "time", lambda: hour)
    send("", 0)
    assert send("eve", 100) == ""  # what it had sent is gone by now
    scope = {"client": ("2001:db8::1:2", 1)}
    assert guard.place_of(scope) == guard.place_of({"client": ("2001:db8::9", 1)}) != ""
    assert guard.place_of({"client": ("127.0.0.1", 1)}) == guard.place_of({}) == ""


def test_very_many_small_files_fill_the_room_as_large_ones_do(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(uploads, "MEASURED_SECONDS", math.inf)
    looked = []
    monkeypatch.setattr(uploads, "_files_in", lambda folder: looked.append(folder) or iter(()))
    for most, files in ((100 * uploads.BESIDE, 100), (10**12, uploads.MOST_KEPT)):
        room, told = uploads.Room(most), []
        while len(told) <= files and "" in (told or [""])[-1:]:
            upload = object()
            room.enter(upload, "eve")
            told.append(room.takes(upload, 1, files=files // 50))
            room.leave(upload, stays=not told[-1])
        assert "stays for others" in told[-1]
        assert 24 <= len(told) - 1 <= 25  # half of all the files that there may be
        upload = object()
        room.enter(upload, "ada")
        assert room.takes(upload, 1, files=1) == ""
    assert len(looked) == 2  # and not once for each


def test_what_old_processes_left_is_swept_by_its_age_whatever_made_it(tmp_path):
    young, old = (tmp_path / name for name in ("tmpyoung", "tmpold"))
    deep = tmp_path / "0123abcd" / "clip.mp4"
    deep.parent.mkdir()
    for path in (young, old, deep):
        path.write_bytes(b"x")
    for path in (old, deep, deep.parent):
        os.utime(path, (0, 0))
    uploads.sweep(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["tmpyoung"]
    uploads.sweep(tmp_path)  # the folder was changed when its file left
    assert uploads.bytes_in(tmp_path) == 1


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The system's folder for temporary files, as the studio finds it when it starts."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # what is written into it later is undone as well
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    monkeypatch.setattr(uploads.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_uploads_lie_in_a_folder_of_this_user_alone(temporary, monkeypatch):
    uploads.own_folder()
    own = Path(os.environ["GRADIO_TEMP_DIR"])
    assert (own.parent, own.stat().st_mode & 0o777) == (temporary, 0o700)
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    uploads.own_folder()
    assert os.environ["GRADIO_TEMP_DIR"] == str(own)  # the next time it is the same, with what lies there


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system knows no owners")
@pytest.mark.parametrize("kind", ["somebody else's", "open to others", "a link", "a file", "a link to nothing"])
def test_a_folder_that_somebody_else_may_have_made_is_not_taken(temporary, monkeypatch, kind):
    there, elsewhere = temporary / f"bivdiff-uploads-{os.getuid()}", temporary / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if kind == "a file":
        there.write_bytes(b"")
    elif kind.startswith("a link"):
        there.symlink_to(elsewhere if kind == "a link" else temporary / "nothing")
    else:
        there.mkdir()
        there.chmod(0o777 if kind == "open to others" else 0o700)
    if kind == "somebody else's":
        mine = os.getuid()
        monkeypatch.setattr(uploads.os, "getuid", lambda: mine + 1)
        there.rename(temporary / f"bivdiff-uploads-{os.getuid()}")
    uploads.own_folder()
    taken = Path(os.environ["GRADIO_TEMP_DIR"])
    assert taken.resolve() not in (there, elsewhere, temporary / f"bivdiff-uploads-{os.getuid()}")
    assert (taken.parent, taken.stat().st_mode & 0o777) == (temporary, 0o700)


def test_uploads_need_no_owners(temporary, monkeypatch):
    monkeypatch.delattr(os, "getuid", raising=False)
    uploads.own_folder()
    assert os.environ["GRADIO_TEMP_DIR"] == str(temporary / "bivdiff-uploads")


def test_where_no_folder_can_be_made_a_sentence_says_so(temporary, monkeypatch):
    monkeypatch.setattr(uploads.tempfile, "tempdir", str(temporary / "nowhere"))
    with pytest.raises(InputError, match=r"no folder for uploads.*GRADIO_TEMP_DIR"):
        uploads.own_folder()


def test_the_folder_is_swept_when_the_server_starts_and_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(uploads, "SWEEP_SECONDS", 0.05)

    def abandon(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
        return path

    first = abandon("tmpfirst")
    sweeping = uploads.Sweeping()
    until(lambda: not first.exists())
    second = abandon("tmpsecond")
    until(lambda: not second.exists())
    sweeping.end()


def test_what_gradio_notes_of_uploads_is_forgotten(address, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_WATCHED", 3)
    told = routes.file_upload_statuses
    for number in range(8):
        assert Sending(address, f"/gradio_api/upload?upload_id=sent-{number}").send(body(part(1))).end()[0] == 200
        told._signals[f"asked-{number}"].clear()  # as it is for three seconds when somebody asks
    until(lambda: len(told._statuses) <= 3)
    assert list(told._statuses) == ["sent-5", "sent-6", "sent-7"]
    watched = httpx.get(f"{address}gradio_api/upload_progress?upload_id=sent-7", timeout=PATIENCE)
    assert "done" in watched.text
    until(lambda: len(told._signals) <= 3)


def test_the_paths_of_uploads_that_are_gone_are_forgotten_by_the_hour(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    page = build_page(fake_context(FakeRun()))
    app = routes.App.create_app(page, app_kwargs={"lifespan": housekeeping.kept_clean})
    (tmp_path / "here").write_bytes(b"x")
    page.upload_file_set.update(str(tmp_path / name) for name in ("here", "gone"))
    with TestClient(app):
        until(lambda: page.upload_file_set == {str(tmp_path / "here")})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/gradio_api/upload_progress?upload_id=" + "a" * 64, 200),
        ("/gradio_api/upload_progress?upload_id=" + "a" * 65, 422),
        ("/gradio_api/upload_progress?upload_id=a&upload_id=b.c", 422),
        ("/gradio_api/upload_progress?upload_id=%00", 422),
        ("/gradio_api/upload_progress?upload%5Fid=%00", 422),
        ("/gradio_api/queue/data?session_hash=" + "a" * 65, 422),
        ("/gradio_api/queue/data?session_hash=0123abcd-0123", 200),
        ("/?run=" + "a" * 5000, 414),
        ("/?run=a/b.c", 200),
        ("/gradio_api/heartbeat/" + "a" * 65, 404),
    ],
)
def test_names_and_queries_are_short(path, status):
    assert ask(OWN, path=path)[0] == status


def test_a_file_field_makes_no_empty_files(folder):
    field = controls.upload("Clip")
    (folder / "clip.mp4").write_bytes(b"x")
    given = field.preprocess(field.data_model(path=str(folder / "clip.mp4")))
    assert given == str(folder / "clip.mp4")
    assert [path.name for path in files(folder)] == ["clip.mp4"]
    assert field.get_config()["height"] == 48
    assert field.get_block_name() == field.get_block_class() == "file"


def test_every_file_that_a_handler_is_given_comes_from_such_a_field():
    page = build_page(fake_context(FakeRun()))
    handled = [event for event in page.fns.values() if event.fn is not None]  # and not by the browser alone
    read = {field for event in handled for field in event.inputs if isinstance(field, gr.File)}
    assert {field.label for field in read if not isinstance(field, Upload)} == set()
    assert len(read) > 4


# Which addresses are served


SHUT = (
    ("POST", "gradio_api/process_recording"), ("GET", "gradio_api/deep_link?session_hash=a"), ("GET", "monitoring"),
    ("GET", "monitoring/summary"), ("GET", "gradio_api/vibe-code"), ("POST", "gradio_api/vibe-edit"),
    ("GET", "gradio_api/openapi.json"), ("GET", "docs"), ("GET", "redoc"), ("GET", "openapi.json"),
    ("GET", "gradio_api/token"), ("GET", "gradio_api/dev/reload"),
    ("POST", "gradio_api/component_server"), ("GET", "gradio_api/proxy=https://a.hf.space/"),
    ("POST", "gradio_api/stream/a"), ("GET", "gradio_api/runs"), ("POST", "gradio_api/run-history/connect"),
    ("GET", "gradio_api/queue/status"), ("GET", "custom_component/a/client/component/b"), ("PUT", ""),
    ("GET", "gradio_api/profiling/traces"), ("POST", "gradio_api/api/control"), ("GET", "gradio_api/file/etc/passwd"),
    ("GET", "GRADIO_API/deep_link"), ("GET", "gradio_api%2Fdeep_link"), ("GET", "/gradio_api/deep_link"),
    ("POST", "gradio_api/process_recording/"), ("GET", "gradio_api/../gradio_api/deep_link"),
    ("DELETE", "gradio_api/upload"), ("POST", "gradio_api/upload/../monitoring"),
    *((method, f"gradio_api/file={place}") for method in ("GET", "HEAD") for place in (
        "https://localhost/x", "http://localhost/x", "HTTPS://localhost/x", "https%3A//localhost/x",
        "https:%2F%2Fhost/x", "https%253A//localhost/x", "//localhost/x", "%2F%2Flocalhost/x", "%5C%5Clocalhost%5Cx", "%20https://localhost/x",
        "ftp://localhost/x", "file:///etc/passwd", "https:/localhost/x", "data:text/html,x",
    )),
)  # fmt: skip


def test_what_the_page_has_no_use_for_is_not_there(address):
    with httpx.Client(timeout=PATIENCE) as client:
        for method, path in SHUT:
            answer = client.request(method, address + path)
            assert answer.status_code == 404, path
            assert method == "HEAD" or answer.text == guard.NOT_SERVED, path


@pytest.mark.parametrize("path", ["/tmp/a/b:c.mp4", "C:/a/clip.mp4", "C:\\a\\clip.mp4", "assets/a http: b.png"])  # noqa: S108
def test_files_have_paths_in_which_a_colon_may_be(path):
    assert Door().serves("GET", f"/gradio_api/file={path}")


def test_a_socket_of_another_kind_is_not_opened():
    opened = []

    async def app(*_: object) -> None:
        opened.append(True)

    asyncio.run(guard.Guard(app, Door(), BOUND)({"type": "websocket", "path": "/"}, None, None))
    assert opened == []


# By which name it is called


def ask(door: Door, app=None, method: str = "GET", path: str = "/", sent: bytes = b"", **headers: str):
    """The answer of a guard in front of a small app: its status, headers and text, and the head that came through."""
    came, answer = [], {"text": b""}
    head = {"host": "localhost:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
    pieces = [sent[start : start + 2**16] for start in range(0, len(sent), 2**16)] or [b""]

    async def usual(scope, receive, send) -> None:
        came.append({str(key, "latin-1"): str(value, "latin-1") for key, value in scope["headers"]})
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"through"})

    async def receive():
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message) -> None:
        if message["type"] == "http.response.start":
            answer.update(status=message["status"], headers=dict(message["headers"]))
        else:
            answer["text"] += message.get("body", b"")

    scope = {
        "type": "http", "method": method, "path": path.partition("?")[0], "root_path": "",
        "query_string": path.partition("?")[2].encode(),
        "headers": [(name.encode(), value.encode()) for name, value in head.items()],
    }  # fmt: skip
    asyncio.run(guard.Guard(app or usual, door, BOUND)(scope, receive, send))
    return answer["status"], answer["headers"], str(answer["text"], "utf-8"), came


async def reads_all(_, receive, send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"through"})


class Request:
    """A request to a guard, from some place; one that does not end waits for ever with the last of it."""

    def __init__(self, middleware, place, sent=b"", ends=True, path="/gradio_api/queue/join", pieces=2**20, **more):
        self._guard, self.sent, self._ends, self._pieces = middleware, sent, ends, pieces
        self.taken, self.headers = asyncio.Event(), {}
        kind = f"multipart/form-data; boundary={BOUNDARY_TEXT}".encode()
        self._scope = {
            "type": "http", "method": "POST", "path": path, "root_path": "", "query_string": b"", "client": (place, 1),
            "headers": [(b"host", b"localhost"), (b"content-type", kind)], **more,
        }  # fmt: skip
        self._status = 0

    async def ask(self) -> int:
        await self._guard(self._scope, self._receive, self._send)
        return self._status

    async def _receive(self):
        if not self.sent and not self._ends:
            self.taken.set()
            await asyncio.Event().wait()
        piece, self.sent = self.sent[: self._pieces], self.sent[self._pieces :]
        return {"type": "http.request", "body": piece, "more_body": bool(self.sent) or not self._ends}

    async def _send(self, message):
        if message["type"] == "http.response.start":
            self._status, self.headers = message["status"], dict(message["headers"])
            self.taken.set()


OWN, NAMED, ANY = Door(), Door(hosts=("studio.example",)), Door(hosts=None)


@pytest.mark.parametrize(
    ("door", "host", "origin", "status"),
    [
        (OWN, "localhost:7860", None, 200),
        (OWN, "127.0.0.1:7860", "http://127.0.0.1:7860", 200),
        (OWN, "127.0.0.9", "http://127.0.0.9", 200),
        (OWN, "[::1]:7860", "http://[::1]:7860", 200),
        (OWN, "LOCALHOST:7860", "http://localhost:7860", 200),
        (OWN, "evil.example:7860", None, 403),
        (OWN, "evil.example:7860", "http://evil.example:7860", 403),
        (OWN, "localhost.evil.example", None, 403),
        (OWN, "127.0.0.1.evil.example", None, 403),
        (OWN, "", None, 403),
        (OWN, "localhost:7860", "http://evil.example", 403),
        (OWN, "localhost:7860", "http://localhost:3000", 403),
        (OWN, "localhost:7860", "http://localhost:7860@evil.example", 403),
        (OWN, "localhost:7860", "null", 403),
        (NAMED, "studio.example", "https://studio.example", 200),
        (NAMED, "studio.example.", None, 200),
        (NAMED, "localhost:7860", "https://studio.example", 200),
        (NAMED, "evil.example", None, 403),
        (ANY, "evil.example", "http://evil.example", 200),
        (ANY, "studio.example", "http://elsewhere.example", 200),
    ],
)
def test_on_ones_own_machine_no_other_name_and_no_other_page_is_served(door, host, origin, status):
    headers = {"host": host, **({} if origin is None else {"origin": origin})}
    for method, path in (("GET", "/config"), ("POST", "/gradio_api/run/predict")):
        found, _, text, came = ask(door, method=method, path=path, **headers)
        assert found == status, text
        assert bool(came) is (status == 200)
        assert status == 200 or "--allowed-host" in text


def test_the_arguments_say_by_which_names_it_is_called(monkeypatch):
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME", "GRADIO_ROOT_PATH", "GRADIO_SHARE", "BIVDIFF_ALLOWED_HOSTS"):
        monkeypatch.delenv(name, raising=False)

    def door(*arguments: str) -> Door:
        return serving.door_of(serving.build_parser().parse_args(arguments))

    assert not door().knows("studio.example")
    assert door("--server-name", "::1").knows("[::1]:7860")
    assert door("--allowed-host", "studio.example").knows("studio.example:443")
    assert door("--server-name", "0.0.0.0").hosts is None  # noqa: S104 - nothing is bound to it
    assert not door("--server-name", "0.0.0.0", "--allowed-host", "a.example").knows("b.example")  # noqa: S104
    monkeypatch.setenv("BIVDIFF_ALLOWED_HOSTS", "a.example, b.example")
    assert all(door().knows(name) for name in ("a.example", "b.example", "localhost"))
    monkeypatch.setenv("SPACE_ID", "ada/studio")
    assert door().on_space
    assert door().behind_proxy
    monkeypatch.delenv("SPACE_ID")
    proxied = [door(*given) for given in ([], ["--root-path", "/a"], ["--share"])]
    assert [(each.behind_proxy, each.from_afar) for each in proxied] == [(False, False), (True, False), (True, True)]


def test_the_name_that_a_proxy_says_counts_only_behind_one():
    said = {"x_forwarded_host": "evil.example", "x_gradio_server": "http://evil.example", "x_other": "1"}
    assert set(ask(OWN, **said)[3][0]) == {"host", "x-other"}
    assert ask(Door(behind_proxy=True), **said)[3][0]["x-forwarded-host"] == "evil.example"


ADA, EVE = "8.8.8.8", "9.9.9.9"  # addresses of all the world


@pytest.mark.parametrize(
    ("peer", "said", "near", "far"),
    [
        ("127.0.0.1", [ADA], ADA, ADA),
        ("10.0.0.1", [ADA], ADA, ADA),
        (None, [ADA], ADA, ADA),
        ("127.0.0.1", [f"{EVE}, {ADA}"], ADA, ADA),
        ("127.0.0.1", [EVE, ADA], ADA, ADA),  # a line of their own, beside that of the proxy
        ("127.0.0.1", [f"{EVE}, 192.168.1.5"], "192.168.1.5", EVE),  # of a visitor nearby, or of another proxy
        ("127.0.0.1", [f"{ADA}:5678"], ADA, ADA),
        ("127.0.0.1", ["[2a00::1]:80"], "2a00::1", "2a00::1"),
        ("127.0.0.1", [f"{ADA}, 127.0.0.1"], ADA, ADA),
        ("10.0.0.1", [f"{ADA}, 10.0.0.1:80, [::1]:80,"], "10.0.0.1", ADA),
        ("192.168.1.5", [f"{EVE}, 192.168.1.5"], "192.168.1.5", EVE),  # uvicorn has believed a proxy on this machine
        ("127.0.0.1", [f"{EVE}, unknown"], "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1", "127.0.0.1"),
        (ADA, [EVE], ADA, ADA),  # it goes past the proxy
        ("2a00::1", [EVE], "2a00::1", "2a00::1"),
    ],
)
def test_who_asks_is_whom_the_proxy_says_and_nobody_else(peer, said, near, far):
    lines = [(b"x-forwarded-for", each.encode()) for each in said]
    scope = {"client": None if peer is None else (peer, 5), "headers": lines}
    assert [guard.client_of(scope, from_afar)[0] for from_afar in (False, True)] == [near, far]


# What a browser may do, and what is said where a request cannot be read


def test_every_answer_says_what_a_browser_may_do_with_it(address):
    for path in ("", "config", "nowhere", "gradio_api/info", "theme.css", "gradio_api/file=/etc/passwd"):
        headers = httpx.get(address + path, timeout=PATIENCE).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "same-origin", path
        content = headers["content-security-policy"]
        assert "http" not in content, path
        assert ("sandbox" in content) is ("file=" in path), path
    framed = str(ask(Door(on_space=True))[1][b"content-security-policy"], "latin-1")
    assert "frame-ancestors 'self' https://huggingface.co" in framed


def test_a_request_is_bounded_and_says_so(monkeypatch):
    monkeypatch.setattr(guard, "MOST_BODY", 100_000)
    path = "/gradio_api/queue/join"
    assert ask(OWN, method="POST", path=path, sent=bytes(90_000))[0] == 200
    status, _, text, _ = ask(OWN, method="POST", path=path, sent=bytes(200_000))
    assert (status, text) == (413, guard.TOO_LARGE)
    status, _, text, _ = ask(OWN, method="POST", path=path, sent=b"[" + b"[]," * 20_000 + b"[]]")
    assert (status, text) == (413, guard.TOO_MANY)
    monkeypatch.setattr(guard, "MOST_BODIES", 20_000)
    status, _, text, _ = ask(OWN, method="POST", path=path, sent=bytes(90_000))
    assert (status, text) == (503, guard.BUSY)
    assert ask(OWN, method="POST", path=path, sent=bytes(guard.SMALL_BODY))[0] == 200  # whatever else is being read


def test_bodies_that_never_end_leave_room_for_those_of_others(monkeypatch):
    monkeypatch.setattr(guard, "MOST_BODIES", 4 * guard.MOST_BODY)
    middleware = guard.Guard(reads_all, Door(hosts=None), BOUND)
    large = bytes(guard.MOST_BODY - 1000)

    async def attack() -> dict[str, int]:
        held = [Request(middleware, f"203.0.113.{number % 3}", large, ends=False) for number in range(17)]
        tasks = [asyncio.create_task(each.ask()) for each in held]
        for each in held:
            await each.taken.wait()
        asked = {
            "small": Request(middleware, "203.0.113.0", b"{}"), "mine": Request(middleware, "203.0.113.0", large),
            "of another": Request(middleware, "198.51.100.1", bytes(2**20)),
        }  # fmt: skip
        found = {name: await each.ask() for name, each in asked.items()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        found["afterwards"] = await Request(middleware, "203.0.113.0", large).ask()
        return found

    monkeypatch.setattr(guard, "DRAINED_SECONDS", 0.0)
    assert asyncio.run(attack()) == {"small": 200, "mine": 503, "of another": 200, "afterwards": 200}


def test_open_requests_of_one_address_leave_room_for_those_of_others(monkeypatch):
    monkeypatch.setattr(guard, "MOST_OPEN", 60)

    async def streams(*_: object) -> None:
        await asyncio.Event().wait()

    async def attack() -> list[list[int]]:
        middleware = guard.Guard(streams, Door(hosts=None), BOUND)
        answers, tasks = [], []
        for place in (EVE, ADA, "192.0.2.1", "127.0.0.1"):
            asked = (Request(middleware, place, method="GET", path="/gradio_api/heartbeat/a") for _ in range(30))
            mine = [asyncio.create_task(each.ask()) for each in asked]
            await asyncio.wait(mine, timeout=0)
            answers.append([task.result() for task in mine if task.done()])
            tasks += mine
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        again = asyncio.create_task(Request(middleware, EVE, b"{}").ask())
        await asyncio.wait([again], timeout=0)
        assert not again.done()
        again.cancel()
        return answers

    refused = asyncio.run(attack())
    assert [30 - len(each) for each in refused] == [20, 13, 9, 18]  # who sits at the machine has what is left
    assert {status for each in refused for status in each} == {503}


def test_no_more_requests_are_open_than_the_system_allows():
    assert 0 < guard.most_open() <= guard.MOST_OPEN


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/upload"])
def test_a_request_that_comes_too_slowly_ends_with_a_sentence(monkeypatch, path, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for bound in ("BODY_SECONDS", "PIECE_SECONDS"):
        monkeypatch.setattr(guard, bound, 0.01)
    request = Request(guard.Guard(reads_all, Door(hosts=None), BOUND), "203.0.113.1", part(1)[:-2], False, path)
    assert asyncio.run(request.ask()) == 408
    assert request.headers[b"connection"] == b"close"


def test_a_request_that_trickles_ends_by_the_clock():
    now = iter(range(10**6))
    middleware = guard.Guard(reads_all, Door(hosts=None), BOUND, clock=lambda: float(next(now)))
    request = Request(middleware, "203.0.113.1", b"x" * 10**5, pieces=1)
    assert asyncio.run(request.ask()) == 408
    assert len(request.sent) > 10**5 - 2 * guard.BODY_SECONDS


def test_a_disk_that_is_full_is_told():
    async def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    status, _, text, _ = ask(OWN, full, "POST", "/gradio_api/run/predict")
    assert (status, text) == (507, guard.DISK_FULL)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("call/v2/nowhere", {}),
        ("call/nowhere", {"data": []}),
        ("call/v2/control", {"smell": 1}),
        ("call/v2/history_delete", {"run_id": {"a": []}, "smell": 2}),
        ("run/predict", {"fn_index": 10**6, "data": []}),
        ("run/predict", {"fn_index": "a"}),
        ("queue/join", {"fn_index": 10**6, "data": [], "session_hash": "a"}),
        ("queue/join", {"data": []}),
        ("queue/join", []),
        ("call/control", {}),
        ("cancel", {}),
    ],
)
def test_what_cannot_be_read_is_told_and_fails_nothing(address, path, sent):
    answer = httpx.post(f"{address}gradio_api/{path}", content=json.dumps(sent), timeout=PATIENCE,
                        headers={"Content-Type": "application/json"})  # fmt: skip
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert len(answer.text) > 20


@pytest.mark.parametrize("path", ["queue/data?session_hash=nobody", "call/control/nothing"])
def test_who_reads_what_nobody_asked_for_is_told_so_and_the_answer_ends(address, path):
    answer = httpx.get(f"{address}gradio_api/{path}", timeout=PATIENCE)
    assert answer.status_code == 200
    assert "error" in answer.text


# What is stored of each window


def held_by_this_file(make):
    """What is made, and the bytes that were allocated for it and not freed, whatever other threads do meanwhile."""
    tracemalloc.start(100)
    try:
        made = make()
        gc.collect()
        traces = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__, all_frames=True)]).traces
        return made, sum(trace.size for trace in traces)
    finally:
        tracemalloc.stop()


def test_a_session_is_small_and_holds_what_is_its_own():
    page = build_page(fake_context(FakeRun()))
    one, other = SessionState(page), SessionState(page)
    assert isinstance(one.blocks_config.blocks, ChainMap)
    key = next(key for key, block in page.blocks.items() if isinstance(block, gr.Textbox))
    changed = gr.Textbox(label="mine", render=False)
    one[key] = changed
    assert one[key] is changed
    assert other[key] is page.blocks[key] is SessionState(page)[key]
    state = next(key for key, block in page.blocks.items() if isinstance(block, gr.State))
    one[state] = 5
    assert (one[state], other[state] == 5) == (5, False)
    kept, held = held_by_this_file(lambda: [SessionState(page) for _ in range(100)])
    assert 0 < held < len(kept) * 20_000  # half of what they may cost with what they choose


def test_there_are_only_so_many_sessions():
    assert launch_options()["state_session_capacity"] <= 5000


def test_what_windows_keep_is_bounded_for_one_and_for_all(monkeypatch):
    page, holder = build_page(fake_context(FakeRun())), StateHolder()
    holder.set_blocks(page)
    state = next(key for key, block in page.blocks.items() if isinstance(block, gr.State))
    with pytest.raises(gr.Error, match="more than the page can keep"):
        holder["large"][state] = {"paint": "x" * (sessions.MOST_OF_ONE + 1)}
    monkeypatch.setattr(sessions, "MOST_OF_ALL", 10_000)
    monkeypatch.setattr(sessions, "WEIGHED_EVERY", 1)
    holder["ada"][state] = "a" * 1000
    for number in range(20):
        holder[f"eve-{number}"][state] = "e" * 2000
    holder["bob"][state] = "b"
    assert holder["ada"][state] == "a" * 1000  # those that keep most leave, and not those that were here first
    kept = sum(len(each.state_data.get(state) or "") for each in holder.session_data.values())
    assert kept <= 10_000


def test_a_tabs_settings_that_wait_to_be_compared_have_no_clip():
    page = build_page(fake_context(FakeRun()))
    event = next(each for each in page.fns.values() if each.api_name == "smooth_compare")
    pending, *_, taken = event.fn(*[getattr(part, "value", None) for part in event.inputs])
    assert pending.task == taken == "smooth"
    assert bytes_in(pending) < 20_000


def test_a_window_that_was_forgotten_compares_nothing_else_and_says_what_to_do():
    run = FakeRun()
    context = fake_context(run)
    shown = list(compare.compare(context, {}, None, "0,1", "", [], "ada" * 8, taken="smooth"))
    assert "forgotten what was to be compared" in shown[-1].panel["headline"] + shown[-1].panel["detail"]
    assert "“Your own frames” still has it" in shown[-1].panel["headline"] + shown[-1].panel["detail"]
    assert context.jobs.of("ada" * 8) == []
    with pytest.raises(gr.Error, match="the studio has forgotten it"):
        compare.send_back(context, [], {"chosen": 1}, None, "")
