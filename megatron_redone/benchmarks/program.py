"""Programs as a benchmark runs them: time, CPU time and the largest memory of a process and its children."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SECONDS_BETWEEN_LOOKS = 0.1
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class ProgramRun:
    """What one program took."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Largest resident memory of the program and its processes together; pages they share count for each."""
    cold: bool
    """Whether the page cache was dropped before."""
    output: str = field(default="", repr=False)
    """What it wrote to its standard output."""
    errors: str = field(default="", repr=False)
    """What it wrote to its standard error."""


def run_program(name: str, command: Sequence[str], cold: bool = True) -> ProgramRun:
    """Runs a command to its end and looks at its memory meanwhile; if `cold`, the page cache is dropped before.

    Raises:
        RuntimeError: it failed (with the end of what it said).
    """
    cold = cold and _drop_caches()
    before = os.times()
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = _MemoryWatch(process.pid)
    output, said = process.communicate()
    seconds = time.perf_counter() - began
    watch.stop()
    after = os.times()
    if process.returncode:
        raise RuntimeError(f"{name} ended with {process.returncode}: {said[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return ProgramRun(name, seconds, cpu, watch.peak, cold, output, said)


def _drop_caches() -> bool:
    os.sync()
    with contextlib.suppress(OSError):
        DROP_CACHES.write_text("3")
        return True
    return False


class _MemoryWatch:
    """Looks at the resident memory of a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the looking."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            with contextlib.suppress(psutil.Error):
                family = [self._process, *self._process.children(recursive=True)]
                self.peak = max(self.peak, sum(process.memory_info().rss for process in family))
