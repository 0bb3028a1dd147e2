"""One log a rank, and all of them as one, in the order of time. Imports no torch."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from pathlib import Path

from megatron_redone.common.errors import InputError

TIME = re.compile(r"(?:\d{4}-\d\d-\d\dT)?(\d\d):(\d\d):(\d\d)\b")
RANK = re.compile(r"rank-(\d+)\.log")
HALF_DAY = 12 * 3600


def attempts(folder: Path) -> list[Path]:
    """The attempts of a job, oldest first."""
    found = [path for path in folder.glob("attempt-*") if path.name.removeprefix("attempt-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("attempt-")))


def rank_logs(attempt: Path) -> dict[int, Path]:
    """Rank -> its log in an attempt."""
    named = ((RANK.fullmatch(path.name), path) for path in attempt.glob("rank-*.log"))
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def merged(attempt: Path, rank: int | None = None) -> Iterator[str]:
    """The lines of all ranks of an attempt in the order of time, each behind the number of its rank.

    A line without a time belongs to the one before it, so a traceback stays in one piece. Lines of one second are
    ordered by rank.

    Args:
        rank: only this one's lines.
    Raises:
        InputError: no such rank, or none wrote anything.
    """
    logs = rank_logs(attempt)
    if not logs:
        raise InputError(f"{attempt}: no rank has written a log; the job's own log beside it says why")
    if rank is not None and rank not in logs:
        raise InputError(f"--rank {rank}: this attempt has ranks {min(logs)} to {max(logs)}")
    chosen = logs if rank is None else {rank: logs[rank]}
    width = len(str(max(chosen)))
    parts = [_timed(path, number) for number, path in chosen.items()]
    for _, number, lines in heapq.merge(*parts, key=lambda part: part[:2]):
        for line in lines:
            yield f"[{number:>{width}}] {line}"


def _timed(path: Path, rank: int) -> Iterator[tuple[int, int, list[str]]]:
    """(second since the first day's midnight, rank, a line and those without a time behind it)."""
    second, lines = 0, []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            match = TIME.match(line)
            if match is None:
                lines.append(line.rstrip("\n"))
                continue
            if lines:
                yield second, rank, lines
            hours, minutes, seconds = (int(part) for part in match.groups())
            now = second - second % 86_400 + (hours * 60 + minutes) * 60 + seconds
            if now < second - HALF_DAY:  # past midnight
                now += 86_400
            second, lines = max(now, second), [line.rstrip("\n")]
    if lines:
        yield second, rank, lines
