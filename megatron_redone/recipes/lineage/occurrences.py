"""Where ids stand in files of rows and documents, and which ids were made of which."""

from __future__ import annotations

import heapq
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import open_unpacked
from megatron_redone.recipes.lineage.artefacts import Artefact, ArtefactGraph

MADE_OF, ROW = "made_of", "row"
"""Keys of the ids that a row or document was made of, and of the one row that a preference pair is about."""
COPY = re.compile(r"(.+)#\d+")
"""Id of a copy of a row in a set that repeats rows."""
MOST_NEEDLES = 32
"""Up to so many ids are looked for as bytes before a line is parsed; with more, every line is parsed."""
_SHOWN_KEYS = ("task", "form", "language", "source", "origin", "how", "weight", "pass_rate")


@dataclass(frozen=True)
class Occurrence:
    """A line of a file that has an id, or was made of it."""

    artefact: Artefact
    file: Path
    line: int
    id: str
    made_of: tuple[str, ...]
    facts: Mapping[str, str]
    """Short fields that say what it is: task, form, language, source, origin, how it was made, weight, pass rate."""

    @property
    def place(self) -> str:
        """`stage/file:line`."""
        return f"{self.artefact.name}/{self.file.relative_to(self.artefact.folder)}:{self.line}"

    @property
    def is_prediction(self) -> bool:
        """Whether it is an answer to a held-out row."""
        return self.file.name.startswith("predictions")


def occurrences(artefacts: Iterable[Artefact], ids: Collection[str], derived: bool) -> Iterator[Occurrence]:
    """Lines whose id is one of `ids`; with `derived` also lines made of one of them.

    Raises:
        DataError: a file that is damaged.
    """
    needles = [json.dumps(one, ensure_ascii=False)[:-1].encode("utf-8", "surrogatepass") for one in ids]
    escaped = [json.dumps(one)[:-1].encode() for one in ids]  # without the last quotation mark: a copy's id goes on
    wanted, sought = set(ids), {*needles, *escaped}
    for artefact in artefacts:
        for path in artefact.data_files():
            for number, line in lines_of(path):
                if len(wanted) <= MOST_NEEDLES and not any(needle in line for needle in sought):
                    continue
                value = object_of(line)
                identifier, parts = value.get("id"), _parts(value)
                if identifier in wanted or (derived and not wanted.isdisjoint(parts)):
                    facts = {key: _short(value[key]) for key in _SHOWN_KEYS if _tells(value.get(key))}
                    yield Occurrence(artefact, path, number, str(identifier), parts, facts)


def _parts(value: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids that a line was made of: those it names, the row of a pair, what a copy is a copy of."""
    identifier, made_of, row = value.get("id"), value.get(MADE_OF), value.get(ROW)
    parts = [str(part) for part in made_of] if isinstance(made_of, list) else []
    if isinstance(row, str) and row != identifier:
        parts.append(row)
    if isinstance(identifier, str) and (copy := COPY.fullmatch(identifier)):
        parts.append(copy[1])
    return tuple(dict.fromkeys(parts))


def _tells(value: object) -> bool:
    """Whether a field says more than its default; a pass rate of 0 does, a weight of 1 does not."""
    return value is not None and value != "" and not (isinstance(value, float) and value == 1.0)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def nearest_ids(graph: ArtefactGraph, wanted: str, count: int = 3) -> list[str]:
    """The ids that begin and end most like `wanted`."""

    def likeness(identifier: str) -> int:
        start = _common(identifier, wanted)
        return start + _common(identifier[start:][::-1], wanted[start:][::-1])

    def candidates() -> Iterator[tuple[int, str]]:
        seen: set[int] = set()
        for artefact in graph.artefacts:
            for path in artefact.data_files():
                for _, line in lines_of(path):
                    identifier = object_of(line).get("id")
                    if isinstance(identifier, str) and hash(identifier) not in seen:
                        seen.add(hash(identifier))
                        score = likeness(identifier)
                        if 2 * score >= len(wanted):
                            yield score, identifier

    return [identifier for _, identifier in heapq.nlargest(count, candidates())]


def _common(left: str, right: str) -> int:
    """Characters that both begin with."""
    return next(
        (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of a file, plain or gzipped.

    Raises:
        DataError: it cannot be read to its end.
    """
    with open_unpacked(path) as file:
        try:
            yield from enumerate(file, start=1)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: cannot be read to its end ({error}); it is not what its stage wrote") from error


def object_of(line: bytes) -> dict[str, Any]:
    """The JSON object of a line, empty where it is none."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
