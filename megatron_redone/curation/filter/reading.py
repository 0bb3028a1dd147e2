"""Lines of a piece as documents, and every line that is none with its file, number and reason."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.curation.filter.pieces import Piece


@dataclass(slots=True)
class Source:
    """One document as it was read."""

    id: str
    text: str
    place: str
    """`LABEL:LINE`."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The other keys of the line."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that could not be read as a document."""

    label: str
    message: str
    """States file, line, what is wrong, remedy."""
    is_line: bool = True
    """False for what concerns the file as a whole."""


def read_piece(piece: Piece) -> Iterator[Source | Refusal]:
    """The documents and refusals of a piece, in order. Blank lines are skipped.

    Raises:
        DataError: the file has gone since the plan was made.
    """
    empty = True
    for number, raw in _lines(piece):
        if isinstance(raw, Refusal):
            yield raw
            empty = False
            continue
        if not raw.strip():
            continue
        empty = False
        yield _document(piece, number, raw)
    if empty and piece.start == 0 and piece.stop is None:
        yield Refusal(piece.label, f"{piece.label}:1: the file is empty; leave it out", is_line=False)


def _lines(piece: Piece) -> Iterator[tuple[int, bytes | Refusal]]:
    """(line number, bytes), and a refusal where a compressed file breaks off."""
    number = piece.first_line
    try:
        if piece.path.endswith(".gz"):
            with gzip.open(piece.path, "rb") as file:
                for raw in file:
                    yield number, raw
                    number += 1
            return
        with Path(piece.path).open("rb") as plain:
            plain.seek(piece.start)
            while piece.stop is None or plain.tell() < piece.stop:
                raw = plain.readline()
                if not raw:
                    return
                yield number, raw
                number += 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        message = (
            f"{piece.label}:{number}: the compressed file breaks off here ({error}); the lines before are used, copy "
            "the file again for the rest"
        )
        yield number, Refusal(piece.label, message)
    except FileNotFoundError as error:
        raise DataError(f"{piece.path}: the file has gone while it was being filtered; put it back") from error


def _document(piece: Piece, number: int, raw: bytes) -> Source | Refusal:
    where = f"{piece.label}:{number}"

    def refused(problem: str) -> Refusal:
        return Refusal(piece.label, f"{where}: {problem}")

    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return refused(f"not UTF-8 at byte {error.start}; save the file as UTF-8")
    except json.JSONDecodeError as error:
        return refused(f"not JSON ({error.msg} at column {error.colno}); one object a line")
    except RecursionError:
        return refused("nested too deeply; a document is an object with id and text")
    if not isinstance(value, dict):
        return refused(f"a {type(value).__name__}, expected a JSON object in each line")
    text = value.pop("text", None)
    if not isinstance(text, str):
        return refused("no text under the key `text`; each line is {'id': ..., 'text': ...}")
    found_id = value.pop("id", None)
    if found_id is None:
        found_id = where
    if not isinstance(found_id, str | int) or isinstance(found_id, bool) or found_id == "":
        return refused(f"id={found_id!r} is no id; give a text or a whole number, or leave it out")
    return Source(str(found_id), text, where, value)
