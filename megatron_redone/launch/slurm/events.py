"""What happened to a job, from the events that its batch file notes (`job.sh`). Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

EVENTS = "events.log"
FAILED_NODES = "failed_nodes.log"
SRUN_LOG = "srun.log"


@dataclass(frozen=True)
class Event:
    """A line of `events.log`."""

    time: str
    job: str
    attempt: int
    words: dict[str, str]
    """`verdict=requeued` as a pair; a word without `=` has the value ""."""

    @property
    def verdict(self) -> str:
        """done, requeued, crashed, lost, moved, told, failed; "" where the line says something else."""
        return self.words.get("verdict", "")

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" if value else name for name, value in self.words.items())


def read_events(folder: Path, job: str | None = None) -> list[Event]:
    """The events in a job's folder, oldest first; with `job` those of one submission. Broken lines are left out."""
    path = folder / EVENTS
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        parts = line.split()
        if len(parts) < 4 or not parts[1].startswith("job=") or not re.fullmatch(r"attempt=\d+", parts[2]):
            continue
        words = {name: value for name, _, value in (word.partition("=") for word in parts[3:])}
        event = Event(parts[0], parts[1].removeprefix("job="), int(parts[2].partition("=")[2]), words)
        if job is None or event.job == job:
            events.append(event)
    return events


def state_of(events: list[Event]) -> str:
    """What the events alone say of a job: waiting, running, or its last verdict."""
    if not events:
        return "waiting"
    last = next((event for event in reversed(events) if event.verdict or "began" in event.words), None)
    if last is None or "began" in last.words:
        return "running"
    return last.verdict


def nodes_of(events: list[Event]) -> str:
    """Nodes of the last attempt, as Slurm lists them."""
    return next((event.words["nodes"] for event in reversed(events) if "began" in event.words), "")


def failed_nodes(state: Path) -> dict[str, int]:
    """Node -> attempts of the run that failed on it."""
    path = state / FAILED_NODES
    counts: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        parts = line.split()
        if len(parts) > 1:
            counts[parts[1]] = counts.get(parts[1], 0) + 1
    return counts


def srun_said(folder: Path, attempt: int, most: int = 5) -> list[str]:
    """The first complaints of srun in an attempt: which task on which node ended how."""
    path = folder / f"attempt-{attempt}" / SRUN_LOG
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.removeprefix("srun: error: ") for line in lines if line.startswith("srun: error:")][:most]
