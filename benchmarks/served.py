"""The real app in a process of its own, at a free port, with all that it stores in a folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300  # seconds that the app may take to start, and an answer to come


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[tuple[str, psutil.Process]]:
    """The real app, with all that it stores in a folder: its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {f"BIVDIFF_{name.upper()}_FOLDER": str(folder / name) for name in ("history", "cache", "models")}
    environment = {
        **os.environ, **places, "GRADIO_TEMP_DIR": str(folder / "uploads"), "BIVDIFF_FAMILIES": "toybox",
        "BIVDIFF_DEVICE": "cpu", **variables,
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "app.py"), "--server-port", str(port), *arguments]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as app:
        try:
            address = f"http://127.0.0.1:{port}/"
            _await(address, app, folder / "log")
            yield address, psutil.Process(app.pid)
        finally:
            app.terminate()


def _await(address: str, app: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the app answers, and its libraries are there."""
    ended = time.monotonic() + PATIENCE
    while not _answers(address):
        if time.monotonic() > ended or app.poll() is not None:
            raise SystemExit(f"The app did not start. It says:\n{log.read_text()[-2000:]}")
        time.sleep(0.5)
    time.sleep(20)  # it imports the models' libraries some seconds after its start


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=PATIENCE).is_success
    except httpx.TransportError:
        return False
