"""The batch every stage trains on: documents end to end in one row of tokens, with their borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from megatron_redone.data.document import Document
from megatron_redone.data.microbatches import assign_documents
from megatron_redone.data.shared_prompts import NO_PARENT, row_layout

__all__ = ["Document", "PackedBatch", "assign_documents"]


@dataclass
class PackedBatch:
    """Packed documents in the "thd" layout: no dense mask, T tokens in all, n segments with the padding.

    A segment is a document, or, where prompts are shared, a prompt or what follows it (`data/shared_prompts.py`).
    Entry t of `labels`, `loss_weights` and `signals` is about ONE token, the one that follows t inside t's
    document. The last token of a document has no such token: label 0, weight 0, signals 0.

    Attributes:
        tokens: [T] int64, what the model reads.
        labels: [T] int64, the next token of the same document.
        loss_weights: [T] float32, what predicting the label counts; 0 where it is not to be learnt.
        positions: [T] int64, from 0 in each document.
        cu_seqlens: [n+1] int32, where each segment starts, and T at the end. Padding is one more segment.
        signals: name -> [T] float32.
        sample_ids: the ids of the real documents in order (none for the padding).
        parents: for each segment the one whose tokens it goes on from, -1 where it starts anew.
        segment_of: for each real document its segment; its prompt may be in that one's parent.
    """

    tokens: Tensor
    labels: Tensor
    loss_weights: Tensor
    positions: Tensor
    cu_seqlens: Tensor
    signals: dict[str, Tensor]
    sample_ids: list[str]
    parents: list[int]
    segment_of: list[int]
    _max_seqlen: int | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        pad_to_multiple_of: int = 1,
        pad_id: int = 0,
        signal_names: Sequence[str] | None = None,
        share_prompts: bool = False,
    ) -> PackedBatch:
        """Lays documents end to end.

        Args:
            documents: in the order they are to stand. None at all gives a filler: only padding, no weight.
            pad_to_multiple_of: T is rounded up to a multiple of it by one trailing document of `pad_id` with
                no weight.
            pad_id: token of the padding.
            signal_names: the signals the batch has to hold; default those of the documents. Needed for a
                filler, which has to look like the micro-batches of the other replicas.
            share_prompts: a prompt that several documents begin with stands in the row once.

        Raises:
            ValueError: documents of one batch that carry different signals.
        """
        if signal_names is None:
            signal_names = sorted(documents[0].signals) if documents else []
        for document in documents:
            if sorted(document.signals) != sorted(signal_names):
                raise ValueError(
                    f"document {document.sample_id!r} carries the signals {sorted(document.signals)}, the "
                    f"batch {sorted(signal_names)}; all documents of a batch need the same ones"
                )
        layout = row_layout(documents, share_prompts)
        segments, parents, firsts = layout.segments, layout.parents, layout.first_positions
        lengths = [len(segment) for segment in segments]
        padding = -sum(lengths) % pad_to_multiple_of if documents else pad_to_multiple_of
        if padding:
            lengths.append(padding)
            parents, firsts = [*parents, NO_PARENT], [*firsts, 0]
        ends = np.cumsum([0, *lengths])
        token_ids = _joined([segment.token_ids for segment in segments], padding, pad_id, np.int64)
        loss_mask = _joined([segment.loss_mask for segment in segments], padding, 0, np.float32)
        signals = {
            name: _joined([segment.signals[name] for segment in segments], padding, 0, np.float32)
            for name in signal_names
        }
        return cls(
            tokens=torch.from_numpy(token_ids),
            labels=_of_next_token(token_ids, ends),
            loss_weights=_of_next_token(loss_mask, ends),
            positions=torch.from_numpy(np.arange(ends[-1]) - np.repeat(ends[:-1] - np.asarray(firsts), lengths)),
            cu_seqlens=torch.from_numpy(ends.astype(np.int32)),
            signals={name: _of_next_token(values, ends) for name, values in signals.items()},
            sample_ids=[document.sample_id for document in documents],
            parents=parents,
            segment_of=layout.segment_of,
            _max_seqlen=max(lengths),
        )

    @property
    def num_tokens(self) -> int:
        """T, with the padding."""
        return self.tokens.numel()

    @property
    def num_real_tokens(self) -> int:
        """T without the padding."""
        return int(self.cu_seqlens[self.segment_of[-1] + 1]) if self.segment_of else 0

    @property
    def num_document_tokens(self) -> int:
        """Tokens of the documents; a prompt counts as often as it is shared."""
        return sum(self.of_document(self.tokens, place).numel() for place in range(len(self.segment_of)))

    @property
    def max_seqlen(self) -> int:
        """Tokens of the longest segment, the padding among them."""
        if self._max_seqlen is None:
            self._max_seqlen = int((self.cu_seqlens[1:] - self.cu_seqlens[:-1]).max())
        return self._max_seqlen

    @property
    def logit_positions(self) -> Tensor:
        """[m] int64: the t whose label counts; only there does a model have to compute logits."""
        return torch.nonzero(self.loss_weights, as_tuple=True)[0]

    @property
    def document_of_token(self) -> Tensor:
        """[T] int64: the document of each token. Only those of labels can be relied on: a shared prompt and the
        padding belong to none."""
        documents = torch.zeros(len(self.parents), dtype=torch.int64)
        documents[torch.tensor(self.segment_of, dtype=torch.int64)] = torch.arange(len(self.segment_of))
        return documents.repeat_interleave(self.cu_seqlens.diff().long())

    def of_document(self, values: Tensor, document: int) -> Tensor:
        """What a row of values [T] holds for the tokens of one document, those that it shares among them."""
        segment = self.segment_of[document]
        parts = [part for part in (self.parents[segment], segment) if part != NO_PARENT]
        return torch.cat([values[int(self.cu_seqlens[part]) : int(self.cu_seqlens[part + 1])] for part in parts])

    def padded_to(self, num_tokens: int) -> PackedBatch:
        """The batch with one more padding document, so that T is `num_tokens`."""
        missing = num_tokens - self.num_tokens
        if not missing:
            return self

        def pad(row: Tensor) -> Tensor:
            return torch.cat([row, row.new_zeros(missing)])

        return replace(
            self,
            tokens=pad(self.tokens),
            labels=pad(self.labels),
            loss_weights=pad(self.loss_weights),
            positions=torch.cat([self.positions, torch.arange(missing)]),
            cu_seqlens=torch.cat([self.cu_seqlens, self.cu_seqlens.new_tensor([num_tokens])]),
            signals={name: pad(signal) for name, signal in self.signals.items()},
            parents=[*self.parents, NO_PARENT],
            _max_seqlen=None,
        )

    def to(self, device: torch.device | str) -> PackedBatch:
        """The batch with every tensor on `device`."""
        return replace(
            self,
            tokens=self.tokens.to(device),
            labels=self.labels.to(device),
            loss_weights=self.loss_weights.to(device),
            positions=self.positions.to(device),
            cu_seqlens=self.cu_seqlens.to(device),
            signals={name: signal.to(device) for name, signal in self.signals.items()},
        )


def _joined(rows: Sequence[Sequence[float]], padding: int, fill: int, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """[T]: the segments' values end to end, then the padding's."""
    arrays = [np.asarray(row, dtype=dtype) for row in rows]
    return np.concatenate([*arrays, np.full(padding, fill, dtype=dtype)])


def _of_next_token(values: npt.NDArray[np.generic], ends: npt.NDArray[np.int64]) -> Tensor:
    """[T]: at t the value of t + 1, and 0 at the last token of each segment."""
    shifted = np.roll(values, -1)
    shifted[ends[1:] - 1] = 0
    return torch.from_numpy(shifted)
