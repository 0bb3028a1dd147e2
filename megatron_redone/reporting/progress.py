"""How far a stage run has come, which rank is slow, and which one stopped, from the files that training writes."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_redone.common.jsonl import read_jsonl_lenient

TIMING, STACKS = "timing.jsonl", "stacks"
SLOW = 1.25
"""A rank is called slow when its probe took more than so many times the median of all."""
STACK_FILE = re.compile(r"rank-(\d+)\.txt")
WAITS = " waits in "


@dataclass(frozen=True)
class SlowRank:
    """The slowest rank in the last window of steps (`training/stragglers.py`)."""

    rank: int
    slowdown: float
    """Its time for a fixed piece of work over the median of all ranks."""


@dataclass(frozen=True)
class Hang:
    """What the watchdog left of a run that hung (`training/watchdog.py`)."""

    suspects: tuple[int, ...]
    """Ranks that the others waited for: those that left no stack, else those that waited in no collective."""
    said: Mapping[int, str]
    """Rank -> where it was, in a sentence."""
    stacks: Mapping[int, Path]
    when: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class StageProgress:
    """A stage run."""

    folder: Path
    done: bool
    last_step: int | None = None
    """Number of the last finished step, from 1."""
    seconds_per_step: float | None = None
    """Median of the last steps."""
    slow: SlowRank | None = None
    hang: Hang | None = None
    counts: Mapping[str, float] = field(default_factory=dict)
    """Of a finished one: what its manifest counts."""


def stage_progress(run: Path, stage: str, since: float = 0.0, num_ranks: int = 0) -> list[StageProgress]:
    """The runs of a stage, one a seed where it runs once a seed.

    Args:
        since: stacks older than this moment (seconds since 1970) are left out: of an earlier submission.
        num_ranks: processes of the stage; those that left no stack are told of.
    """
    found = []
    names = {path.name for root in (run, run / ".work") for path in root.glob(f"{stage}*") if path.is_dir()}
    for name in sorted(name for name in names if name == stage or re.fullmatch(rf"{re.escape(stage)}\.seed\d+", name)):
        found.append(_one(run, name, since, num_ranks))
    return found


def _one(run: Path, name: str, since: float, num_ranks: int) -> StageProgress:
    manifest = run / name / "manifest.json"
    work = run / ".work" / name
    if manifest.is_file() and not work.is_dir():
        counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
        return StageProgress(run / name, True, last_step=counts.get("steps"), counts=counts)
    rows = [row for _, row, _ in read_jsonl_lenient(work / TIMING)] if (work / TIMING).is_file() else []
    steps = [row for row in rows if row is not None and "step" in row]
    return StageProgress(
        work,
        False,
        last_step=int(steps[-1]["step"]) + 1 if steps else None,
        seconds_per_step=statistics.median(float(row["seconds"]) for row in steps[-20:]) if steps else None,
        slow=slow_rank(steps),
        hang=hang_in(work / STACKS, since, num_ranks),
    )


def slow_rank(steps: list[dict[str, Any]]) -> SlowRank | None:
    """The slowest rank of the last comparison, if it stands out."""
    probes = next((row["probe_ms_by_rank"] for row in reversed(steps) if "probe_ms_by_rank" in row), None)
    if not probes:
        return None
    rank = max(range(len(probes)), key=lambda place: float(probes[place]))
    slowdown = float(probes[rank]) / max(float(statistics.median_low(probes)), 1e-9)
    return SlowRank(rank, slowdown) if slowdown > SLOW else None


def hang_in(folder: Path, since: float = 0.0, num_ranks: int = 0) -> Hang | None:
    """What the stacks in a folder say of who stopped; None where there are none."""
    stacks = dict(_stack_files(folder, since))
    if not stacks:
        return None
    said = {rank: _first_line(path) for rank, path in stacks.items()}
    silent = tuple(rank for rank in range(max(num_ranks, max(stacks) + 1)) if rank not in stacks)
    elsewhere = tuple(rank for rank, sentence in said.items() if WAITS not in sentence)
    return Hang(silent or elsewhere, said, stacks, max(path.stat().st_mtime for path in stacks.values()))


def _stack_files(folder: Path, since: float) -> Iterator[tuple[int, Path]]:
    for path in sorted(folder.glob("rank-*.txt")) if folder.is_dir() else ():
        match = STACK_FILE.fullmatch(path.name)
        if match and path.stat().st_mtime >= since:
            yield int(match[1]), path


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().strip()
