"""The pool: every row of the inputs, checked and in one format, on disk; a few numbers a row in memory.

Each input file becomes a folder with its conversations (`rows.jsonl`) and an index of numpy arrays (44 bytes a row).
A folder that stands is taken as it is, so a set whose building was interrupted goes on at the file it had reached.
"""

from __future__ import annotations

import itertools
import json
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_directory, atomic_write_json
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.conversations import TrainingConversation
from megatron_redone.curation.held_out import HeldOut
from megatron_redone.curation.sft.config import InputFormat
from megatron_redone.curation.sft.formats import Defaults, read_conversation
from megatron_redone.curation.sft.records import input_files, read_records

MAX_PROBLEMS_SHOWN = 5
MAX_PROBLEMS_KEPT = 1000
"""Refused rows of a file that are named in the manifest; all are counted."""
COUNTS = ("rows", "refused", "too_long", "held_out/id", "held_out/ngrams")
"""What is counted of a file: the rows that are kept, and the others by what became of them."""
COLUMNS: Mapping[str, str] = {
    "key": "q",  # order of the row in a draw, derived from seed and id
    "id_hash": "q",
    "line": "q",
    "stratum": "i",
    "source": "i",
    "tokens": "i",  # 0 where there is no tokenizer
    "weight": "d",
}

CountTokens = Callable[[TrainingConversation], int]
"""Tokens of a conversation; raises DataError for one that the chat template refuses."""


class Stratum(NamedTuple):
    """What the rows of a set are divided by."""

    part: str
    """`sns` or `general`."""
    capability: str
    task: str
    language: str


@dataclass(frozen=True)
class SourceFile:
    """A file of an input."""

    path: Path
    name: str
    """The input's name and the path below it: what ids of rows without an id start with."""
    part: str
    format: InputFormat = "auto"


def source_files(root: Path, part: str, expected: InputFormat = "auto") -> list[SourceFile]:
    """The files of an input, named by its folder and their place in it."""
    return [
        SourceFile(
            path, root.name if path == root else f"{root.name}/{path.relative_to(root).as_posix()}", part, expected
        )
        for path in input_files(root)
    ]


@dataclass(frozen=True)
class Limits:
    """What a row must keep beside its format."""

    sequence_length: int
    too_long: str
    max_refused_share: float
    latin_language: str
    held_out: HeldOut | None = None
    """Rows that stand in it, by id or by n-grams, are left out and counted."""


