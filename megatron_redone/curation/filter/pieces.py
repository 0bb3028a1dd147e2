"""Which part of the input each task reads: whole compressed files, and plain files cut at line ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from megatron_redone.common.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz")
BLOCK_BYTES = 1 << 22


@dataclass(frozen=True)
class Piece:
    """A part of one file."""

    path: str
    label: str
    """How ids, messages and sources name the file: its name, or its path inside the folder that was given."""
    start: int = 0
    """First byte; the piece begins a line."""
    stop: int | None = None
    """Byte after the last one; None: to the end of the file (always so in a compressed one)."""
    first_line: int = 1
    """Number of the line that begins at `start`."""


def plan_tasks(inputs: Sequence[Path], bytes_per_task: int) -> list[list[Piece]]:
    """Tasks of about `bytes_per_task` bytes on disk, in the order of the inputs.

    Plain files are read through once, to number the lines at which they are cut.

    Raises:
        DataError: an input that is not there or holds no document file.
    """
    tasks: list[list[Piece]] = []
    size = 0
    for path, label in labelled_files(inputs):
        for piece, piece_bytes in _cut(path, label, bytes_per_task):
            if not tasks or (size and size + piece_bytes > bytes_per_task):
                tasks.append([])
                size = 0
            tasks[-1].append(piece)
            size += piece_bytes
    return tasks


def labelled_files(inputs: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """(file, label): labels differ, so that ids made of them do."""
    seen: dict[str, int] = {}
    for source in inputs:
        for path in document_files(source):
            label = path.name if path == source else f"{source.name}/{path.relative_to(source).as_posix()}"
            seen[label] = seen.get(label, 0) + 1
            yield path, label if seen[label] == 1 else f"{label}#{seen[label]}"


def document_files(source: Path) -> list[Path]:
    """The files of an input: itself, or in a folder `corpus*.jsonl[.gz]` where there are some, else all JSONL files.

    Raises:
        DataError: none.
    """
    if source.is_file():
        if not source.name.endswith(SUFFIXES):
            raise DataError(f"{source}: not a file of documents; give {' or '.join(SUFFIXES)}")
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder; check the path")
    found = sorted(path for path in source.rglob("*") if path.is_file() and path.name.endswith(SUFFIXES))
    corpus = [path for path in found if path.name.startswith("corpus") and path.parent == source]
    if not found:
        raise DataError(f"{source}: holds no {' or '.join(SUFFIXES)}; give a folder of documents")
    return corpus or found


def _cut(path: Path, label: str, bytes_per_piece: int) -> Iterator[tuple[Piece, int]]:
    """(piece, bytes) of one file."""
    size = path.stat().st_size
    if path.suffix == ".gz" or size <= bytes_per_piece:
        yield Piece(str(path), label), size
        return
    start, first_line = 0, 1
    with path.open("rb") as file:
        while start < size:
            lines = _count_lines(file, start, min(start + bytes_per_piece, size))
            lines += bool(file.readline())  # up to the end of the line that the cut falls into
            stop = file.tell()
            yield Piece(str(path), label, start, stop, first_line), stop - start
            start, first_line = stop, first_line + lines


def _count_lines(file: BinaryIO, start: int, stop: int) -> int:
    """Line ends in a range of bytes; leaves the file at its end."""
    file.seek(start)
    count = 0
    while (left := stop - file.tell()) > 0:
        count += file.read(min(left, BLOCK_BYTES)).count(b"\n")
    return count


def to_json(tasks: Sequence[Sequence[Piece]]) -> list[list[dict[str, object]]]:
    """The plan as JSON values."""
    return [[asdict(piece) for piece in task] for task in tasks]
