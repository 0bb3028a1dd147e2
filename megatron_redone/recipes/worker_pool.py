"""Processes that execute stage runs, or parts of one, side by side, and how they are stopped."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from megatron_redone.common.errors import RedoneError
from megatron_redone.training.stop import stop_signal, stopped

SECONDS_BETWEEN_LOOKS = 0.5
"""A signal may reach this process alone: so often it looks whether its workers must hear of it."""


class Work(Protocol):
    """What a process does as one piece: a stage run, or a part of one."""

    @property
    def id(self) -> str:
        """Its name in messages."""


W = TypeVar("W", bound=Work)


class WorkerPool(Generic[W]):
    """At most `count` pieces of work at a time, each in a process of the pool.

    Args:
        start: called once in each process; `arguments` are its arguments.
    """

    def __init__(self, count: int, start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.count = count
        self.running: dict[Future[None], W] = {}
        self._stopping = False
        self._pool = ProcessPoolExecutor(
            count, mp_context=multiprocessing.get_context("spawn"), initializer=start, initargs=arguments
        )

    def __enter__(self) -> WorkerPool[W]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):  # the second Ctrl-C: stages lose what came after their checkpoint
            for process in multiprocessing.active_children():
                process.kill()
        self._pool.shutdown()

    @property
    def has_room(self) -> bool:
        """Whether another run may be submitted."""
        return len(self.running) < self.count

    def submit(self, execute: Callable[[W], None], run: W) -> None:
        """Hands a run to a process."""
        self.running[self._pool.submit(execute, run)] = run

    def finished(self) -> list[tuple[W, BaseException | None]]:
        """Waits for the next runs that end, each with its error; a stop is passed on to the processes meanwhile."""
        done: set[Future[None]] = set()
        while not done:
            done = wait(self.running, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED).done
            if stop_signal() and not self._stopping:
                self._stopping = True
                for process in multiprocessing.active_children():
                    process.terminate()
        return [(run, _readable(future.exception(), run)) for future in done if (run := self.running.pop(future))]


def _readable(error: BaseException | None, run: Work) -> BaseException | None:
    if not isinstance(error, BrokenProcessPool):
        return error
    if stop_signal():
        return stopped(f"{run.id}: stopped before it began; the same command goes on with it", stop_signal())
    return RedoneError(
        f"{run.id}: its process was killed, perhaps because memory ran out; lower `workers`, "
        "or free memory. The same command goes on from the last checkpoint."
    )
