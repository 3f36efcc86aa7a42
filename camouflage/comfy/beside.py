"""Work on the CPU beside a sampling, which keeps the GPU busy and the CPU waiting."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

import comfy.model_management as mm
import torch

T = TypeVar("T")
_WAIT = 0.1  # s between two looks at Cancel


class _Left(Exception):
    """Nobody waits for the job any more."""


class Beside(Generic[T]):
    """A job that another thread does."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def check(self) -> None:
        """Raises what the job has raised so far."""
        if self._future.done():
            self._future.result()

    def result(self) -> T:
        """Waits for the end of the job, and obeys Cancel; raises what the job raised."""
        while not wait([self._future], _WAIT).done:
            mm.throw_exception_if_processing_interrupted()
        return self._future.result()


@contextlib.contextmanager
def beside(job: Callable[[Callable[[], None]], T]) -> Iterator[Beside[T]]:
    """Does a job in a thread of its own, as the host's own thread would.

    The job must call what it is given about ten times a second: it raises as soon as the block is left, so that nothing
    goes on after a Cancel or an error. Where the block ends, so does the thread.
    """
    left = threading.Event()

    def pause() -> None:
        if left.is_set():
            raise _Left

    def work() -> T:
        with torch.inference_mode():  # of each thread by itself
            return job(pause)

    with ThreadPoolExecutor(1, "camouflage-beside") as pool:
        try:
            yield Beside(pool.submit(contextvars.copy_context().run, work))  # with the host's record of who runs
        finally:
            left.set()
