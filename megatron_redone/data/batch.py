"""The batch every stage trains on: documents end to end in one row of tokens, with their borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from megatron_redone.data.document import Document
from megatron_redone.data.microbatches import assign_documents

__all__ = ["Document", "PackedBatch", "assign_documents"]


@dataclass
class PackedBatch:
    """Packed documents in the "thd" layout: no dense mask, T tokens in all, n documents with the padding.

    Entry t of `labels`, `loss_weights` and `signals` is about ONE token, the one that follows t inside t's document.
    The last token of a document has no such token: label 0, weight 0, signals 0.

    Attributes:
        tokens: [T] int64, what the model reads.
        labels: [T] int64, the next token of the same document.
        loss_weights: [T] float32, what predicting the label counts; 0 where it is not to be learnt.
        positions: [T] int64, from 0 in each document.
        cu_seqlens: [n+1] int32, where each document starts, and T at the end. Padding is one more document.
        signals: name -> [T] float32.
        sample_ids: the ids of the real documents in order (none for the padding).
    """

    tokens: Tensor
    labels: Tensor
    loss_weights: Tensor
    positions: Tensor
    cu_seqlens: Tensor
    signals: dict[str, Tensor]
    sample_ids: list[str]
    _max_seqlen: int | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        pad_to_multiple_of: int = 1,
        pad_id: int = 0,
        signal_names: Sequence[str] | None = None,
    ) -> PackedBatch:
        """Lays documents end to end.

        Args:
            documents: in the order they are to stand. None at all gives a filler: only padding, no weight.
            pad_to_multiple_of: T is rounded up to a multiple of it by one trailing document of `pad_id` with no weight.
            pad_id: token of the padding.
            signal_names: the signals the batch has to hold; default those of the documents. Needed for a filler,
                which has to look like the micro-batches of the other replicas.

        Raises:
            ValueError: documents of one batch that carry different signals.
        """
        if signal_names is None:
            signal_names = sorted(documents[0].signals) if documents else []
        for document in documents:
            if sorted(document.signals) != sorted(signal_names):
                raise ValueError(
                    f"document {document.sample_id!r} carries the signals {sorted(document.signals)}, the batch "
                    f"{sorted(signal_names)}; all documents of a batch need the same ones"
                )
        lengths = [len(document) for document in documents]
        padding = -sum(lengths) % pad_to_multiple_of if documents else pad_to_multiple_of
        all_lengths = lengths + [padding] * (padding > 0)
        ends = np.cumsum([0, *all_lengths])

        def joined(values: Callable[[Document], Sequence[float]], fill: float, dtype: npt.DTypeLike) -> Tensor:
            rows = [np.asarray(values(document), dtype=dtype) for document in documents]
            return torch.from_numpy(np.concatenate([*rows, np.full(padding, fill, dtype=dtype)]))

        def of_label(values: Callable[[Document], Sequence[float]], dtype: npt.DTypeLike) -> Tensor:
            shifted = torch.roll(joined(values, 0, dtype), -1)
            shifted[torch.from_numpy(ends[1:] - 1)] = 0
            return shifted

        signals = {
            name: of_label(lambda document, name=name: document.signals[name], np.float32)  # type: ignore[misc]
            for name in signal_names
        }
        starts = np.repeat(ends[:-1], all_lengths)
        return cls(
            tokens=joined(lambda document: document.token_ids, pad_id, np.int64),
            labels=of_label(lambda document: document.token_ids, np.int64),
            loss_weights=of_label(lambda document: document.loss_mask, np.float32),
            positions=torch.from_numpy(np.arange(ends[-1]) - starts),
            cu_seqlens=torch.from_numpy(ends.astype(np.int32)),
            signals=signals,
            sample_ids=[document.sample_id for document in documents],
            _max_seqlen=max(all_lengths),
        )

    @property
    def num_tokens(self) -> int:
        """T, with the padding."""
        return self.tokens.numel()

    @property
    def max_seqlen(self) -> int:
        """Tokens of the longest document, the padding among them."""
        if self._max_seqlen is None:
            self._max_seqlen = int((self.cu_seqlens[1:] - self.cu_seqlens[:-1]).max())
        return self._max_seqlen

    @property
    def logit_positions(self) -> Tensor:
        """[m] int64: the t whose label counts; only there does a model have to compute logits."""
        return torch.nonzero(self.loss_weights, as_tuple=True)[0]

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
