"""Objects of JSON and JSONL files, plain or gzipped, one at a time with file, line and index.

A `.json` file that is one long list is read in pieces, so that its size does not matter. A bad line of a JSONL file is
a problem of that line; after a bad place in a list nothing more can be read, so that ends the reading.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from megatron_redone.common.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
MAX_OBJECT_BYTES = 64 * 2**20
_PIECE_BYTES = 2**20
_BOM = codecs.BOM_UTF8


@dataclass(frozen=True)
class Record:
    """One object of a file, or why it is none."""

    index: int
    """Number of the object in the file, from 0; bad ones count."""
    line: int
    """Line on which it starts, from 1."""
    value: dict[str, Any] | None
    problem: str | None
    """What is wrong, without the place."""


def input_files(path: Path) -> list[Path]:
    """The data files of an input: the file itself, or those of a folder in order of their names.

    Of a folder the `.jsonl` files are taken, with all folders below; where it has none, its `.json` files.

    Raises:
        DataError: nothing there that can be read.
    """
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise DataError(f"{path}: the name has to end with one of {', '.join(SUFFIXES)}; rename or convert it")
        return [path]
    for suffixes in (SUFFIXES[:2], SUFFIXES[2:]):
        found = sorted(
            file for file in path.rglob("*") if file.name.endswith(suffixes) and file.name != "manifest.json"
        )
        if found:
            return found
    raise DataError(f"{path}: no file that ends with one of {', '.join(SUFFIXES)}; check the path")


def read_records(path: Path) -> Iterator[Record]:
    """The objects of a file in order.

    Raises:
        DataError: no such file, a damaged gzip file, an object of more than 64 MiB, a list with a syntax error (names
            file and line).
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    line = 1
    try:
        with _opened(path) as file:
            reader = _list_records(path, file) if _is_list(path, file) else _line_records(path, file)
            for record in reader:
                line = record.line
                yield record
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}:{line}: the gzip file is damaged or cut after this line ({error}); get it again"
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    with path.open("rb") as raw:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield io.BufferedReader(unzipped)
        else:
            yield raw


def _is_list(path: Path, file: io.BufferedReader) -> bool:
    start = file.peek(4096)[:4096].removeprefix(_BOM).lstrip()
    return start.startswith(b"[") and ".jsonl" not in path.name


def _line_records(path: Path, file: IO[bytes]) -> Iterator[Record]:
    index = 0
    for line, raw in enumerate(iter(lambda: file.readline(MAX_OBJECT_BYTES + 1), b""), start=1):
        if len(raw) > MAX_OBJECT_BYTES:
            raise DataError(f"{path}:{line}: a line of more than {MAX_OBJECT_BYTES >> 20} MiB; one object a line")
        if line == 1:
            raw = raw.removeprefix(_BOM)
        if not raw.strip():
            continue
        value, problem = _decoded(raw)
        yield Record(index, line, value, problem)
        index += 1


def _decoded(raw: bytes) -> tuple[dict[str, Any] | None, str | None]:
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 at byte {error.start}; save the file as UTF-8"
    except json.JSONDecodeError as error:
        return None, f"not JSON ({error.msg} at column {error.colno}); one object a line"
    except RecursionError:
        return None, "nested too deeply; one flat object a line"
    except ValueError as error:
        return None, f"not usable JSON ({error}); one object a line"
    return _object(value)


def _object(value: object) -> tuple[dict[str, Any] | None, str | None]:
    if isinstance(value, dict):
        return value, None
    return None, f"a {type(value).__name__}, expected a JSON object"


def _list_records(path: Path, file: IO[bytes]) -> Iterator[Record]:
    """The objects of a list, of which one piece at a time is held."""
    text = _Pieces(path, file)
    text.skip("[")
    index = 0
    while (sign := text.next_sign()) != "]":
        if index:
            if sign != ",":
                raise text.error("expected a comma or the end of the list")
            text.skip(",")
        if text.next_sign() == "":
            raise text.error("the list has no end")
        line = text.line
        value, problem = _object(text.value())
        yield Record(index, line, value, problem)
        index += 1
    text.skip("]")
    if text.next_sign():
        raise text.error("something follows the list")


class _Pieces:
    """A window on the text of a file that grows until a value is whole and drops what was read."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self.line = path, file, 1
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text, self._place, self._ended = "", 0, False

    def error(self, rule: str) -> DataError:
        return DataError(f"{self.path}:{self.line}: {rule}; mend the file, or write one object a line as .jsonl")

    def next_sign(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in " \t\r\n":
                self._advance(self._place + 1)
            if self._place < len(self._text):
                return self._text[self._place]
            if self._ended:
                return ""
            self._grow(_PIECE_BYTES)

    def skip(self, sign: str) -> None:
        assert self.next_sign() == sign
        self._advance(self._place + 1)

    def value(self) -> object:
        """The JSON value that starts here."""
        size = _PIECE_BYTES
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                if self._ended:
                    raise self.error(f"not JSON ({error.msg})") from error
                end = len(self._text)
            except RecursionError as error:
                raise self.error("nested too deeply") from error
            if end < len(self._text) or self._ended:
                self._advance(end)
                return value
            if len(self._text) - self._place > MAX_OBJECT_BYTES:
                raise self.error(f"no end of a value within {MAX_OBJECT_BYTES >> 20} MiB")
            self._grow(size)
            size *= 2

    def _advance(self, place: int) -> None:
        self.line += self._text.count("\n", self._place, place)
        self._place = place

    def _grow(self, size: int) -> None:
        raw = self.file.read(size)
        self._ended = not raw
        try:
            more = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            raise self.error("not UTF-8 in what follows this line; save the file as UTF-8") from error
        self._text, self._place = self._text[self._place :] + more, 0
