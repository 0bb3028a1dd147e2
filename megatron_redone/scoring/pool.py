"""A function over processes with a deadline for each item: one that hangs or dies costs its own item only.

Processes are started anew (not forked from one that holds torch and threads), read items from a pipe and answer one by
one. The process of an item that is late is killed and replaced. Results come in order and are those that the function
gives in this process. Imports no torch.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from megatron_redone.common.errors import RedoneError

Item = TypeVar("Item")
Result = TypeVar("Result")

START_SECONDS = 120.0
"""Longest time in which a process must have started and imported what it needs."""
MAX_FAILED_STARTS = 3
ITEMS_AT_ONCE = 16
"""Items that wait in a process's pipe."""


@dataclass
class _Worker:
    """A process, and the items it was given: it is at the first of them."""

    process: Any
    connection: Connection
    ready: bool = False
    given: deque[int] = field(default_factory=deque)
    since: float = field(default_factory=time.monotonic)
    """When it began with its first item, or was started."""


class DeadlinePool(Generic[Item, Result]):
    """Close it, or use `with`. No process is started before the first item.

    Args:
        function: of a module that imports no torch, for one item.
        instead: result of an item that has none, from the item and the reason.
        num_workers: processes; 0 calls the function here, without a deadline.
        deadline_seconds: longest time for one item.
        memory_mib: address space of a process; an item that asks for more fails.

    Attributes:
        counts: items that were `late`, that `died` with their process, or that `failed` with an error.
    """

    def __init__(
        self,
        function: Callable[[Item], Result],
        instead: Callable[[Item, str], Result],
        num_workers: int,
        deadline_seconds: float,
        memory_mib: int = 4096,
    ) -> None:
        self.function, self.instead = function, instead
        self.num_workers, self.deadline_seconds, self.memory_mib = num_workers, deadline_seconds, memory_mib
        self.counts: Counter[str] = Counter(late=0, died=0, failed=0)
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            _end(worker)
        self._workers = []

    def map(self, items: Sequence[Item]) -> list[Result]:
        """One result an item, in order.

        Raises:
            RedoneError: processes do not start.
        """
        if self.num_workers == 0:
            return [self.function(item) for item in items]
        results: dict[int, Result] = {}
        waiting = deque(range(len(items)))
        while len(results) < len(items):
            self._hand_out(items, waiting)
            busy = {worker.connection: worker for worker in self._workers if worker.given or not worker.ready}
            for connection in wait(list(busy), self._seconds_left(busy.values())):
                self._read(busy[connection], items, results, waiting)  # type: ignore[index]
            self._end_late(items, results, waiting)
        return results_in_order(results)

    def _hand_out(self, items: Sequence[Item], waiting: deque[int]) -> None:
        wanted = min(self.num_workers, len(waiting) + sum(bool(worker.given) for worker in self._workers))
        while len(self._workers) < wanted:
            self._workers.append(self._start())
        for worker in self._workers:
            # Few at once near the end, so that all processes end together.
            room = min(ITEMS_AT_ONCE, -(-len(waiting) // self.num_workers)) - len(worker.given) if worker.ready else 0
            for _ in range(max(room, 0)):
                if not waiting:
                    break
                if not worker.given:
                    worker.since = time.monotonic()
                index = waiting.popleft()
                worker.given.append(index)
                try:
                    worker.connection.send((index, items[index]))
                except OSError:
                    break  # it has just died; its end of the pipe tells

    def _read(self, worker: _Worker, items: Sequence[Item], results: dict[int, Result], waiting: deque[int]) -> None:
        try:
            index, result, problem = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker, items, results, waiting, "died", "its process died")
            return
        worker.since = time.monotonic()
        if index is None:
            worker.ready = True
            self._failed_starts = 0
            return
        worker.given.popleft()
        if problem:
            self.counts["failed"] += 1
            result = self.instead(items[index], problem)
        results[index] = result

    def _end_late(self, items: Sequence[Item], results: dict[int, Result], waiting: deque[int]) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            limit = self.deadline_seconds if worker.ready else START_SECONDS
            if (worker.given or not worker.ready) and now - worker.since > limit and not worker.connection.poll():
                reason = f"no result after {self.deadline_seconds:g} s"
                self._replace(worker, items, results, waiting, "late", reason)

    def _replace(
        self,
        worker: _Worker,
        items: Sequence[Item],
        results: dict[int, Result],
        waiting: deque[int],
        kind: str,
        reason: str,
    ) -> None:
        """Ends a process. The item it was at gets the default; those behind it go to others."""
        self._workers.remove(worker)
        _end(worker, kind == "died")
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise RedoneError(
                    f"{self._failed_starts} processes for {self.function.__module__} did not start (exit code "
                    f"{worker.process.exitcode}); set num_workers to 0 to see the error here"
                )
        if worker.given:
            index = worker.given.popleft()
            self.counts[kind] += 1
            results[index] = self.instead(items[index], reason)
            waiting.extendleft(reversed(worker.given))

    def _seconds_left(self, workers: Any) -> float:
        now = time.monotonic()
        limits = [worker.since + (self.deadline_seconds if worker.ready else START_SECONDS) for worker in workers]
        return max(min(limits, default=now) - now, 0.0) + 0.001

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        mine, its = context.Pipe()
        process = context.Process(
            target=_work, args=(its, self.function, os.getpid(), self.memory_mib), daemon=True, name="scoring"
        )
        process.start()
        its.close()
        return _Worker(process, mine)


def results_in_order(results: dict[int, Result]) -> list[Result]:
    """The values by their number."""
    return [results[index] for index in sorted(results)]


def _end(worker: _Worker, ends_itself: bool = False) -> None:
    if not ends_itself:
        worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _work(connection: Connection, function: Callable[[Any], Any], parent: int, memory_mib: int) -> None:
    """The loop of a process: items in, results out, until the other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the parent decides
    resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send((None, None, ""))
    while True:
        try:
            index, item = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (index, function(item), "")
        except Exception as error:  # noqa: BLE001 (a fault of one item is that item's)
            answer = (index, None, f"{type(error).__name__}: {error}"[:500])
        try:
            connection.send(answer)
        except OSError:
            return
