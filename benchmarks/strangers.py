"""What strangers do to a served page: good, bad and broken clients side by side, and what the app takes meanwhile."""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from served import PATIENCE, serving

from bivdiff.toybox.clips import load_index
from tabs.serving import VISITORS_FRAMES

CLIENTS = 8  # side by side
EVERY = 15.0  # seconds between two rows
BOUNDS = {
    "BIVDIFF_HISTORY_SIZE": "8MB", "BIVDIFF_CACHE_SIZE": "4MB", "BIVDIFF_UPLOADS_SIZE": "20MB",
    "BIVDIFF_MAX_FRAMES": str(VISITORS_FRAMES),
}  # fmt: skip
MOST_FILES = 8e6 + 4e6 + 20e6
FEW = {"num_frames": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}
BOUNDARY = "strangers"
SHUT = ("gradio_api/deep_link", "monitoring", "gradio_api/process_recording", "gradio_api/file=/etc/passwd", "docs")

Row = dict[str, float]


class Client:
    """One after the other of what clients do, chosen by chance.

    Args:
        address: of the page.
        seed: of the chance.
        outcomes: counts what each came to.
    """

    def __init__(self, address: str, seed: int, outcomes: Counter[str]) -> None:
        self._random, self._outcomes = random.Random(seed), outcomes  # noqa: S311 - it chooses what to do
        self._http = httpx.Client(base_url=address, timeout=2 * PATIENCE)
        self._place = urlsplit(address)
        self._acts: list[Callable[[], str]] = [
            self._looks, self._previews, self._runs, self._compares, self._uploads,
            self._adopts, self._knocks, self._sends_junk, self._sends_too_much,
            self._cuts_an_upload_off, self._never_reads, self._leaves, self._speaks_no_http,
        ]  # fmt: skip

    def work(self, ended: threading.Event) -> None:
        """Do one thing after the other until the end."""
        while not ended.is_set():
            act = self._random.choice(self._acts)
            try:
                outcome = act()
            except httpx.HTTPError as error:
                outcome = type(error).__name__
            self._outcomes[f"{act.__name__[1:]}: {outcome}"] += 1

    def begin(self) -> None:
        """The first run, by which all libraries and models are there."""
        self._outcomes[f"first run: {self._runs()}"] += 1

    # Good ones

    def _looks(self) -> str:
        return "+".join(str(self._http.get(path).status_code) for path in ("/", "/config", "/gradio_api/info"))

    def _previews(self) -> str:
        return self._call(self._random.choice(["control_map", "smooth_source", "inpaint_mask"]),
                          sample=self._random.randrange(3))  # fmt: skip

    def _runs(self) -> str:
        return self._call("smooth", sample=self._random.randrange(3), seed=self._random.randrange(99), **FEW)

    def _compares(self) -> str:
        return self._call("smooth_compare", sample=0, **FEW)

    def _uploads(self) -> str:
        sent = self._upload(load_index()[1].file.read_bytes(), "clip.mp4")
        return self._call("smooth_source", video=sent) if isinstance(sent, dict) else sent

    # Bad ones

    def _adopts(self) -> str:
        made = BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("settings.json", self._random.choice(["{", "[]", '{"bivdiff": 1, "settings": {}}']))
        sent = self._upload(self._random.choice([made.getvalue(), b"\x00" * 1000, b"GIF8", b"PK\x03\x04"]), "run.zip")
        return self._call("history_adopt", file=sent) if isinstance(sent, dict) else sent

    def _knocks(self) -> str:
        statuses = {self._http.get(f"/{path}").status_code for path in SHUT}
        statuses.add(self._http.get("/", headers={"Host": "evil.example"}).status_code)
        return "+".join(map(str, sorted(statuses)))

    def _sends_junk(self) -> str:
        sent = self._random.choice(
            [
                {},
                [],
                {"fn_index": 10**6, "data": []},
                {"data": "x", "fn_index": 3},
                {"fn_index": 1, "data": [{"path": "/etc/passwd"}], "session_hash": "j" * 999},
            ]
        )
        path = self._random.choice(["queue/join", "run/predict", "call/smooth", "call/v2/smooth", "cancel", "reset"])
        return str(self._http.post(f"/gradio_api/{path}", json=sent).status_code // 100 * 100)

    def _sends_too_much(self) -> str:
        return str(self._http.post("/gradio_api/queue/join", content=bytes(17 * 2**20)).status_code)

    # Broken ones

    def _cuts_an_upload_off(self) -> str:
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {self._place.netloc}\r\nTransfer-Encoding: chunked\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        )
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n' + "x" * 50_000
        with self._socket() as sending:
            sending.sendall(f"{head}{len(part):x}\r\n{part}\r\n".encode())
        return "cut off"

    def _never_reads(self) -> str:
        return str(self._http.post("/gradio_api/call/v2/control_map", json={"sample": 0}).status_code)

    def _leaves(self) -> str:
        asked = self._http.post("/gradio_api/call/v2/smooth", json={"sample": 0, **FEW})
        if asked.is_success:
            with self._http.stream("GET", f"/gradio_api/call/v2/smooth/{asked.json()['event_id']}") as lines:
                next(lines.iter_lines(), None)
        return str(asked.status_code)

    def _speaks_no_http(self) -> str:
        with self._socket() as sending, suppress(OSError):
            sending.sendall(self._random.randbytes(2000))
        return "closed"

    def _socket(self) -> socket.socket:
        return socket.create_connection((self._place.hostname, self._place.port or 80), timeout=PATIENCE)

    def _upload(self, data: bytes, name: str) -> dict[str, Any] | str:
        """What an upload is named by; its status where it is refused."""
        # Each is another file, however often the same is sent.
        answer = self._http.post("/gradio_api/upload", files={"files": (name, data + self._random.randbytes(8))})
        if not answer.is_success:
            return str(answer.status_code)
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    def _call(self, name: str, **given: Any) -> str:
        asked = self._http.post(f"/gradio_api/call/v2/{name}", json=given)
        if not asked.is_success:
            return str(asked.status_code)
        told = self._http.get(f"/gradio_api/call/v2/{name}/{asked.json()['event_id']}").text
        if "event: complete" in told:
            return "done"
        return "told why" if '"error": "' in told else f"ended without a word: {told[-100:]}"


