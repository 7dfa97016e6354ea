"""`batch`: make many clips, on one machine or many, and go on where an earlier call was ended."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

from bivdiff.batch.driver import Batch, check_shared
from bivdiff.batch.folder import PAGE, RESULTS, SCORES, BatchFolder
from bivdiff.batch.jobs import Checked, Job, Outcome, checked
from bivdiff.batch.report import table_of, write_report
from bivdiff.cli.arguments import as_path
from bivdiff.cli.flags import add_request_flags, add_source_flags, help_of
from bivdiff.cli.joblist import Refused, colliding, read_jobs
from bivdiff.cli.output import Progress, hide_bars_of_libraries, note
from bivdiff.errors import BIVDiffError, InputError, StoppedError, printable
from bivdiff.fields import table
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest, StepEvent
from bivdiff.workers.crew import EXECUTORS, workers_of

_log = logging.getLogger(__name__)


def add_batch_command(commands: Any) -> None:
    """Add the command and its flags to the parser's commands."""
    batch = commands.add_parser(
        "batch", help="regenerate many clips, on one machine or a cluster",
        description="Regenerate many clips. What is done is on the disk: called again, it goes on where it was ended.",
    )  # fmt: skip
    source = batch.add_mutually_exclusive_group(required=True)
    source.add_argument("jobs", nargs="?", type=as_path, metavar="JOBS.jsonl", help="a JSON object on each line: "
                        "video, prompt, flags of `run` without dashes; flags are what lines do not say")  # fmt: skip
    source.add_argument("--videos", nargs="+", metavar="CLIP", help="instead: clips or patterns such as 'clips/*.mp4', "
                        "all with the settings of the flags")  # fmt: skip
    batch.add_argument("--prompt", help=help_of(table(GenerationRequest)["prompt"]))
    batch.add_argument("--output", type=as_path, required=True, metavar="DIR", help="folder for the clips, a page with "
                       "all of them, scores and results.jsonl; made if need be")  # fmt: skip
    batch.add_argument("--vary", action="append", default=[], metavar="FIELD=V1,V2,...", help="with --videos: a clip "
                       "for each value of a setting too; several settings are multiplied")  # fmt: skip
    batch.add_argument("--executor", choices=EXECUTORS, default="local", help="local: this machine; ray: a Ray "
                       "cluster (default: %(default)s)")  # fmt: skip
    batch.add_argument("--workers", type=int, metavar="N", help="clips made at once, each on a card of its own, or "
                       "with its share of the processor (default: 1; with ray all cards of the cluster)")  # fmt: skip
    batch.add_argument("--address", help="with ray: the cluster to join, auto or host:port (default: RAY_ADDRESS, or "
                       "one on this machine)")  # fmt: skip
    batch.add_argument("--retry-failed", action="store_true", help="make jobs again that failed in an earlier call")
    batch.add_argument("--strict", action="store_true", help="make nothing where a single line is wrong")
    add_source_flags(batch)
    add_request_flags(batch)
    batch.set_defaults(carry_out=batch_command, as_text=_as_text)


