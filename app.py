"""The studio in the browser: `python app.py`.

In it: from arguments and environment to a served page. Not in it: the page (tabs), the method (bivdiff). Importing this
file starts nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from dataclasses import replace

from bivdiff.catalog import extend
from bivdiff.errors import BIVDiffError
from bivdiff.settings import Settings

WARM_UP_AFTER = 5.0  # seconds


def build_parser() -> argparse.ArgumentParser:
    """The parser of the arguments; what is not given is left to the environment."""
    parser = argparse.ArgumentParser(description="BIVDiff Studio in the browser.")
    parser.add_argument("--host", help="address to serve at; 0.0.0.0 is every one (GRADIO_SERVER_NAME, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to serve at (GRADIO_SERVER_PORT, or the first free from 7860)")
    parser.add_argument("--device", help="auto, cpu, cuda or mps (BIVDIFF_DEVICE, or auto)")
    parser.add_argument("--share", action="store_true", help="also open a public link, for a few days")
    parser.add_argument("--open", action="store_true", help="show the page in the default browser")
    return parser


def main() -> None:
    """Serve the page until it is interrupted."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    given = build_parser().parse_args()
    settings = Settings.from_env()
    if given.device:
        settings = replace(settings, device=given.device)
    try:
        if settings.catalog:
            extend(settings.catalog)
        from tabs.context import AppContext, warm_up
        from tabs.page import build_page, launch_options

        page = build_page(AppContext.from_settings(settings))
    except BIVDiffError as error:
        sys.exit(str(error))
    page.launch(
        server_name=given.host, server_port=given.port, share=given.share, inbrowser=given.open,
        prevent_thread_lock=True, **launch_options(),
    )  # fmt: skip
    # Not at once: importing would hold up the first page.
    warming = threading.Timer(WARM_UP_AFTER, warm_up)
    warming.daemon = True
    warming.start()
    page.block_thread()


if __name__ == "__main__":
    main()
