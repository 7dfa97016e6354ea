"""Whether a batch loses or repeats anything where its processes are killed, how fast it is, and what scheduling costs.

    python benchmarks/batch.py proof --executor ray
    python benchmarks/batch.py throughput --jobs 12
    python benchmarks/batch.py simulate --clips 1000 --workers 32

`proof` makes 40 toybox jobs, three of them of broken files, with two workers. One worker's process is killed when a
quarter is done, the driver's when half is, and the same is called again. It fails unless every other job is done, none
was made twice, and all files have the bytes of single runs. `throughput` makes the same jobs with one worker and with
two. `simulate` runs the real schedule in virtual time, with measured seconds for a clip and a load of models, beside
jobs that are handed out in their order. All figures come as JSON.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.batch.schedule import Schedule
from bivdiff.toybox.clips import load_index

ROOT = Path(__file__).resolve().parent.parent
BROKEN = (7, 19, 33)


def main() -> int:
    """Measure, and print it; returns the exit status, 1 where the proof fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("proof", "throughput"):
        part = parts.add_parser(name)
        part.add_argument("--executor", default="local")
        part.add_argument("--jobs", type=int, default=40)
        part.add_argument("--steps", type=int, default=2)
        part.add_argument("--frames", type=int, default=8)
    part = parts.add_parser("simulate")
    part.add_argument("--clips", type=int, default=1000)
    part.add_argument("--workers", type=int, default=32)
    part.add_argument("--kinds", type=int, default=5, help="sets of models that the clips need")
    part.add_argument("--clip-seconds", type=float, default=20.7, help="for a clip, on average")
    part.add_argument("--load-seconds", type=float, default=15.0, help="for another set of models")
    args = parser.parse_args()
    if args.part == "simulate":
        report: dict[str, Any] = simulated(args)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = (proof if args.part == "proof" else throughput)(args, Path(folder))
    print(json.dumps({"load": os.getloadavg()[0], "cores": os.cpu_count(), **report}, indent=2))
    return int(bool(report.get("wrong")))


# Real jobs


def write_jobs(path: Path, args: argparse.Namespace, broken: Sequence[int] = ()) -> list[dict[str, Any]]:
    """A list of jobs of two tasks; those of the numbers in `broken` have a file that is cut short."""
    clips, lines = load_index(), []
    steps = dict.fromkeys(("num_inference_steps", "num_inversion_steps", "num_smoothing_steps"), args.steps)
    for number in range(args.jobs):
        clip = clips[number % len(clips)]
        line = {"id": f"job-{number:02}", "video": str(clip.file), "prompt": clip.prompt, "seed": number}
        if number in broken:
            line["video"] = str(path.parent / f"broken-{number}.mp4")
            Path(line["video"]).write_bytes(clip.file.read_bytes()[:2000])
        lines.append({**line, "task": ("control", "smooth")[number % 2], "num_frames": args.frames, **steps})
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return lines


def environment(folder: Path) -> dict[str, str]:
    """One thread for each process, so that all round alike, and a cache of its own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "BIVDIFF_DEVICE": "cpu", "BIVDIFF_CACHE_FOLDER": str(folder)}


@contextmanager
def driver(jobs: Path, out: Path, args: argparse.Namespace, workers: int) -> Iterator[subprocess.Popen[str]]:
    """A batch in a process of its own, whose standard error can be read."""
    command = ["batch", str(jobs), "--output", str(out), "--json"]
    command += ["--executor", args.executor, "--workers", str(workers)]
    with subprocess.Popen(
        [sys.executable, "-m", "bivdiff", *command], cwd=ROOT, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, env=environment(out.with_name(f"stages of {out.name}")),
    ) as process:  # fmt: skip
        yield process


def done_in(out: Path) -> list[dict[str, Any]]:
    """The lines of the results, as far as they are whole."""
    path = out / "results.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that compute for a driver."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        words = " ".join(child.cmdline())
        if "spawn_main" in words or "ServingActor" in words:
            found.append(child)
    return found


def proof(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill a worker and the driver, call again, and hold all files against those of single runs."""
    lines = write_jobs(folder / "jobs.jsonl", args, BROKEN)
    out, killed = folder / "out", {}
    with driver(folder / "jobs.jsonl", out, args, 2) as process:
        for line in process.stderr:
            ended = sum(each["status"] != "refused" for each in done_in(out))
            if "worker" not in killed and ended >= len(lines) // 4 and line.startswith("job-"):
                killed["worker"] = workers_of(process)[0].pid
                psutil.Process(killed["worker"]).kill()
            if ended >= len(lines) // 2:
                killed["driver"] = process.pid
                process.kill()
                break
    left_behind = done_in(out)
    times = {each["id"]: (out / each["files"]["result"]).stat().st_mtime_ns for each in left_behind if each["files"]}
    with driver(folder / "jobs.jsonl", out, args, 2) as process:
        report = json.loads(process.communicate()[0])
    wrong = _differences(lines, out, times, folder / "single")
    return {
        "executor": args.executor, "jobs": len(lines), "killed": list(killed), "done_before_the_kill": len(times),
        "second_call": {name: report[name] for name in ("done", "done_before", "failed", "refused")}, "wrong": wrong,
    }  # fmt: skip