@dataclass
class Pool:
    """The rows of all files, in their order."""

    strata: list[Stratum]
    sources: list[str]
    columns: dict[str, NDArray[Any]]
    alive: NDArray[np.bool_]
    """False for a row whose id stood before."""
    folders: list[Path]
    """One a file, in the order of the rows."""
    refused: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Rows, and those refused, too long or held out."""
    refused_by_file: dict[str, int] = field(default_factory=dict)
    """Bad rows by the name of their file; rows whose id stood before are not among them."""

    def __len__(self) -> int:
        return len(self.alive)

    def lines(self) -> Iterator[bytes]:
        """The JSON line of every row."""
        for folder in self.folders:
            with (folder / "rows.jsonl").open("rb") as file:
                yield from file


def build_pool(
    files: Sequence[SourceFile], folder: Path, seed: int, limits: Limits, count_tokens: CountTokens | None
) -> Pool:
    """Reads and checks every file; what stands in `folder` from an interrupted call is used again.

    Raises:
        DataError: a file has more than `max_refused_share` bad rows, or none that is good; none of all is left.
    """
    folders = []
    for place, source in enumerate(files):
        unit = folder / f"{place:05d}"
        if not unit.is_dir():
            with atomic_directory(unit) as work:
                _write_unit(source, work, seed, limits, count_tokens)
        folders.append(unit)
    pool = _joined(folders)
    for source, unit in zip(files, folders, strict=True):
        name, refused = source.path.name, _meta(unit)["counts"]["refused"]
        pool.refused_by_file[name] = pool.refused_by_file.get(name, 0) + refused
    _refuse_repeated(pool, files, limits)
    if not pool.alive.any():
        raise DataError(f"{', '.join(str(source.path) for source in files)}: no row is left; see the counts above")
    return pool


def remove_pool(folder: Path) -> None:
    """Frees the disk when the sets are written."""
    shutil.rmtree(folder, ignore_errors=True)


def _write_unit(source: SourceFile, work: Path, seed: int, limits: Limits, count_tokens: CountTokens | None) -> None:
    columns = {name: array(code) for name, code in COLUMNS.items()}
    strata: dict[Stratum, int] = {}
    sources: dict[str, int] = {}
    refused: list[str] = []
    counts = dict.fromkeys(COUNTS, 0)
    with (work / "rows.jsonl").open("w", encoding="utf-8", newline="\n") as out:
        for line, row in _checked(source, limits.latin_language):
            tokens = 0
            if not isinstance(row, str):
                try:
                    tokens = count_tokens(row) if count_tokens else 0
                except DataError as error:
                    row = f"{source.path}:{line}: {error}"
            if not isinstance(row, str) and tokens > limits.sequence_length:
                if limits.too_long == "drop":
                    counts["too_long"] += 1
                    continue
                row = f"{source.path}:{line}: {tokens} tokens, more than sequence_length={limits.sequence_length}"
            if isinstance(row, str):
                counts["refused"] += 1
                if len(refused) < MAX_PROBLEMS_KEPT:
                    refused.append(row)
                continue
            near = limits.held_out.reason_for(row.id, row.to_json()) if limits.held_out else None
            if near is not None:
                counts[f"held_out/{near}"] += 1
                continue
            out.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")
            counts["rows"] += 1
            stratum = Stratum(source.part, row.capability, row.task, row.language)
            values: dict[str, Any] = {
                "key": derive_seed(seed, "choose", row.id),
                "id_hash": derive_seed("id", row.id),
                "line": line,
                "stratum": strata.setdefault(stratum, len(strata)),
                "source": sources.setdefault(source_name(row.source), len(sources)),
                "tokens": tokens,
                "weight": row.weight,
            }
            for name, value in values.items():
                columns[name].append(value)
    check_refused_share(source.path, counts, refused, limits.max_refused_share)
    for name, column in columns.items():
        np.save(work / f"{name}.npy", np.frombuffer(column, dtype=column.typecode))
    meta = {"strata": list(strata), "sources": list(sources), "refused": refused, "counts": counts}
    atomic_write_json(work / "meta.json", meta)


def _checked(source: SourceFile, latin_language: str) -> Iterator[tuple[int, TrainingConversation | str]]:
    """(line, conversation, or why there is none)."""
    task = source.path.name.partition(".")[0]
    capability = "general" if source.part == "general" else "unknown"
    for record in read_records(source.path):
        where = f"{source.path}:{record.line}"
        if record.value is None:
            yield record.line, f"{where}: {record.problem}"
            continue
        defaults = Defaults(f"{source.name}#{record.index}", task, capability, source.name, latin_language)
        try:
            yield record.line, read_conversation(record.value, where, defaults, source.format)
        except DataError as error:
            yield record.line, str(error)


def source_name(source: str) -> str:
    """The source without the number of the row (`file#12`)."""
    return source.rpartition("#")[0] or source


def check_refused_share(path: Path, counts: Mapping[str, int], refused: Sequence[str], limit: float) -> None:
    """Raises DataError where a file has no row, no good one, or more than `limit` refused ones."""
    total = sum(counts[name] for name in COUNTS)
    if total == 0:
        raise DataError(f"{path}: no row; leave the file out or fill it")
    if counts["refused"] > limit * total or counts["refused"] == total:
        shown = "\n".join(f"  {problem}" for problem in refused[:MAX_PROBLEMS_SHOWN])
        raise DataError(
            f"{path}: {counts['refused']} of {total} rows refused, but at most {limit:.0%} may be and one must remain; "
            f"correct the file or raise max_refused_share; first problems:\n{shown}"
        )


def _joined(folders: Sequence[Path]) -> Pool:
    strata: dict[Stratum, int] = {}
    sources: dict[str, int] = {}
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS}
    refused: list[str] = []
    counts = dict.fromkeys(COUNTS, 0)
    for folder in folders:
        meta = _meta(folder)
        columns = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in COLUMNS}
        columns["stratum"] = _renumbered(columns["stratum"], (Stratum(*names) for names in meta["strata"]), strata)
        columns["source"] = _renumbered(columns["source"], meta["sources"], sources)
        for name, column in columns.items():
            parts[name].append(column)
        refused += meta["refused"]
        counts = {name: count + meta["counts"][name] for name, count in counts.items()}
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Pool(
        list(strata), list(sources), joined, np.ones(len(joined["key"]), dtype=bool), list(folders), refused, counts
    )


def _meta(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return found


def _renumbered(column: NDArray[Any], names: Iterable[Any], numbers: dict[Any, int]) -> NDArray[Any]:
    own = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype="i")
    return np.take(own, column)


def _refuse_repeated(pool: Pool, files: Sequence[SourceFile], limits: Limits) -> None:
    """Refuses every row whose id stood before it."""
    hashes = pool.columns["id_hash"]
    order = np.argsort(hashes, kind="stable")
    repeats = order[1:][hashes[order][1:] == hashes[order][:-1]]
    if not repeats.size:
        return
    pool.alive[repeats] = False
    pool.counts["refused"] += len(repeats)
    pool.counts["rows"] -= len(repeats)
    ids = _ids_of(pool, set(repeats[:MAX_PROBLEMS_KEPT].tolist()))
    sizes = np.cumsum([_num_rows(folder) for folder in pool.folders])
    problems = []
    for place, row_id in sorted(ids.items()):
        path = files[int(np.searchsorted(sizes, place, side="right"))].path
        problems.append(f"{path}:{pool.columns['line'][place]}: id {row_id!r} stands before it in the inputs")
    if len(repeats) > limits.max_refused_share * len(pool):
        shown = "\n".join(f"  {problem}" for problem in problems[:MAX_PROBLEMS_SHOWN])
        raise DataError(
            f"{len(repeats)} of {len(pool)} rows have an id that stood before, but at most "
            f"{limits.max_refused_share:.0%} may be refused; give ids, or leave the repeated input out:\n{shown}"
        )
    pool.refused += problems


def _ids_of(pool: Pool, places: set[int]) -> dict[int, str]:
    numbered = itertools.islice(enumerate(pool.lines()), max(places) + 1)
    return {place: json.loads(line)["id"] for place, line in numbered if place in places}


def _num_rows(folder: Path) -> int:
    return len(np.load(folder / "key.npy", mmap_mode="r", allow_pickle=False))
