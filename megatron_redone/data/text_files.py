"""A corpus of texts on disk: JSONL files, plain or gzipped, read in pieces with line numbers. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import open_unpacked
from megatron_redone.data.conversation import check_unicode

ENDINGS = (".jsonl", ".jsonl.gz")
CORPUS = "corpus"
"""Where a folder holds other rows beside a corpus, the names of the corpus's files begin so."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class TextFile:
    """What a scan found.

    Attributes:
        path: the file.
        num_bytes: its text, unpacked.
        num_lines: lines, blank ones too.
        sha256: of the file as it is.
        cuts: (byte, line from 1) of the starts of the pieces that it may be read in; a gzip file is one piece, an
            empty file none.
    """

    path: Path
    num_bytes: int
    num_lines: int
    sha256: str
    cuts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Piece:
    """Whole lines of a file: the bytes from `start` up to `end` (of its text, unpacked)."""

    path: Path
    start: int
    end: int
    first_line: int


@dataclass(frozen=True)
class TextDocument:
    """A line that can be used."""

    line: int
    id: str | None
    text: str


def corpus_files(path: Path) -> list[Path]:
    """The JSONL files of a corpus, in order: a file, or those of a folder (not of folders in it).

    A folder may hold any number of *.jsonl and *.jsonl.gz. If names of some begin with `corpus`, the corpus is these,
    and the others are rows of another kind.

    Raises:
        DataError: there are none.
    """
    if path.is_file():
        if not path.name.endswith(ENDINGS):
            raise DataError(f"{path}: no {' or '.join(ENDINGS)}; give a file of JSON lines or a folder of such files")
        return [path]
    found = sorted(file for file in path.glob("*") if file.name.endswith(ENDINGS) and file.is_file())
    named = [file for file in found if file.name.startswith(CORPUS)]
    if not found:
        raise DataError(
            f"{path}: no {' and no '.join(ENDINGS)} in it; give a file, or the folder in which the files lie"
        )
    return named or found


