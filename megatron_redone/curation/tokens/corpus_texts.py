"""The texts of a corpus one by one, for training a tokenizer. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.curation.tokens.config import TextKeysConfig
from megatron_redone.curation.tokens.plan import MIB
from megatron_redone.data.text_files import Piece, corpus_files, read_texts, scan

KEPT_MESSAGES = 100


class CorpusTexts:
    """Iterates over the texts of a JSONL file or a folder of them, plain or gzipped.

    After the iteration `num_documents` and `refused` (the first refusals) are known.

    Raises (while iterating):
        DataError: a damaged file, or more refused rows than `max_refused_share`.
    """

    def __init__(self, corpus: Path, config: TextKeysConfig, max_refused_share: float) -> None:
        self._corpus, self._config, self._max_refused_share = corpus, config, max_refused_share
        self.num_documents = self.num_refused = 0
        self.refused: list[str] = []

    def __iter__(self) -> Iterator[str]:
        config = self._config
        for path in corpus_files(self._corpus):
            size = scan(path, 1 << 62).num_bytes
            if not size:
                self._refuse(f"{path}: an empty file; remove it, or copy it again")
            for document in read_texts(
                Piece(path, 0, size, 1), config.text_key, config.id_key, config.max_document_mib * MIB
            ):
                if isinstance(document, str):
                    self._refuse(document)
                else:
                    self.num_documents += 1
                    yield document.text
        rows = self.num_documents + self.num_refused
        if self.num_refused > self._max_refused_share * rows:
            raise DataError(
                f"{self._corpus}: {self.num_refused} of {rows} rows refused, but at most "
                f"{self._max_refused_share:.0%} may be; correct the files; first problem:\n  {self.refused[0]}"
            )

    def _refuse(self, problem: str) -> None:
        self.num_refused += 1
        if len(self.refused) < KEPT_MESSAGES:
            self.refused.append(problem)