def _differences(lines: Sequence[dict[str, Any]], out: Path, times: dict[str, int], single: Path) -> list[str]:
    results, wrong = done_in(out), []
    status = {each["id"]: each["status"] for each in results}
    for number, line in enumerate(lines):
        wanted = "refused" if number in BROKEN else "done"
        if status.get(line["id"]) != wanted:
            wrong.append(f"{line['id']} is {status.get(line['id'])}, not {wanted}")
    if len(results) != len(lines):
        wrong.append(f"{len(results)} lines for {len(lines)} jobs")
    wrong += [f"{name} was made twice" for name, at in times.items() if (out / f"{name}.mp4").stat().st_mtime_ns != at]
    write_single(lines, single)
    for path in sorted(single.glob("*.mp4")):
        if not (out / path.name).is_file() or path.read_bytes() != (out / path.name).read_bytes():
            wrong.append(f"{path.name} has other bytes than a single run's")
    made = {path.name for path in out.glob("*.mp4")}
    return wrong + [f"{name} is no single run's" for name in sorted(made - {path.name for path in single.iterdir()})]


def write_single(lines: Sequence[dict[str, Any]], single: Path) -> None:
    """The same by single runs, in one process."""
    single.mkdir()
    commands = []
    for number, line in enumerate(lines):
        if number not in BROKEN:
            flags = [
                word
                for name, value in line.items()
                if name != "id"
                for word in (f"--{name.replace('_', '-')}", str(value))
            ]
            commands.append(["run", *flags, "--output", str(single / f"{line['id']}.mp4")])
    code = "import json,sys; from bivdiff.cli.main import main; sys.exit(max(map(main, json.load(sys.stdin))))"
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=json.dumps(commands), text=True, check=True, capture_output=True,
        env=environment(single / "stages"),
    )  # fmt: skip


def throughput(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Clips a minute, and how busy the driver is, of one worker and of two."""
    report: dict[str, Any] = {"executor": args.executor, "jobs": args.jobs, "frames": args.frames, "steps": args.steps}
    write_jobs(folder / "jobs.jsonl", args)
    for workers in (1, 2):
        began, out = time.monotonic(), folder / f"out-{workers}"
        with driver(folder / "jobs.jsonl", out, args, workers) as process:
            watched, cpu = psutil.Process(process.pid), 0.0
            first = None
            for line in process.stderr:
                if first is None and line.startswith("job-"):
                    first = time.monotonic()  # until then libraries are imported and models loaded
                times = watched.cpu_times()
                cpu = times.user + times.system
            told = json.loads(process.stdout.read())
        seconds = time.monotonic() - (first or began)
        report[f"{workers} workers"] = {
            "seconds": round(told["seconds"], 1), "clips_a_minute": round(60 * (args.jobs - 1) / seconds, 1),
            "busy_share": round(told["busy_seconds"] / told["seconds"] / workers, 3),
            # With one local worker the driver is the worker.
            "driver_cpu_seconds": round(cpu, 1), "model_loads": told["model_loads"],
        }  # fmt: skip
    return report


# Virtual jobs


def simulated(args: argparse.Namespace) -> dict[str, Any]:
    """What the schedule makes of many clips on many workers, beside jobs that are handed out in their order."""
    drawn = random.Random(0)  # noqa: S311 - no secret
    jobs = [(drawn.randrange(args.kinds), drawn.uniform(0.5, 1.5) * args.clip_seconds) for _ in range(args.clips)]
    least = sum(seconds for _, seconds in jobs) / args.workers
    return {
        "clips": args.clips, "workers": args.workers, "kinds_of_models": args.kinds,
        "least_seconds": round(least, 1),
        "schedule": _virtual(jobs, args, by_models=True), "in_their_order": _virtual(jobs, args, by_models=False),
    }  # fmt: skip


def _virtual(jobs: Sequence[tuple[int, float]], args: argparse.Namespace, *, by_models: bool) -> dict[str, float]:
    schedule = Schedule((kind if by_models else 0, (kind, seconds)) for kind, seconds in jobs)
    free = [(0.0, number) for number in range(args.workers)]
    loaded: dict[int, int] = {}
    loads, deciding, last, working = 0, 0.0, 0.0, set[int]()
    while free:
        now, number = heapq.heappop(free)
        if number in working:
            schedule.ended()
            working.discard(number)
        if not schedule.left():
            continue
        began = time.perf_counter()
        taken = schedule.take(number)
        deciding += time.perf_counter() - began
        if taken is None:
            continue
        working.add(number)
        kind, seconds = taken
        if loaded.get(number) != kind:
            loads, loaded[number], seconds = loads + 1, kind, seconds + args.load_seconds
        last = max(last, now + seconds)
        heapq.heappush(free, (now + seconds, number))
    return {
        "seconds": round(last, 1), "loads": loads, "load_seconds_of_all_workers": round(loads * args.load_seconds, 1),
        "microseconds_a_decision": round(1e6 * deciding / len(jobs), 1),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
