"""Which lines of which files make which output shard. Imports no torch.

The cut depends on the files and on `shard_mib` alone, so any number of processes makes the same shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.data.text_files import Piece, TextFile, scan

MIB = 1 << 20


@dataclass(frozen=True)
class ScanJob:
    """One input file to be read through."""

    path: Path
    piece_bytes: int


@dataclass(frozen=True)
class ShardPlan:
    """The pieces of one output shard, each with the number of its file among all inputs."""

    number: int
    pieces: tuple[tuple[int, Piece], ...]
    num_bytes: int


def run_scan(job: ScanJob) -> TextFile:
    """The scan of one file, in a process of its own."""
    return scan(job.path, job.piece_bytes)


def plan_shards(files: Sequence[TextFile], shard_bytes: int) -> list[ShardPlan]:
    """Shards of about `shard_bytes` bytes of text: large files in pieces, small ones together."""
    shards: list[ShardPlan] = []
    pieces: list[tuple[int, Piece]] = []
    gathered = 0
    for number, file in enumerate(files):
        ends = [*(start for start, _ in file.cuts[1:]), file.num_bytes]
        for (start, line), end in zip(file.cuts, ends, strict=bool(file.cuts)):
            pieces.append((number, Piece(file.path, start, end, line)))
            gathered += end - start
            if gathered >= shard_bytes:
                shards.append(ShardPlan(len(shards), tuple(pieces), gathered))
                pieces, gathered = [], 0
    if pieces:
        shards.append(ShardPlan(len(shards), tuple(pieces), gathered))
    return shards
