"""Text of benchmarks: pulled out of any JSON, indexed by n-grams, searched for in documents."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json, open_unpacked
from megatron_redone.curation.filter.config import DecontaminationConfig
from megatron_redone.curation.filter.identity import save
from megatron_redone.data.ngrams import Hashes, ngram_hashes, unit_hashes, units

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def benchmark_files(source: Path, names: Sequence[str] = ()) -> list[Path]:
    """The files of a benchmark: itself, or the JSON files of a folder; with `names` those whose name fits one of them.

    Raises:
        DataError: there are none, or none for one of the names.
    """
    if source.is_file():
        return [source]
    found = sorted(path for path in source.rglob("*") if path.name.endswith(SUFFIXES)) if source.is_dir() else []
    if not found:
        raise DataError(f"{source}: no benchmark files there; give {', '.join(SUFFIXES)}, or a folder of them")
    unmatched = [name for name in names if not any(fnmatchcase(path.name, name) for path in found)]
    if unmatched:
        held = ", ".join(path.name for path in found[:10])
        raise DataError(f"{source}: no file fits files={unmatched}; it holds {held}")
    return [path for path in found if not names or any(fnmatchcase(path.name, name) for name in names)]


def rows_of(path: Path) -> Iterator[tuple[int, Any]]:
    """(index, row) of a file: the members of a list, the lines of JSONL, or the whole value as one row.

    Indices count from 0, as the file's readers number its rows.

    Raises:
        DataError: not JSON, or cut (names file and line).
    """
    number = 0
    try:
        with open_unpacked(path) as file:
            if ".jsonl" not in path.name:
                value = _parsed(file.read(), str(path))
                yield from enumerate(value) if isinstance(value, list) else [(0, value)]
                return
            index = 0
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield index, _parsed(line, f"{path}:{number}")
                    index += 1
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}:{number + 1}: cannot be read on from here ({error}); copy the file again") from error


def _parsed(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested too deep, a number too long
        raise DataError(f"{where}: a benchmark that is no JSON ({error}); nothing could be compared with it") from error


def texts_of(value: Any, fields: Sequence[str]) -> Iterator[str]:
    """Every string inside a value; with `fields` those alone that stand under one of these keys."""
    if isinstance(value, str):
        if not fields:
            yield value
    elif isinstance(value, list):
        for member in value:
            yield from texts_of(member, fields)
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from texts_of(member, () if key in fields else fields)


def write_index(sources: Sequence[Path], config: DecontaminationConfig, folder: Path) -> None:
    """Writes the n-grams of all benchmarks, sorted, with the row that each comes from."""
    names: list[str] = []
    rows: list[list[int]] = []
    grams: dict[int, list[Hashes]] = {}
    owners: dict[int, list[npt.NDArray[np.uint32]]] = {}
    for source in sources:
        for path in benchmark_files(source, config.files):
            name = path.name if path == source else f"{source.name}/{path.relative_to(source).as_posix()}"
            names.append(name)
            for index, row in rows_of(path):
                for n, found in _grams_of(row, config).items():
                    grams.setdefault(n, []).append(found)
                    owners.setdefault(n, []).append(np.full(len(found), len(rows), np.uint32))
                rows.append([len(names) - 1, index])
    file_of_row = np.array([file for file, _ in rows], np.uint32)
    for n, parts in grams.items():
        keys, rows_of_keys = np.concatenate(parts), np.concatenate(owners[n])
        keep = rare(keys, file_of_row[rows_of_keys], config.max_rows_per_ngram)
        keys, rows_of_keys = keys[keep], rows_of_keys[keep]
        order = np.lexsort((rows_of_keys, keys))
        save(folder / f"{n}.grams.npy", keys[order])
        save(folder / f"{n}.rows.npy", rows_of_keys[order])
    atomic_write_json(folder / "index.json", {"files": names, "rows": rows, "lengths": sorted(grams)})


def _grams_of(row: Any, config: DecontaminationConfig) -> dict[int, Hashes]:
    """n -> different n-grams of a row; a text shorter than an n-gram is one gram of its own length."""
    found: dict[int, list[Hashes]] = {}
    for text in texts_of(row, config.fields):
        hashes = unit_hashes(units(text))
        n = min(len(hashes), config.ngram_units)
        if n >= min(config.min_units, config.ngram_units):
            found.setdefault(n, []).append(ngram_hashes(hashes, n))
    return {n: np.unique(np.concatenate(parts)) for n, parts in found.items()}


def rare(keys: Hashes, files: npt.NDArray[np.uint32], limit: int) -> npt.NDArray[np.bool_]:
    """Which (gram, file) pairs stand in at most `limit` rows; each row holds a gram once."""
    order = np.lexsort((files, keys))
    same = (keys[order][1:] == keys[order][:-1]) & (files[order][1:] == files[order][:-1])
    group = np.concatenate([[0], np.cumsum(~same)]) if len(keys) else np.zeros(0, np.int64)
    counts = np.bincount(group)[group] if len(keys) else group
    rare = np.empty(len(keys), bool)
    rare[order] = counts <= limit
    return rare


class BenchmarkIndex:
    """What `write_index` wrote, opened for searching; the arrays stay on disk.

    Args:
        folder: the index's folder.
        ngram_units: length of the n-grams that are counted; shorter ones are whole texts.
        min_matches: different n-grams of one row that make a match.
    """

    def __init__(self, folder: Path, ngram_units: int, min_matches: int) -> None:
        description = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.ngram_units, self.min_matches = ngram_units, min_matches
        self._files: list[str] = description["files"]
        self._rows: list[list[int]] = description["rows"]
        self._grams = {
            n: (np.load(folder / f"{n}.grams.npy", mmap_mode="r"), np.load(folder / f"{n}.rows.npy", mmap_mode="r"))
            for n in description["lengths"]
        }

    def match(self, text: str) -> str | None:
        """The benchmark row that shares most with a text, as `FILE:INDEX (COUNT n-grams)`; None where none does.

        A short benchmark text that stands in the document as a whole is a match by itself.
        """
        hashes = unit_hashes(units(text))
        matches: dict[int, int] = {}
        for n, (grams, rows) in self._grams.items():
            own = np.unique(ngram_hashes(hashes, n))
            starts, stops = np.searchsorted(grams, own), np.searchsorted(grams, own, side="right")
            for start, stop in zip(starts[stops > starts], stops[stops > starts], strict=True):
                for row in rows[start:stop]:
                    matches[int(row)] = matches.get(int(row), 0) + (1 if n == self.ngram_units else self.min_matches)
        best = max(matches, key=lambda row: (matches[row], -row), default=None)
        if best is None or matches[best] < self.min_matches:
            return None
        file, index = self._rows[best]
        return f"{self._files[file]}:{index} ({matches[best]} n-grams)"
