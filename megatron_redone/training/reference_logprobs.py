"""Log-probabilities of answers by the frozen reference model: computed once, kept on disk by a hash of their content.

The key of a document is a hash of the reference model's fingerprint, the token ids and which of them are learnt. Every
shard is one file that is whole or absent, named by the hash of its content; a shard whose content is another one is
computed again. So an interrupted computation goes on where it was, and stages that share a folder share the work.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from megatron_redone.common.files import atomic_write_bytes, sha256_file
from megatron_redone.common.logging import get_logger
from megatron_redone.data.document import Document
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.document_logprobs import document_logprobs
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.stop import agreed_stop, stopped

LOG = get_logger("reference")
SHARD_DOCUMENTS = 512
"""Documents of a file, and of what an interruption costs at most."""
KEY_BYTES = 16
SHARDS = "logprobs-*.safetensors"


class ReferenceLogprobs:
    """The log-probabilities of one reference model in one folder, which every rank reads and rank 0 writes.

    In memory is the key of each document and where its values are, about 150 bytes a document.

    Args:
        fingerprint: of the reference model's weights and of the precision they are computed in.
    """

    def __init__(self, folder: Path, fingerprint: str, context: ParallelContext) -> None:
        self.folder, self.fingerprint, self.context = folder, fingerprint, context
        self._places: dict[bytes, tuple[Any, int, int]] = {}
        for path in context.on_main(lambda: [p for p in sorted(folder.glob(SHARDS)) if _is_whole(p)]):
            self._open(path)

    def key(self, document: Document) -> bytes:
        """What the values of a document are found by."""
        digest = hashlib.sha256(f"{self.fingerprint}\0".encode())
        digest.update(np.asarray(document.token_ids, dtype=np.int64).tobytes())
        digest.update(np.asarray(document.loss_mask, dtype=np.bool_).tobytes())
        return digest.digest()[:KEY_BYTES]

    def fill(
        self,
        documents: Iterable[Document],
        engine: MegatronEngine,
        max_tokens: int,
        name: str = "",
        share_prompts: bool = True,
    ) -> int:
        """Computes what is missing with the engine's model as it is now; returns how many documents that were.

        A collective. All ranks give the same documents.

        Args:
            max_tokens: of a packed micro-batch.
            name: what logs call the stage.
            share_prompts: as in `balanced_microbatches`.
        Raises:
            Interrupted: a stop was asked for; what is computed stays.
        """
        computed = 0
        for batch in _batches(self._missing(documents)):
            values = document_logprobs(batch, max_tokens, engine, share_prompts=share_prompts)
            self._open(self.context.on_main(lambda batch=batch, values=values: self._write(batch, values)))  # type: ignore[misc]
            computed += len(batch)
            if self.context.is_main:
                LOG.info("%s: reference log-probabilities of %d documents", name, computed)
            stop = agreed_stop(self.context)
            if stop:
                raise stopped(f"{name}: stopped; the reference log-probabilities of {computed} documents stay", stop)
        return computed

    def _missing(self, documents: Iterable[Document]) -> Iterator[Document]:
        met: set[bytes] = set()
        for document in documents:
            key = self.key(document)
            if key not in self._places and key not in met:
                met.add(key)
                yield document

    def of(self, document: Document) -> list[float]:
        """One number for each token of a document that was filled in; 0 where it is not learnt."""
        file, start, end = self._places[self.key(document)]
        values = iter(file.get_slice("values")[start:end].tolist())
        return [next(values) if learnt else 0.0 for learnt in document.loss_mask]

    def _write(self, documents: Sequence[Document], values: Sequence[Sequence[float]]) -> Path:
        learnt = [
            [value for value, weight in zip(row, document.loss_mask, strict=True) if weight]
            for document, row in zip(documents, values, strict=True)
        ]
        keys = np.frombuffer(b"".join(map(self.key, documents)), dtype=np.uint8).reshape(-1, KEY_BYTES)
        content = save(
            {
                "keys": keys,
                "ends": np.cumsum([len(row) for row in learnt]).astype(np.int64),
                "values": np.asarray([value for row in learnt for value in row], dtype=np.float32),
            }
        )
        path = self.folder / f"logprobs-{hashlib.sha256(content).hexdigest()}.safetensors"
        atomic_write_bytes(path, content)
        return path

    def _open(self, path: Path) -> None:
        file = safe_open(path, framework="np")
        keys = file.get_tensor("keys")  # type: ignore[no-untyped-call]
        ends = file.get_tensor("ends").tolist()  # type: ignore[no-untyped-call]
        for key, start, end in zip(keys, [0, *ends[:-1]], ends, strict=True):
            self._places[key.tobytes()] = (file, start, end)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while batch := list(itertools.islice(iterator, SHARD_DOCUMENTS)):
        yield batch


def _is_whole(path: Path) -> bool:
    """Whether a shard's content has the hash that its name says."""
    whole = sha256_file(path) == path.stem.removeprefix("logprobs-")
    if not whole:
        LOG.warning("%s: damaged (its content has another hash than its name); it is computed again", path)
    return whole
