"""What the windows of a page cost: memory of the app before and after thousands of them have used it.

    python benchmarks/sessions.py --sessions 5000

The real app is started at a port of its own with empty folders. Each window looks at the history, fills in a sample's
texts, and goes on to the comparison with its own settings; every tenth has painted a mask before. It ends with status 1
where all of them together cost more than a page may keep.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
from served import PATIENCE, serving

MOST = 200e6  # bytes that 5,000 windows may cost
FIRST = 500  # windows by which everything that all share is there, the memory of all threads included
SIDE_BY_SIDE = 8  # windows that are used at a time
TOLD = 1000  # windows between two lines of the report
PAINT_BYTES = 30_000  # of a painted mask


def main() -> int:
    """Measure, and print what was measured; returns the exit status, 1 if it is too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=5000)
    most = parser.parse_args().sessions
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as (address, process):
        rows = measured(address, process, most)
    cost = rows[-1]["resident_mb"] - rows[0]["resident_mb"]
    print(json.dumps({"rows": rows, "cost_mb": round(cost, 1)}, indent=2))
    return int(cost * 1e6 > MOST * most / 5000)


def measured(address: str, process: psutil.Process, most: int) -> list[dict[str, Any]]:
    """What the app's memory was after how many windows, first after those that brought what all share."""
    rows = []
    paint = "data:image/png;base64," + base64.b64encode(bytes(PAINT_BYTES * 3 // 4)).decode()
    ends = sorted({min(FIRST, most), *range(TOLD, most, TOLD), most})
    with httpx.Client(base_url=address, timeout=PATIENCE) as client, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        events = numbers_of(client)

        def open_window(number: int) -> None:
            use(client, events, f"window-{number}", paint if number % 10 == 0 else "")

        for begun, ended in pairwise([0, *ends]):
            list(pool.map(open_window, range(begun, ended)))
            rows.append({"sessions": ended, "resident_mb": round(process.memory_info().rss / 1e6, 1)})
            sys.stderr.write(f"{json.dumps(rows[-1])}\n")
    return rows


def numbers_of(client: httpx.Client) -> dict[str, tuple[int, list[Any]]]:
    """Number of each of the page's events, and the values that its controls have, by its name."""
    config = client.get("/config").json()
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    return {
        each["api_name"]: (each["id"], [values[key] for key in each["inputs"]])
        for each in config["dependencies"] if each["api_name"]
    }  # fmt: skip


def use(client: httpx.Client, events: dict[str, tuple[int, list[Any]]], window: str, paint: str) -> None:
    """What one window does."""
    for name in ("history_list", "inpaint_compare" if paint else "smooth_compare"):
        number, given = events[name]
        sent = [
            {"sheet": None, "paint": paint} if isinstance(each, dict) and "paint" in each else each for each in given
        ]
        answer = client.post(
            "/gradio_api/queue/join", json={"fn_index": number, "data": sent, "session_hash": window}
        )  # fmt: skip
        answer.raise_for_status()
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": window}) as lines:
            ends = [json.loads(line[6:]) for line in lines.iter_lines() if "process_completed" in line]
        if not all(end["success"] for end in ends):
            raise SystemExit(f"{name} failed: {ends[0]['output']}")


if __name__ == "__main__":
    sys.exit(main())
