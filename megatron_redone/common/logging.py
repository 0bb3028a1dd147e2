"""Log lines and progress: a bar on a terminal, single lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress as RichProgress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

CONSOLE = Console(stderr=True)
SECONDS_BETWEEN_LINES = 10.0


def get_logger(name: str) -> logging.Logger:
    """The logger `redone.<name>`."""
    return logging.getLogger(f"redone.{name}")


def configure_logging(level: int = logging.INFO) -> None:
    """Sends the library's log to stderr, one plain line a record. Called once in each process.

    Warnings of Megatron-core are dropped: on import it warns of every optional package that is absent, although
    running without them is what this library sets up.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"megatron\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    root = logging.getLogger("redone")
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False


class Progress:
    """Progress of `total` units with rate and time left.

    On a terminal a bar; elsewhere one log line at most every ten seconds. A disabled one (other ranks) is silent.

    Args:
        description: what is being done, for example "explore.seed1".
        total: number of units.
        unit: name of a unit, for example "steps".
    """

    def __init__(self, description: str, total: int, unit: str, enabled: bool = True) -> None:
        self.description, self.total, self.unit, self.enabled = description, total, unit, enabled
        self.done = 0
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._log = get_logger("progress")

    def __enter__(self) -> Progress:
        self._start = self._last_line = time.monotonic()
        self._first_done = self.done
        if self.enabled and CONSOLE.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} " + self.unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}"),
                console=CONSOLE,
                transient=False,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, completed=self.done, metrics="")
        return self

    def start_at(self, done: int) -> None:
        """States that `done` units were finished earlier (a resume); they do not count into the rate."""
        self.done = self._first_done = done
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)

    def advance(self, units: int = 1, metrics: Mapping[str, float] | None = None) -> None:
        """Counts `units` more as done and shows the metrics."""
        self.done += units
        text = " ".join(f"{name} {value:.4g}" for name, value in (metrics or {}).items())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, metrics=text)
            return
        now = time.monotonic()
        if self.enabled and (now - self._last_line >= SECONDS_BETWEEN_LINES or self.done >= self.total):
            self._last_line = now
            self._log.info(self._line(now, text))

    def _line(self, now: float, text: str) -> str:
        rate = (self.done - self._first_done) / max(now - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        rate_text = f"{rate:.2f} {self.unit}/s" if rate >= 0.1 else f"{rate * 60:.2f} {self.unit}/min"
        return f"{self.description} {self.done}/{self.total} {rate_text}, {left:.0f} s left {text}".rstrip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
