"""The studio in the browser: `python app.py`."""

from __future__ import annotations

import logging
import os
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
    from tabs.context import AppContext

WARM_UP_AFTER = 5.0  # seconds
WRITTEN_WITHIN = 60.0  # seconds that the files of what is made have, where the app is interrupted


def main() -> None:
    """Serve the page until it is interrupted."""
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
    page.block_thread()  # until it is interrupted
    context.jobs.close(WRITTEN_WITHIN)


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
    main()
