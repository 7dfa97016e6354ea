"""The studio in the browser: `python app.py`."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from bivdiff.catalog.families import extend
from bivdiff.errors import BIVDiffError
from bivdiff.settings import Settings
from tabs.serving import (
    build_parser,
    door_of,
    open_door,
    open_to_others,
    root_of,
    serving_options,
    visitors_settings,
)

if TYPE_CHECKING:
    from gradio import Blocks

    from tabs.context import AppContext

WARM_UP_AFTER = 5.0  # seconds
WRITTEN_WITHIN = 60.0  # seconds that the files of what is made have, where the app is interrupted


def main() -> int:
    """Serve the page until it is interrupted; returns the exit status."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    given = build_parser().parse_args()
    try:
        serving = serving_options(given)
        settings = visitors_settings(Settings.from_env(), open_to_others(given), bool(serving["auth"]))
        if given.device:
            settings = replace(settings, device=given.device)
        if settings.catalog:
            extend(settings.catalog)
        from tabs.context import AppContext
        from tabs.page import build_page, launch_options
        from tabs.uploads import own_folder

        own_folder()
        context = AppContext.from_settings(settings)
        options = serving | launch_options(settings, door_of(given), context.runs, root_of(given))
        page = build_page(context)
    except BIVDiffError as error:
        sys.exit(str(error))
    if warning := open_door(given, bool(serving["auth"])):
        sys.stderr.write(f"{warning}\n")
    log_stages()
    told = end_signals()
    try:
        page.launch(prevent_thread_lock=True, **options)
    except OSError as error:  # what Gradio raises where no port is free
        sys.exit(
            f"The page cannot be served: {error} Another --server-port may be free; --server-name names the address."
        )
    # Not at once: importing would hold up the first page.
    warming = threading.Timer(WARM_UP_AFTER, start_up, [context])
    warming.daemon = True
    warming.start()
    return serve_until_told(page, context, told)


def end_signals() -> queue.SimpleQueue[int]:
    """Where Ctrl+C, and what ends services and containers, is put from now on; a second ends the process at once."""
    told: queue.SimpleQueue[int] = queue.SimpleQueue()

    def tell(number: int, _: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: os._exit(128 + number))  # who says it twice does not want to wait
        told.put(number)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, tell)
    return told


def serve_until_told(page: Blocks, context: AppContext, told: queue.SimpleQueue[int]) -> int:
    """Wait for one of the `end_signals`, and close the studio; returns the exit status.

    The files of what has been made are written; what is being made is not waited for, and the next start of the studio
    marks it in the history as interrupted.
    """
    status = 128 + told.get()
    sys.stderr.write("Stopped. Runs that were not finished are in the history, and can be made again from there.\n")
    from gradio.tunneling import CURRENT_TUNNELS

    for tunnel in CURRENT_TUNNELS:
        tunnel.kill()  # type: ignore[no-untyped-call]
    page.close(verbose=False)
    context.jobs.close(WRITTEN_WITHIN)
    return status


def start_up(context: AppContext) -> None:
    """Load the models' libraries, and tell what computes here and with which versions."""
    logging.getLogger("bivdiff").info(context.start_up())


def log_stages() -> None:
    """Write the studio's own log, a line for each stage of a run, to the terminal."""
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in ("bivdiff", "tabs"):
        log = logging.getLogger(name)
        log.setLevel(logging.INFO)
        log.addHandler(lines)
        log.propagate = False


if __name__ == "__main__":
    try:
        ended = main()
    except KeyboardInterrupt:  # before anything was served
        ended = 128 + signal.SIGINT
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)  # what is being made would hold up a usual end, or fail in the middle of it