def undivided_warning(sizes: Mapping[Path, int], num_tasks: int, workers: int, task_bytes: int) -> str | None:
    """What to tell the user when compressed files, which are never divided, leave workers without a task.

    Args:
        sizes: bytes of each input, as they count for `task_bytes`.
        num_tasks: tasks that the inputs were divided into.
        task_bytes: what one task is meant to read.
    """
    possible = min(workers, -(-sum(sizes.values()) // task_bytes))
    large = sorted(path.name for path, size in sizes.items() if path.suffix == ".gz" and size > task_bytes)
    if num_tasks >= possible or not large:
        return None
    more = f" and {len(large) - 3} more" if len(large) > 3 else ""
    return (
        f"{workers} workers, but only {num_tasks} tasks: a compressed file is never divided ({', '.join(large[:3])}"
        f"{more}); unpack it, or split it: zcat IT | split -l 500000 --filter='gzip > $FILE.jsonl.gz' - corpus-"
    )


def scan(path: Path, piece_bytes: int) -> TextFile:
    """Reads a file through once: hash, lines, and places to cut it at. It is not parsed.

    Raises:
        DataError: a gzip file that is damaged or ends in the middle (names the line).
    """
    if path.name.endswith(".gz"):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size, lines, _ = _measure(path, None, piece_bytes)
        return TextFile(path, size, lines, sha256, ((0, 1),) if size else ())
    digest = hashlib.sha256()
    size, lines, cuts = _measure(path, digest, piece_bytes)
    return TextFile(path, size, lines, digest.hexdigest(), tuple(cuts))


def _measure(path: Path, digest: Any, piece_bytes: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Bytes, lines and cuts: the first line that starts at or after each multiple of `piece_bytes`."""
    size = ends = 0
    cuts, last = [(0, 1)], b"\n"
    for chunk in _chunks(path):
        if digest is not None:
            digest.update(chunk)
        wanted = cuts[-1][0] + piece_bytes
        while wanted <= size + len(chunk):
            # a line starts at `wanted` if the byte before it ends one; that byte may be the last of the chunk before
            found = chunk.find(b"\n", max(wanted - 1 - size, 0))
            if found < 0:
                break
            cuts.append((size + found + 1, ends + chunk.count(b"\n", 0, found + 1) + 1))
            wanted = cuts[-1][0] + piece_bytes
        size += len(chunk)
        ends += chunk.count(b"\n")
        last = chunk[-1:]
    lines = ends + (last != b"\n")
    return size, lines, [cut for cut in cuts if cut[0] < size]


def _chunks(path: Path) -> Iterator[bytes]:
    with open_unpacked(path) as file:
        lines = 0
        while True:
            try:
                chunk = file.read1(_CHUNK_BYTES)  # `read` would throw away what precedes the damage
            except (EOFError, OSError, zlib.error) as error:
                raise _damaged(path, lines + 1, error) from error
            if not chunk:
                return
            lines += chunk.count(b"\n")
            yield chunk


def _damaged(path: Path, line: int, error: Exception) -> DataError:
    return DataError(f"{path}:{line}: cannot be read on from here ({error}); the file is cut or damaged, copy it again")


def read_lines(piece: Piece, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Yields (line number from 1, line) of a piece; None instead of a line that is longer than `max_bytes`.

    Raises:
        DataError: the file cannot be read to the end of the piece.
    """
    with open_unpacked(piece.path) as file:
        if piece.start:
            file.seek(piece.start)
        position, number = piece.start, piece.first_line
        while position < piece.end:
            try:
                line: bytes | None = file.readline(max_bytes + 1)
                position += len(line or b"")
                if line and len(line) > max_bytes and not line.endswith(b"\n"):
                    position += _skip_line(file, max_bytes)
                    line = None
            except (EOFError, OSError, zlib.error) as error:
                raise _damaged(piece.path, number, error) from error
            if line == b"":
                raise _damaged(piece.path, number, EOFError("it has become shorter"))
            yield number, line
            number += 1


def _skip_line(file: BufferedReader, max_bytes: int) -> int:
    skipped = 0
    while part := file.readline(max_bytes):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def read_texts(
    piece: Piece, text_key: str = "text", id_key: str = "id", max_bytes: int = 64 << 20
) -> Iterator[TextDocument | str]:
    """Yields the documents of a piece in order; in place of one that cannot be used, why, with file and line.

    Blank lines are skipped. An id may be a string or an integer, or lack.

    Raises:
        DataError: as `read_lines`.
    """
    for number, line in read_lines(piece, max_bytes):
        where = f"{piece.path}:{number}"
        if line is None:
            yield f"{where}: longer than {max_bytes:,} bytes; split the document, or raise max_document_mib"
        elif line.strip():
            yield _document(line, number, where, text_key, id_key)


def _document(line: bytes, number: int, where: str, text_key: str, id_key: str) -> TextDocument | str:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"{where}: not UTF-8 at byte {error.start}; save the file as UTF-8"
    except json.JSONDecodeError as error:
        return f"{where}: not JSON ({error.msg} at column {error.colno}); one object a line"
    except (RecursionError, ValueError) as error:  # nested too deep, or an integer of thousands of digits
        return f"{where}: not usable JSON ({error}); one object a line"
    if not isinstance(value, dict):
        return f"{where}: a {type(value).__name__}, expected a JSON object in each line"
    text, identifier = value.get(text_key), value.get(id_key)
    if not isinstance(text, str):
        return f"{where}: no text under the key `{text_key}`; each line is {{'{text_key}': ...}}"
    if identifier is not None and (not isinstance(identifier, str | int) or isinstance(identifier, bool)):
        return f"{where}: `{id_key}` is a {type(identifier).__name__}; an id is a string or an integer"
    identity = None if identifier is None else str(identifier)
    try:
        check_unicode(text, where)
        check_unicode(identity or "", f"{where}: `{id_key}`")
    except DataError as error:
        return str(error)
    return TextDocument(number, identity, text)
