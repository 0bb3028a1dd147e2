"""Tokenised documents on disk, read one at a time: what a training set weighs no longer counts in memory.

Token ids and loss masks lie in two temporary files that vanish when the store is closed; in memory stay the length, the
weight and the sample id of each document.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from megatron_redone.data.document import Document


class DocumentStore:
    """A sequence of documents whose loss masks are one weight or 0; five bytes a token on disk.

    Close it, or use `with`. The files are in the folder for temporary files (`TMPDIR`).
    """

    def __init__(self) -> None:
        self._token_file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the store)
        self._mask_file = tempfile.TemporaryFile()  # noqa: SIM115
        self._ends = array("q")
        self._weights = array("d")
        self.sample_ids: list[str] = []
        self._mapped: tuple[NDArray[np.uint32], NDArray[np.bool_]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._mapped = None
        self._token_file.close()
        self._mask_file.close()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, token_ids: Sequence[int], learnt: Sequence[bool], weight: float, sample_id: str) -> None:
        """Appends a document.

        Args:
            token_ids: n tokens, n > 0.
            learnt: n booleans: whether the token is to be learnt.
            weight: what a learnt token counts in the loss.
        """
        assert len(token_ids) == len(learnt) > 0
        self._token_file.write(np.asarray(token_ids, dtype=np.uint32).tobytes())
        self._mask_file.write(np.asarray(learnt, dtype=np.bool_).tobytes())
        self._ends.append((self._ends[-1] if self._ends else 0) + len(token_ids))
        self._weights.append(weight)
        self.sample_ids.append(sample_id)
        self._mapped = None

    @property
    def lengths(self) -> list[int]:
        """Tokens of each document."""
        ends = np.frombuffer(self._ends, dtype=np.int64)
        lengths: list[int] = np.diff(ends, prepend=0).tolist()
        return lengths

    def document(self, index: int, max_tokens: int | None = None) -> Document:
        """A document, or its first `max_tokens` tokens."""
        tokens, mask = self._files()
        start = self._ends[index - 1] if index else 0
        end = self._ends[index] if max_tokens is None else min(self._ends[index], start + max_tokens)
        loss_mask = (mask[start:end] * self._weights[index]).tolist()
        return Document(tokens[start:end].tolist(), loss_mask, self.sample_ids[index])

    def _files(self) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        if self._mapped is None:
            self._token_file.flush()
            self._mask_file.flush()
            self._mapped = (
                np.memmap(self._token_file, dtype=np.uint32, mode="r"),
                np.memmap(self._mask_file, dtype=np.bool_, mode="r"),
            )
        return self._mapped