def batch_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Check all jobs, make those that are not done, and write what shows them."""
    began = time.monotonic()
    _check_flags(args)
    listed = read_jobs(args)
    with closing(BatchFolder(args.output)) as folder:
        ready, refused = _checked_jobs(listed, folder)
        if refused and args.strict:
            told = "\n".join(f"{each.id}: {each.sentence}" for each in refused)
            raise InputError(f"{told}\nNothing was made, because of --strict.")
        todo = [each for each in ready if not _is_over(each, folder, args.retry_failed)]
        note(f"{len(todo)} of {len(listed)} jobs to be made.")
        stopped = False
        try:
            batch = _carry_out(todo, folder, args, settings) if todo else None
        except KeyboardInterrupt:
            stopped = True
        outcomes = [found for each in ready if (found := folder.outcomes.get(each.key))] + refused
        write_report(folder.path, _in_order(listed, outcomes))
        if stopped:
            done = sum(folder.is_whole(each) for each in outcomes)
            raise StoppedError(
                f"Stopped. {done} of {len(listed)} clips are in '{args.output}'. Call the same to go on."
            )
        return _report(args.output, listed, todo, outcomes, batch, time.monotonic() - began)


def _check_flags(args: argparse.Namespace) -> None:
    if args.workers is not None and args.workers < 1:
        raise InputError(f"--workers must be at least 1; got {args.workers}.")
    if args.address and args.executor != "ray":
        raise InputError("--address names a Ray cluster. Add --executor ray, or leave it out.")
    if args.vary and args.jobs is not None:
        raise InputError('--vary goes with --videos. In a list of jobs, write "vary" into the line.')


def _checked_jobs(listed: Sequence[Job | Refused], folder: BatchFolder) -> tuple[list[Checked], list[Outcome]]:
    """The jobs that can be run, and those that cannot, each with a sentence; several are read at once."""
    refused = {each.id: each.sentence for each in listed if isinstance(each, Refused)}
    jobs = [each for each in listed if isinstance(each, Job)]
    ready = []
    with closing(Progress("job", stay=False)) as progress, ThreadPoolExecutor(os.cpu_count()) as threads:
        for number, (job, found) in enumerate(zip(jobs, threads.map(_try_to_check, jobs), strict=True), 1):
            progress.show("check", "Reading the clips", number, len(jobs))
            if isinstance(found, str):
                refused[job.id] = found
            else:
                ready.append(found)
    clashes = colliding([(each.job, list(each.files.values())) for each in ready], folder.path)
    refused = {name: printable(sentence) for name, sentence in (refused | clashes).items()}
    for name, sentence in refused.items():
        note(f"{name}: {sentence}")
    outcomes = [Outcome(name, "", "refused", sentence=sentence) for name, sentence in refused.items()]
    for outcome in outcomes:
        if folder.outcomes.get((outcome.id, "")) != outcome:
            folder.note(outcome)
    return [each for each in ready if each.job.id not in clashes], outcomes


def _try_to_check(job: Job) -> Checked | str:
    try:
        return checked(job)
    except BIVDiffError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - one line must not stop the others
        _log.exception("The job '%s' could not be read in a way that nobody foresaw.", job.id)
        return f"It could not be read, in a way that nobody foresaw: {error}"


def _is_over(each: Checked, folder: BatchFolder, retry: bool) -> bool:
    """Whether an earlier call has made the same, or failed to."""
    outcome = folder.outcomes.get(each.key)
    return outcome is not None and (folder.is_whole(outcome) or (outcome.status == "failed" and not retry))


def _carry_out(todo: Sequence[Checked], folder: BatchFolder, args: argparse.Namespace, settings: Settings) -> Batch:
    with redirect_stdout(sys.stderr):  # which the report has to itself: Ray prints there when a process is lost
        return _made(todo, folder, args, settings)


def _made(todo: Sequence[Checked], folder: BatchFolder, args: argparse.Namespace, settings: Settings) -> Batch:
    hide_bars_of_libraries()
    workers = workers_of(args.executor, args.workers, settings, args.address)
    try:
        if args.executor == "ray":
            check_shared(folder, workers, todo)
        with closing(_Told(len(todo))) as told:
            batch = Batch(folder, todo, workers, told)
            batch.run()
        return batch
    finally:
        for worker in workers:
            worker.close()


class _Told:
    """What is told while a batch runs: a line for each job that has ended, and how far all are."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._progress, self._lock = Progress("job"), threading.Lock()

    def __call__(self, event: Outcome | StepEvent) -> None:
        with self._lock:
            if isinstance(event, Outcome):
                self._done += 1
                note(f"{event.id}: {event.sentence or event.status}, {event.seconds:.1f} s")
            self._progress.show("batch", "Clips", self._done, self._total)

    def close(self) -> None:
        self._progress.close()


def _in_order(listed: Sequence[Job | Refused], outcomes: Sequence[Outcome]) -> list[Outcome]:
    places = {each.id: place for place, each in enumerate(listed)}
    return sorted(outcomes, key=lambda each: places[each.id])


def _report(
    output: Path, listed: Sequence[Job | Refused], todo: Sequence[Checked], outcomes: Sequence[Outcome],
    batch: Batch | None, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    made = {each.job.id for each in todo}
    status = Counter(each.status for each in outcomes)
    done_before = sum(each.status == "done" and each.id not in made for each in outcomes)
    wrong = {each.id: each.sentence for each in outcomes if each.status != "done"}
    return {
        "jobs": len(listed), "done": status["done"] - done_before, "done_before": done_before,
        "failed": status["failed"], "refused": status["refused"], "seconds": round(seconds, 3),
        "busy_seconds": round(batch.busy_seconds, 3) if batch else 0.0, "model_loads": batch.loads if batch else 0,
        "paths": {"results": str(output / RESULTS), "page": str(output / PAGE), "scores": str(output / SCORES)},
        "wrong": wrong,
    }  # fmt: skip


def _as_text(report: dict[str, Any]) -> str:
    counts = {
        "made": report["done"], "made by an earlier call": report["done_before"], "failed": report["failed"],
        "refused before anything ran": report["refused"],
    }  # fmt: skip
    return f"{table_of(counts, report['wrong'], report['seconds'])}\nAll clips: {report['paths']['page']}"
