"""Workers that are actors of a Ray cluster: of one that is there, or of one on this machine for as long as it takes.

Ray (https://docs.ray.io) starts the processes, gives each a card, carries what they yield, tells when one is lost and
starts another in its place.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Generator
from typing import Any

from bivdiff.catalog.families import extend
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models.memory import sharing
from bivdiff.settings import ASSETS, Settings
from bivdiff.version import __version__
from bivdiff.workers.worker import Desk, Failed, Work, WorkerLostError

START_SECONDS = 300.0  # until a worker answers: an actor waits until the cluster has room for it
TRIES = 3  # to start a cluster on this machine
RETRY_SECONDS = 0.2
AT_ONCE = 8  # calls that one actor answers, all but one of them small
ROOT = ASSETS.parent


class ServingActor:
    """What runs in the actor's process."""

    def __init__(self, settings: Settings, version: str) -> None:
        if version != __version__:
            raise InputError(
                f"The worker has version {__version__} of the studio, and who asks it has {version}. Use one version "
                "on all machines."
            )
        if settings.catalog:
            extend(settings.catalog)
        self._settings = settings
        self._desk = Desk(settings)

    def sit(self, neighbours: int) -> None:
        """Take the share of the memory that each of so many actors of one machine has; again after a new start."""
        self._desk = Desk(sharing(self._settings, neighbours))

    def node(self) -> str:
        """The machine it is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def answer(self, call: int, work: Work, given: tuple[Any, ...]) -> Generator[Any, None, None]:
        """See `Desk`."""
        yield from self._desk.answer(call, work, given)

    def stop(self, call: int) -> None:
        """See `Desk`."""
        self._desk.stop(call)


class RayWorker:
    """A worker that is an actor.

    Args:
        actor: a handle to a `ServingActor`.
        neighbours: actors of this cluster on its machine, itself included.
    """

    def __init__(self, actor: Any, neighbours: int) -> None:
        self._actor, self._neighbours = actor, neighbours
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._is_new = True

    @property
    def is_up(self) -> bool:
        """See `Worker`."""
        return not self._is_new

    def start(self, work: Work, *given: Any) -> Generator[Any, None, None]:
        """See `Worker`."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        if self._is_new:
            self._await_start(ray)
        with self._lock:
            number = next(self._numbers)
        coming = self._actor.answer.options(num_returns="streaming").remote(number, work, given)
        ended = False
        try:
            for reference in coming:
                event = ray.get(reference)
                if isinstance(event, Failed):
                    ended = True
                    raise event.error
                yield event
            ended = True
        except RayActorError as error:
            ended = self._is_new = True
            raise WorkerLostError(
                "The worker's process ended while it worked, most often because the memory was used up, so the clip "
                "was not finished. Try it again; if that happens again, take fewer frames or a smaller size."
            ) from error
        except RayTaskError as error:
            ended = True
            raise RuntimeError(str(error.cause)) from error
        finally:
            if not ended:
                self._actor.stop.remote(number)
                for _ in coming:
                    pass  # until it has ended

    def _await_start(self, ray: Any) -> None:
        """Wait until Ray has started the process, the first or one in the place of one that was lost."""
        waiting, last = threading.Event(), time.monotonic() + START_SECONDS
        while not self._sits(ray, last - time.monotonic()):
            waiting.wait(RETRY_SECONDS)
        self._is_new = False

    def _sits(self, ray: Any, patience: float) -> bool:
        try:
            ray.get(self._actor.sit.remote(self._neighbours), timeout=max(0.0, patience))
        except ray.exceptions.ActorUnavailableError:  # it is being started
            return False
        except ray.exceptions.RayError as error:
            raise WorkerLostError(f"A worker's process could not be started again: {_reason(error)}") from error
        return True

    def close(self) -> None:
        """See `Worker`."""
        import ray

        ray.kill(self._actor)


def ray_workers(count: int | None, settings: Settings, address: str | None = None) -> list[RayWorker]:
    """Workers on a Ray cluster, each with a card where the cluster has cards, else with one processor core.

    Args:
        count: how many; None is one for each card, or one for each machine where there are no cards.
        settings: of each worker's process.
        address: of the cluster: "auto" or `host:port`. None joins the one that RAY_ADDRESS names, or else starts one on
            this machine, which ends with this process.

    Raises:
        InputError: there is no such cluster, it is too small, or a worker did not start.
        ModelUnavailableError: Ray is not installed.
    """
    ray = join_cluster(address)
    total = ray.cluster_resources()
    cards, cores = int(total.get("GPU", 0)), int(total.get("CPU", 0))
    on_cards = cards > 0 and settings.device != "cpu"
    machines = len([node for node in ray.nodes() if node["Alive"]])
    count = count or (cards if on_cards else machines)
    room = cards if on_cards else cores
    if count > room:
        what = "cards" if on_cards else "processor cores"
        raise InputError(f"{count} workers are asked for, and the cluster has {room} {what}. Use {room} or fewer.")
    made = ray.remote(ServingActor).options(
        num_cpus=1, num_gpus=1 if on_cards else 0, max_concurrency=AT_ONCE, max_restarts=-1,
        # Spread: the models of two workers are the most that a small machine holds.
        scheduling_strategy="SPREAD", runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )  # fmt: skip
    actors = [made.remote(settings, __version__) for _ in range(count)]
    try:
        nodes = ray.get([actor.node.remote() for actor in actors], timeout=START_SECONDS)
    except ray.exceptions.RayError as error:
        for actor in actors:
            ray.kill(actor)
        raise InputError(f"The workers on the cluster could not be started: {_reason(error)}") from error
    return [RayWorker(actor, nodes.count(node)) for actor, node in zip(actors, nodes, strict=True)]


def _reason(error: Exception) -> str:
    from ray.exceptions import GetTimeoutError

    if isinstance(error, GetTimeoutError):
        return f"it had no room for them within {START_SECONDS:.0f} s. Ask for fewer, or wait until others are done."
    return f"{str(error).strip().splitlines()[-1]}. The code and its libraries must be at '{ROOT}' on every machine."


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ModelUnavailableError(
            "Ray is not installed. Install it with `pip install -r requirements-ray.txt`, or leave it out: without it "
            "the workers are processes of this machine."
        ) from error
    return ray


def join_cluster(address: str | None = None, **options: Any) -> Any:
    """Join a Ray cluster, or start one on this machine, unless this process has joined one; returns the package.

    Args:
        address: see `ray_workers`.
        options: of `ray.init`.

    Raises:
        InputError: there is no such cluster.
        ModelUnavailableError: Ray is not installed.
    """
    ray = _import_ray()
    for tries_left in reversed(range(TRIES)):
        if ray.is_initialized():
            break
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
        except Exception as error:  # Ray has no error of its own for this
            ray.shutdown()
            # On a busy machine its parts take longer to start than it waits for them.
            if "timed out during startup" in str(error) and tries_left:
                continue
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            where = f"at '{address}' could not be joined" if address else "could not be joined or started"
            raise InputError(
                f"The Ray cluster {where}: {reason}. Start one with `ray start --head`, or leave the address out to "
                "use this machine alone."
            ) from error
    return ray
