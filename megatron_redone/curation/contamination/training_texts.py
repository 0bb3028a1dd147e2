"""Training files as records with texts: JSON and JSONL of any form, plain text, token shards."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import open_unpacked
from megatron_redone.curation.filter.benchmarks import texts_of
from megatron_redone.curation.interactions.reading import Refusals
from megatron_redone.curation.sft.records import MAX_OBJECT_BYTES, SUFFIXES as JSON_SUFFIXES, read_records
from megatron_redone.data.ngrams import units

TEXT_SUFFIXES = (".txt", ".txt.gz", ".md", ".text")
BLOCK_CHARACTERS = 1 << 16
"""A plain text is searched in blocks of about so many characters."""
TAIL_CHARACTERS = 1 << 12
"""So many characters of the block before stand in front of a block, so that no n-gram falls between two."""
_LINE_BYTES = 1 << 22


@dataclass(frozen=True)
class TrainingRecord:
    """What is compared with the benchmarks at once: a line's texts, a block of a plain text, a document of tokens.

    Attributes:
        path: the file.
        place: line from 1, or number of the document from 0.
        texts: every text in it.
        is_block: whether `place` is the line on which the text begins, and the text has many lines.
    """

    path: Path
    place: int
    texts: Sequence[str]
    is_block: bool = False

    def where(self, text: int, unit: int) -> str:
        """`file:line` of a unit of a text."""
        line = self.place
        if self.is_block:
            seen = 0
            for offset, part in enumerate(self.texts[text].split("\n")):
                seen += len(units(part))
                if seen > unit:
                    line += offset
                    break
        return f"{self.path}:{line}"


def training_files(source: Path) -> list[Path]:
    """The training files of a path: itself; of a folder its JSON, text and token files.

    Token shards are named by their .idx file.

    Raises:
        DataError: nothing that can be read.
    """
    known = (*JSON_SUFFIXES, *TEXT_SUFFIXES, ".idx")
    if source.is_file():
        if not source.name.endswith(known):
            raise DataError(f"{source}: the name has to end with one of {', '.join(known)}; rename or convert it")
        return [source]
    found = sorted(path for path in source.rglob("*") if path.name.endswith(known) and path.is_file())
    described = {"manifest.json", "tokens.json", "set.json"}
    found = [path for path in found if path.name not in described]
    if not found:
        raise DataError(f"{source}: no file that ends with one of {', '.join(known)}; check the path")
    return found


def read_training(
    path: Path, refusals: Refusals, decode: Callable[[Sequence[int]], str] | None
) -> Iterator[TrainingRecord]:
    """The records of a file; broken lines are refused and counted.

    Args:
        decode: tokens to text, needed for token shards.

    Raises:
        DataError: a file that cannot be read to its end, or too many refused lines.
    """
    if path.name.endswith(".idx"):
        yield from _documents(path, refusals, decode)
    elif (whole := _one_object(path)) is not None:
        refusals.num_lines += 1
        yield TrainingRecord(path, 1, tuple(texts_of(whole, ())))
    elif path.name.endswith(JSON_SUFFIXES):
        for record in read_records(path):
            refusals.num_lines += 1
            if record.value is None:
                refusals.refuse(f"{path}:{record.line}: {record.problem}")
            else:
                yield TrainingRecord(path, record.line, tuple(texts_of(record.value, ())))
    else:
        yield from _blocks(path, refusals)


def _one_object(path: Path) -> object | None:
    """The value of a .json file that is one object over many lines; None for a list, lines, and other files."""
    if not path.name.endswith((".json", ".json.gz")):
        return None
    with open_unpacked(path) as file:
        try:
            if file.peek(1)[:1] == b"[":
                return None
            raw = file.read(MAX_OBJECT_BYTES + 1)
            value = json.loads(raw.decode("utf-8-sig")) if len(raw) <= MAX_OBJECT_BYTES else None
        except (ValueError, RecursionError, EOFError, OSError, zlib.error):
            return None  # what is wrong with it is told by the line
    return value if isinstance(value, dict) else None


def _documents(
    path: Path, refusals: Refusals, decode: Callable[[Sequence[int]], str] | None
) -> Iterator[TrainingRecord]:
    if decode is None:
        raise DataError(f"{path}: tokens are compared as text; give their tokenizer with --tokenizer")
    from megatron_redone.data.indexed_corpus import read_documents

    for number, ids in enumerate(read_documents(path.with_suffix(""))):
        refusals.num_lines += 1
        yield TrainingRecord(path, number, (decode(ids),))


def _blocks(path: Path, refusals: Refusals) -> Iterator[TrainingRecord]:
    tail, tail_line = "", 1
    lines: list[str] = []
    size = 0
    for number, line in _text_lines(path, refusals):
        lines.append(line)
        size += len(line)
        if size >= BLOCK_CHARACTERS:
            text = tail + "".join(lines)
            yield TrainingRecord(path, tail_line, (text,), is_block=True)
            cut = max(len(text) - TAIL_CHARACTERS, 0)
            tail_line = number + 1 - text.count("\n", cut)
            tail, lines, size = text[cut:], [], 0
    if lines:
        yield TrainingRecord(path, tail_line, (tail + "".join(lines),), is_block=True)


def _text_lines(path: Path, refusals: Refusals) -> Iterator[tuple[int, str]]:
    """(line from 1, text with its line end); a line that is not UTF-8 is refused, a very long one comes in pieces."""
    number, ended = 0, True
    with open_unpacked(path) as file:
        while True:
            try:
                raw = _piece(file)
            except (EOFError, OSError, zlib.error) as error:
                raise DataError(
                    f"{path}:{number + 1}: cannot be read on from here ({error}); the file is cut or damaged, "
                    "copy it again"
                ) from error
            if not raw:
                return
            number += ended
            ended = raw.endswith(b"\n")
            refusals.num_lines += 1
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                refusals.refuse(f"{path}:{number}: not UTF-8 at byte {error.start}; save the file as UTF-8")
                yield number, "\n" * ended


def _piece(file: BufferedReader) -> bytes:
    """A line; of a very long one as much as `_LINE_BYTES`, cut between two characters."""
    raw = file.readline(_LINE_BYTES)
    while len(raw) >= _LINE_BYTES and file.peek(1) and file.peek(1)[0] & 0xC0 == 0x80:
        raw += file.read(1)
    return raw