def besieged(folder: Path, seconds: float) -> tuple[dict[str, int], list[Row]]:
    """Let clients at the app; how often each came to what, and what was measured every now and then."""
    outcomes, rows, ended = Counter[str](), [], threading.Event()
    with serving(folder, **BOUNDS) as (address, process), ThreadPoolExecutor(CLIENTS) as pool:
        Client(address, 0, outcomes).begin()
        begun = time.monotonic()
        working = [pool.submit(Client(address, seed, outcomes).work, ended) for seed in range(CLIENTS)]
        try:
            while (now := time.monotonic() - begun) < seconds:
                time.sleep(min(EVERY, seconds - now))
                rows.append({"seconds": round(time.monotonic() - begun), **measured(process, folder)})
                sys.stderr.write(f"{json.dumps(rows[-1])}\n")
        finally:
            ended.set()
        for each in working:
            each.result()
        time.sleep(EVERY)
        rows.append({"seconds": round(time.monotonic() - begun), **measured(process, folder)})
    return dict(sorted(outcomes.items())), rows


def measured(process: psutil.Process, folder: Path) -> Row:
    """What the app takes now."""
    files = []
    for path in folder.rglob("*"):
        with suppress(OSError):
            files.append(path.stat().st_size if path.is_file() else 0)
    return {
        "resident_mb": round(process.memory_info().rss / 1e6, 1), "threads": process.num_threads(),
        "open_files": process.num_fds(), "files": len(files), "files_mb": round(sum(files) / 1e6, 2),
    }  # fmt: skip


def wrong(outcomes: dict[str, int]) -> list[str]:
    """Outcomes that there may not be: failures without a sentence."""
    return [each for each in outcomes if each.endswith(" 500") or "without a word" in each or "Error" in each]
