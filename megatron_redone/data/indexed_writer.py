"""Writes Megatron's indexed dataset (NAME.bin and NAME.idx) in flat memory. Imports no torch.

The library's builder keeps a Python list a document and needs torch and Megatron in every process that writes. This
one keeps 4 bytes a document, takes documents in batches and hashes while it writes; a test holds its files equal to
the builder's, byte for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import disk_full_reported, fsync_directory

HEADER = struct.Struct("<9sQBQQ")  # magic, version, dtype code, number of sequences, number of document ends
MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
INT32, UINT16 = 4, 8
"""Codes of the two types that token ids are stored in."""
UINT16_BELOW = 65_500
"""Vocabularies below this size are stored in 2 bytes an id, as Megatron's own tools do."""
_POINTERS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class CorpusCounts:
    """What was written.

    Attributes:
        num_documents: documents in the corpus.
        num_tokens: their tokens; none is added.
        num_empty: documents without tokens, which were left out.
    """

    num_documents: int
    num_tokens: int
    num_empty: int


def with_suffix(prefix: Path, suffix: str) -> Path:
    """The file of a prefix, whose own name may hold dots."""
    return prefix.with_name(prefix.name + suffix)


class IndexedWriter:
    """Writes one PREFIX; the files get their names in `finish`, the index last, so what can be opened is whole.

    Args:
        prefix: path without suffix; its folder is made.
        vocab_size: bound of the ids; below 65,500 they are stored in 2 bytes. None: 4 bytes.

    Attributes:
        num_documents, num_tokens, num_empty: as in `CorpusCounts`, so far.
        sha256: of the files `.bin` and `.idx`, after `finish`.
    """

    def __init__(self, prefix: Path, vocab_size: int | None = None) -> None:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        self.prefix = prefix
        self.num_tokens = self.num_empty = 0
        self.sha256: dict[str, str] = {}
        self._limit = vocab_size or 2**31
        self._code = UINT16 if vocab_size is not None and vocab_size < UINT16_BELOW else INT32
        self._dtype = np.dtype(np.uint16 if self._code == UINT16 else np.int32)
        self._lengths = array("i")
        self._digest = hashlib.sha256()
        self._bin = self._partial(".bin").open("wb")

    @property
    def num_documents(self) -> int:
        """Documents so far."""
        return len(self._lengths)

    def counts(self) -> CorpusCounts:
        """What was written so far."""
        return CorpusCounts(self.num_documents, self.num_tokens, self.num_empty)

    def add(self, documents: Sequence[Sequence[int]]) -> None:
        """Appends documents; those without tokens are left out and counted.

        Raises:
            DataError: an id outside 0..vocab_size-1 (names the document by its number from 0, empty ones counted).
        """
        lengths = [len(document) for document in documents]
        total = sum(lengths)
        if total:
            ids = np.fromiter(chain.from_iterable(documents), dtype=np.int64, count=total)
            if int(ids.min()) < 0 or int(ids.max()) >= self._limit:
                self._refuse(documents)
            content = ids.astype(self._dtype).tobytes()
            self._digest.update(content)
            self._bin.write(content)
        kept = [length for length in lengths if length]
        self._lengths.extend(kept)
        self.num_empty += len(lengths) - len(kept)
        self.num_tokens += total

    def _refuse(self, documents: Sequence[Sequence[int]]) -> None:
        first = self.num_documents + self.num_empty
        for number, document in enumerate(documents, first):
            if len(document) and not (min(document) >= 0 and max(document) < self._limit):
                raise DataError(
                    f"document {number} has token ids from {min(document)} to {max(document)}, outside "
                    f"0..{self._limit - 1}; tokenise it with the tokenizer of the model"
                )

    def finish(self) -> CorpusCounts:
        """Writes the index, makes both files durable and gives them their names."""
        self._bin.flush()
        os.fsync(self._bin.fileno())
        self._bin.close()
        digest = hashlib.sha256()
        with self._partial(".idx").open("wb") as file:
            for part in self._index():
                digest.update(part)
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        self.sha256 = {".bin": self._digest.hexdigest(), ".idx": digest.hexdigest()}
        with_suffix(self.prefix, ".idx").unlink(missing_ok=True)
        for suffix in (".bin", ".idx"):
            self._partial(suffix).replace(with_suffix(self.prefix, suffix))
        fsync_directory(self.prefix.parent)
        return self.counts()

    def close(self) -> None:
        """Removes what is not finished."""
        self._bin.close()
        for suffix in (".bin", ".idx"):
            self._partial(suffix).unlink(missing_ok=True)

    def _partial(self, suffix: str) -> Path:
        return self.prefix.with_name(f".{self.prefix.name}{suffix}.tmp")

    def _index(self) -> Iterator[bytes]:
        lengths: npt.NDArray[np.int32] = np.frombuffer(self._lengths, dtype=np.int32)
        yield HEADER.pack(MAGIC, VERSION, self._code, len(lengths), len(lengths) + 1)
        yield lengths.tobytes()
        start = 0
        for first in range(0, len(lengths), _POINTERS_AT_ONCE):
            part = lengths[first : first + _POINTERS_AT_ONCE].astype(np.int64) * self._dtype.itemsize
            ends = np.cumsum(part) + start
            yield (ends - part).tobytes()
            start = int(ends[-1])
        for first in range(0, len(lengths) + 1, _POINTERS_AT_ONCE):
            last = min(first + _POINTERS_AT_ONCE, len(lengths) + 1)
            yield np.arange(first, last, dtype=np.int64).tobytes()


@contextlib.contextmanager
def indexed_writer(prefix: Path, vocab_size: int | None = None) -> Iterator[IndexedWriter]:
    """An `IndexedWriter` that leaves nothing behind unless it was finished, and tells a full disk."""
    with disk_full_reported(with_suffix(prefix, ".bin")):
        writer = IndexedWriter(prefix, vocab_size)
        try:
            yield writer
        finally:
            writer.close()
