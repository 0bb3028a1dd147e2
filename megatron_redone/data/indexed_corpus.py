"""Pretraining tokens on disk: Megatron's indexed dataset, and random access to samples of it.

`PretrainSamples` stands in place of megatron-core's GPTDataset, which keeps document borders only as a dense
mask of [length, length] or as positions to be searched for restarts, needs the number of samples before it
can shuffle, and draws all epochs from one random state. Ours gives documents, and its order is a pure
function of (seed, epoch). The files are the same, so corpora that Megatron's own tools wrote can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.data.document import Document
from megatron_redone.data.indexed_writer import HEADER, MAGIC, CorpusCounts, indexed_writer, with_suffix

DOCUMENTS_AT_ONCE = 256


def write_corpus(prefix: Path, documents: Iterable[Sequence[int]], vocab_size: int | None = None) -> CorpusCounts:
    """Writes PREFIX.bin and PREFIX.idx; the index appears last, so a corpus that can be opened is whole.

    Args:
        prefix: path without suffix; its folder is made.
        documents: token ids of each document, without an end token (`PretrainSamples` adds it).
        vocab_size: bound of the ids; below 65,500 they are stored in 2 bytes. None: 4 bytes.

    Raises:
        DataError: an id outside 0..vocab_size-1 (names the document), or no tokens at all. Nothing is left
            then.
    """
    remaining = iter(documents)
    with indexed_writer(prefix, vocab_size) as writer:
        while batch := list(islice(remaining, DOCUMENTS_AT_ONCE)):
            writer.add(batch)
        if not writer.num_documents:
            raise DataError(f"no tokens to write ({writer.num_empty} empty documents); check the input and its filters")
        return writer.finish()


class PretrainSamples:
    """Samples of `sequence_length` tokens of an endless stream of shuffled epochs.

    In each epoch every document stands once, in an order drawn from (seed, epoch), followed by the end
    token. Sample k is the k-th stretch of the stream: the stream is cut without gaps or overlap, so over E
    epochs every token is seen E times. A document cut by the border of a sample goes on in the next one as a
    document of its own, at position 0; the first token of each piece is context only (nothing predicts it).

    Args:
        shards: path of the corpus without suffix, or those of its shards in order: the samples are those of one
            corpus in which the shards stand one behind the other.
        sequence_length: tokens of a sample.
        eos_id: the end token.
        seed: of the shuffle.
        eos_stored: whether the documents on disk already end with it (Megatron's `--append-eod`).
        name: how the ids of documents begin; by default the file name of the first shard.

    Attributes:
        tokens_per_epoch: length of one epoch with the end tokens.

    Raises:
        DataError: files that are missing, damaged or do not belong together; `eos_stored` that does not fit
            them.
    """

    def __init__(
        self,
        shards: Path | Sequence[Path],
        sequence_length: int,
        eos_id: int,
        seed: int,
        eos_stored: bool = False,
        name: str | None = None,
    ) -> None:
        if sequence_length < 2:
            raise DataError(f"sequence_length={sequence_length}; a sample needs at least 2 tokens")
        prefixes = [shards] if isinstance(shards, Path) else list(shards)
        self._shards = [_open_shard(prefix) for prefix in prefixes]
        self.name = prefixes[0].name if name is None else name
        self._seed, self._eos_id, self.sequence_length = seed, eos_id, sequence_length
        # A copy: the library unmaps the files under arrays that it gave out.
        self._lengths = np.concatenate([shard.sequence_lengths for shard in self._shards]).astype(np.int64)
        self._shard_ends = np.cumsum([len(shard) for shard in self._shards])
        first = int(np.argmax(self._lengths > 0))
        if (self._read(first, int(self._lengths[first]) - 1, 1) == [eos_id]) != eos_stored:
            raise DataError(
                f"{prefixes[0]}: eos_stored is {eos_stored}, but the first document "
                f"{'lacks' if eos_stored else 'ends with'} the end token {eos_id}; "
                f"set eos_stored to {not eos_stored}"
            )
        self._lengths += not eos_stored
        self._eos_stored = eos_stored
        self.num_documents = len(self._lengths)
        self.tokens_per_epoch = int(self._lengths.sum())
        self._epochs: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}

    def samples_in(self, num_epochs: int) -> int:
        """Samples that cover the first `num_epochs` epochs (the last may reach into the next epoch)."""
        return -(-num_epochs * self.tokens_per_epoch // self.sequence_length)

    def __getitem__(self, index: int) -> list[Document]:
        """Sample `index` >= 0: documents (or pieces) of `sequence_length` tokens in all, everything to be
        learnt."""
        if index < 0:
            raise IndexError(f"sample {index}; samples are numbered from 0 without end")
        documents: list[Document] = []
        position, end = index * self.sequence_length, (index + 1) * self.sequence_length
        while position < end:
            epoch, offset = divmod(position, self.tokens_per_epoch)
            document = self._document_at(epoch, offset, end - position)
            documents.append(document)
            position += len(document)
        return documents

    def _document_at(self, epoch: int, offset: int, max_tokens: int) -> Document:
        """The piece from a place in an epoch to the end of its document, at most `max_tokens` long."""
        order, starts = self._order_of(epoch)
        place = int(np.searchsorted(starts, offset, side="right")) - 1
        document, start = int(order[place]), offset - int(starts[place])
        length = int(self._lengths[document])
        count = min(length - start, max_tokens)
        ends_here = start + count == length and not self._eos_stored
        ids = self._read(document, start, count - ends_here) + [self._eos_id] * ends_here
        return Document(ids, [True] * count, f"{self.name}:{document}:{start}:epoch{epoch}")

    def _read(self, document: int, start: int, count: int) -> list[int]:
        if count == 0:
            return []
        shard = int(np.searchsorted(self._shard_ends, document, side="right"))
        first = int(self._shard_ends[shard]) - len(self._shards[shard])
        ids: list[int] = self._shards[shard].get(document - first, start, count).tolist()
        return ids

    def _order_of(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The documents of an epoch in order, and where each starts in it. The last two epochs asked for are
        kept."""
        if epoch not in self._epochs:
            order = numpy_rng(self._seed, "corpus", epoch).permutation(len(self._lengths))
            lengths = self._lengths[order]
            while len(self._epochs) >= 2:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = order, np.cumsum(lengths) - lengths
        return self._epochs[epoch]


def read_documents(prefix: Path) -> Iterator[list[int]]:
    """The token ids of every document of a shard, in their order on disk.

    Raises:
        DataError: as `PretrainSamples`.
    """
    shard = _open_shard(prefix)
    for document in range(len(shard)):
        yield shard.get(document).tolist()


def _open_shard(prefix: Path) -> IndexedDataset:
    _check_files(prefix)
    shard = IndexedDataset(str(prefix))
    if len(shard.document_indices) - 1 != len(shard):
        raise DataError(f"{prefix}.idx: some documents are stored in parts; write each as one sequence")
    return shard


def _check_files(prefix: Path) -> None:
    """Refuses what the library would stop at with an assertion, or read as wrong tokens.

    Raises:
        DataError: names the file.
    """
    bin_path, index_path = with_suffix(prefix, ".bin"), with_suffix(prefix, ".idx")
    for path in (bin_path, index_path):
        if not path.is_file():
            raise DataError(f"{path}: no such file; a corpus is NAME.bin and NAME.idx, tokenise the text first")
    with index_path.open("rb") as file:
        header = file.read(HEADER.size)
        if len(header) < HEADER.size or header[:9] != MAGIC:
            raise DataError(f"{index_path}: no index of a Megatron dataset; tokenise the text again")
        _, version, code, num_sequences, num_ends = HEADER.unpack(header)
        if version != 1 or code not in {dtype.value for dtype in DType}:
            raise DataError(
                f"{index_path}: version {version}, type code {code} cannot be read; tokenise the text again"
            )
        lengths = np.frombuffer(file.read(4 * num_sequences), dtype=np.int32)
    index_bytes = HEADER.size + 12 * num_sequences + 8 * num_ends
    bin_bytes = int(lengths.sum(dtype=np.int64)) * DType.size(DType.dtype_from_code(code))
    for path, expected in ((index_path, index_bytes), (bin_path, bin_bytes)):
        if path.stat().st_size != expected or not expected:
            raise DataError(
                f"{path}: {path.stat().st_size} bytes, the index speaks of {expected}; the file is cut or "
                "belongs to another corpus: copy it again or tokenise the text again"
            )
