"""Counts of the fault tests by fault, and the Markdown table that is made of them.

`python -m tests.faults.table FILE` prints the table of a file that `pytest --fault-table FILE` wrote.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from megatron_redone.recipes.workspace import machine, versions

HEADER = """\
| fault | times | steps lost, sum | steps lost, most | seconds to the next step, median | checkpoints lost |
|---|---:|---:|---:|---:|---:|"""


@dataclass
class Counts:
    """What one kind of fault cost."""

    times: int = 0
    lost_steps: list[int] = field(default_factory=list)
    """Steps that were finished and done again, a number each time; empty where no training goes on."""
    seconds: list[float] = field(default_factory=list)
    """Until the first new step is done, each time."""
    lost_checkpoints: int = 0
    """Those with their final name that could not be loaded."""

    def add(self, lost_steps: int | None = None, seconds: float | None = None, lost_checkpoints: int = 0) -> None:
        """Counts one fault."""
        self.times += 1
        self.lost_steps += [] if lost_steps is None else [lost_steps]
        self.seconds += [] if seconds is None else [round(seconds, 2)]
        self.lost_checkpoints += lost_checkpoints


class FaultTable:
    """Counts by fault, in the order in which the faults come."""

    def __init__(self) -> None:
        self.faults: dict[str, Counts] = {}

    def of(self, fault: str) -> Counts:
        """Where a fault of this kind is counted."""
        return self.faults.setdefault(fault, Counts())

    def to_json(self) -> dict[str, Any]:
        """The counts, with the machine and the versions that they are from."""
        counts = [{"fault": fault, **asdict(counts)} for fault, counts in self.faults.items()]
        return {"machine": machine(), "versions": versions(), "faults": counts}


def markdown(table: dict[str, Any]) -> str:
    """The table, and a line on the machine."""
    rows = [
        f"| {counts['fault']} | {counts['times']} | {_of(counts['lost_steps'], sum)} "
        f"| {_of(counts['lost_steps'], max)} | {_of(counts['seconds'], _median)} | {counts['lost_checkpoints']} |"
        for counts in table["faults"]
    ]
    machine, versions = table["machine"], table["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "megatron-core"))
    return "\n".join([HEADER, *rows, "", f"{machine['cores']} cores of {machine['processor']}; {named}."])


def _of(values: Sequence[Any], summary: Callable[[Sequence[Any]], object]) -> str:
    return str(summary(values)) if values else ""


def _median(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f}"


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
