"""Units of work handed to workers: one after the other here, or on Ray Data."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CamouflageError
from ..files import ROOT, OwnedFolder
from .accounts import Outcome, from_text, to_text
from .decisions import Decision
from .host import Host
from .photos import Unit
from .server import PREFIX
from .shares import Share
from .worker import Worker

if TYPE_CHECKING:
    from .plan import Plan

Decisions = Mapping[int, Mapping[str, Decision]]
"""Of reviewers, by unit and key."""


@dataclass(frozen=True)
class Ray:
    """How Ray Data runs workers.

    Attributes:
        workers: how many, each with a ComfyUI.
        gpus: of each worker; a part of one lets workers share it.
        address: of a cluster that is joined; "" starts one on this machine, which ends with the run.
    """

    workers: int
    gpus: float = 0.0
    address: str = ""


def run_here(plan: Plan, units: Sequence[Unit], decisions: Decisions, seen: Callable[[Outcome], None], host: Host
             ) -> None:
    """Works on units in this process, one after the other.

    Args:
        plan: what is done with them.
        host: the ComfyUI for it.
        seen: told of every picture.

    Raises:
        CamouflageError: the run cannot go on.
    """
    with Worker(plan, host) as worker:
        for unit in units:
            worker.work(unit, decisions.get(unit.number, {}), seen)


class RayWorker:
    """A worker as Ray Data's ``map_batches`` calls it. What goes wrong comes back as text: an exception would end the
    run of all others, and Ray would show its traceback instead of a sentence."""

    def __init__(self, plan: Plan, decisions: Decisions, share: int) -> None:
        self.share = Share(share)
        server = replace(plan.server, threads=len(self.share.cores))
        self.worker, self.decisions = Worker(replace(plan, server=server)), decisions

    def __del__(self) -> None:
        """Ray Data drops its workers when there is no more work: their pictures go at once."""
        if hasattr(self, "worker"):  # its share, or the plan, may have failed
            self.worker.close()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """One unit as text -> the lines of its account as text, and what went wrong: Ray writes of objects that it
        does not know, and so of names, into its log."""
        (text,) = batch["unit"]
        unit = Unit.from_text(str(text))
        try:
            return {"lines": [to_text(self.worker.work(unit, self.decisions.get(unit.number, {})))], "error": [""]}
        except CamouflageError as error:
            return {"lines": [""], "error": [str(error)]}


def run_on_ray(plan: Plan, units: Sequence[Unit], decisions: Decisions, seen: Callable[[Outcome], None], ray_of: Ray
               ) -> None:
    """Works on units by Ray Data: a row is a unit, an actor a worker; a worker that dies is started anew.

    Pictures stay where they are: a worker reads and writes its units by itself, so all machines of a cluster must see
    the source, the output and this folder at the same places.

    Raises:
        CamouflageError: the run cannot go on, or Ray cannot start.
    """
    with closing(_rows(plan, units, decisions, ray_of)) as rows:
        for row in rows:
            for line in from_text(row["lines"]):
                seen(line)
            if row["error"]:
                raise CamouflageError(row["error"])


def _rows(plan: Plan, units: Sequence[Unit], decisions: Decisions, how: Ray) -> Generator[dict[str, Any]]:
    _set_variables(how)
    import ray
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext

    with _joined(how) if how.address else _started(how):
        try:
            context = DataContext.get_current()
            context.enable_progress_bars = False
            context.print_on_execution_start = False
            machines = sum(bool(node["Alive"]) for node in ray.nodes())
            share = -(-how.workers // machines)  # of each machine's workers
            rows = [{"unit": unit.to_text()} for unit in units]
            dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), 10_000))
            worked = dataset.map_batches(
                RayWorker, fn_constructor_args=(plan, decisions, share), batch_size=1, zero_copy_batch=False,
                compute=ActorPoolStrategy(size=min(how.workers, len(units))), num_cpus=0.5, num_gpus=how.gpus or None,
                scheduling_strategy="SPREAD", max_restarts=-1, max_task_retries=-1)
            yield from worked.iter_rows()
        except ray.exceptions.RayError as error:
            cause = str(error).strip().splitlines() or [type(error).__name__]
            raise CamouflageError(f"The run on Ray ended: {cause[-1]} What was finished stays; run the same command "
                                  "again to go on.") from error


def _set_variables(how: Ray) -> None:
    """What Ray reads when it is imported."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers that it ran
    if not how.address:  # a cluster that is joined has chosen for itself
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's ports are open to the network, and run what they get
        os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")  # ours end by themselves, and tidy up


@contextmanager
def _started(how: Ray) -> Iterator[None]:
    """A Ray of this machine alone, which ends with the block, and all its files with it."""
    # Ray opens the folder that it gets to everybody, so that one lies in ours. What workers leave that are killed, goes
    # with the run.
    with (closing(OwnedFolder(PREFIX, _short_place())) as logs, closing(OwnedFolder(PREFIX)) as pictures,
          _initialised(how, {"TMPDIR": str(pictures.path)}, address="local", include_dashboard=False,
                       num_cpus=how.workers + 2,  # more than actors: reading needs some, too
                       _temp_dir=str(logs.path / "ray"))):
        yield


@contextmanager
def _joined(how: Ray) -> Iterator[None]:
    """A cluster that others have started; its ways stay as they are."""
    with _initialised(how, {}, address=how.address):
        yield


@contextmanager
def _initialised(how: Ray, variables: Mapping[str, str], **options: Any) -> Iterator[None]:
    import ray

    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": environment}, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise CamouflageError(f"Ray could not {'join ' + how.address if how.address else 'start'}: {error}"
                                  ) from error
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)  # Ray puts one of its own in its place
        yield
    finally:
        ray.shutdown()


def _short_place() -> Path:
    """Where Ray's folder goes: systems take a socket's path of 103 bytes, and Ray needs 64 of them."""
    place = Path(tempfile.gettempdir())
    longest = 103 - len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store") - len("/ray")
    fits = len(os.fsencode(place)) + len(f"/{PREFIX}12345678") <= longest
    return place if fits or not Path("/tmp").is_dir() else Path("/tmp")
