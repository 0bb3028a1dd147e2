"""The sandbox as the rest of the house sees it: many programs at once, each in a box of its own."""

from __future__ import annotations

import atexit
import functools
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from megatron_redone.common.errors import InputError, SandboxUnavailableError
from megatron_redone.scoring.sandbox.backends import BACKENDS
from megatron_redone.scoring.sandbox.boxes import BoxServer, TestResult
from megatron_redone.scoring.sandbox.limits import Limits, RunResult
from megatron_redone.scoring.sandbox.self_test import self_test

Result = TypeVar("Result")


@dataclass(frozen=True)
class Program:
    """A program to run, with its standard input."""

    source: str | bytes
    stdin: bytes = b""


@dataclass(frozen=True)
class TestedProgram:
    """A program and what judges it: statements that raise where it is wrong, after a setup on the tests' side."""

    source: str | bytes
    tests: list[str] = field(default_factory=list)
    setup: str = ""
    entry_point: str = ""

    __test__ = False  # not a class of tests, whatever pytest thinks of its name


@functools.lru_cache
def problems_of_backend(backend: str) -> tuple[str, ...]:
    """What the self-test of a backend found on this machine, once a process."""
    return tuple(self_test(backend))


def choose_backend() -> str:
    """The first protecting backend that passes its self-test here.

    Raises:
        SandboxUnavailableError: none does; the message says what each lacks.
    """
    found = []
    for backend in BACKENDS:
        if backend == "unsafe":
            continue
        problems = problems_of_backend(backend)
        if not problems:
            return backend
        found.append(f"{backend}: {'; '.join(problems)}")
    raise SandboxUnavailableError(
        "no sandbox is safe on this machine, and a model's program is never run outside one. " + " | ".join(found)
    )


class Sandbox:
    """A pool of servers with ready boxes. Threads may share it; close it, or use it in a `with`.

    Args:
        backend: one of `BACKENDS`; None for the first that passes its self-test.
        limits: of each box.
        workers: programs at the same time; None for one a processor.
        checked: whether a named backend has to pass its self-test (`unsafe` never does).

    Raises:
        SandboxUnavailableError: the backend is not safe on this machine.
    """

    def __init__(
        self,
        backend: str | None = None,
        limits: Limits | None = None,
        workers: int | None = None,
        checked: bool = True,
    ) -> None:
        if backend is not None and backend not in BACKENDS:
            raise InputError(f"backend {backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
        self.backend = backend or choose_backend()
        if backend not in (None, "unsafe") and checked and problems_of_backend(backend or ""):
            raise SandboxUnavailableError(f"{backend}: {'; '.join(problems_of_backend(backend or ''))}")
        self.limits = limits or Limits()
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pid = os.getpid()
        self._free: queue.LifoQueue[BoxServer | None] = queue.LifoQueue()
        self._servers: list[BoxServer] = []
        self._lock = threading.Lock()
        for _ in range(self.workers):
            self._free.put(None)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, program: Program) -> RunResult:
        """One program."""
        return self._on_a_server(lambda server: server.run(program.source, program.stdin))

    def test(self, program: TestedProgram) -> TestResult:
        """One program against its tests."""
        return self._on_a_server(
            lambda server: server.test(program.source, program.setup, program.tests, program.entry_point)
        )

    def run_many(self, programs: Sequence[Program]) -> list[RunResult]:
        """Programs side by side, results in order."""
        return self._side_by_side(self.run, programs)

    def test_many(self, programs: Sequence[TestedProgram]) -> list[TestResult]:
        """Programs with tests side by side, verdicts in order; one that hangs costs its own verdict only."""
        return self._side_by_side(self.test, programs)

    def close(self) -> None:
        """Ends all servers and waits until they are gone. In a process forked from its own it does nothing."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            servers, self._servers = self._servers, []
        for server in servers:
            server.close()

    def _side_by_side(self, run: Callable[..., Result], items: Sequence[Program | TestedProgram]) -> list[Result]:
        with ThreadPoolExecutor(min(self.workers, max(1, len(items)))) as threads:
            return list(threads.map(run, items))

    def _on_a_server(self, use: Callable[[BoxServer], Result]) -> Result:
        """A server that was ended from outside (a machine out of memory) costs one more try, on a new one."""
        try:
            with self._server() as server:
                return use(server)
        except SandboxUnavailableError:
            with self._server() as server:
                return use(server)

    @contextmanager
    def _server(self) -> Iterator[BoxServer]:
        """A server for this thread alone; one that fails is replaced by the next use."""
        server = self._free.get()
        try:
            if server is None:
                server = BoxServer(self.backend, self.limits)
                with self._lock:
                    self._servers.append(server)
            yield server
        except BaseException:
            if server is not None:
                server.close()
                with self._lock:
                    self._servers = [other for other in self._servers if other is not server]
            server = None
            raise
        finally:
            self._free.put(server)


_shared: dict[tuple[int, Limits], Sandbox] = {}


def shared_sandbox(limits: Limits) -> Sandbox:
    """The process's own sandbox with these limits, made at first use and closed when the process ends.

    Raises:
        SandboxUnavailableError: no backend is safe on this machine.
    """
    key = (os.getpid(), limits)  # a forked process has no part in its parent's
    if key not in _shared:
        _shared[key] = Sandbox(limits=limits)
        atexit.register(_shared[key].close)
    return _shared[key]
