"""One packed micro-batch through a chunk of the model, and the log-probabilities of its labels.

Under context parallelism a rank computes its own part of the row; log-probabilities of labels are gathered, so that
objectives see whole documents.

Shape legend: T tokens of the row, N its labels, n those on this rank.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from megatron_redone.common.errors import DataError
from megatron_redone.data.batch import PackedBatch
from megatron_redone.models.build import ModelChunks
from megatron_redone.models.expert_choices import EXPERTS, forget_choices, give_choices, routers_of
from megatron_redone.models.router import Router
from megatron_redone.parallel.context_parallel import gather_values, local_index, row_multiple
from megatron_redone.parallel.gpu_config import fp8_multiple
from megatron_redone.parallel.vocab_logprobs import (
    differentiable_entropy,
    vocab_parallel_entropy,
    vocab_parallel_logprobs,
)

LABEL_MULTIPLE = 16
"""Labels whose logits are computed together come in such numbers: matrix products of odd heights are slower."""


class LabelsHere(NamedTuple):
    """The labels of a micro-batch that fall to this context-parallel rank."""

    positions_n: Tensor
    """Their tokens in the whole row."""
    places_n: Tensor
    """Their places among all labels of the row."""
    rows_n: Tensor
    """Their tokens among those of this rank."""
    num_labels: int
    """All labels of the row."""


class Rows:
    """Packed rows on this rank's part of a model."""

    def __init__(self, model: ModelChunks) -> None:
        self.model, self.context = model, model.context
        self._routers: dict[int, list[Router]] = {}

    @property
    def multiple(self) -> int:
        """What the length of a row must be a multiple of."""
        sequence_ranks = self.context.tp.size if self.model.config.sequence_parallel else 1
        return row_multiple(self.context.cp.size) * sequence_ranks * fp8_multiple(self.context.config.gpu)

    def filled_to(self, batch: PackedBatch, num_tokens: int) -> PackedBatch:
        """The row with padding up to the one length of all rows.

        Raises:
            DataError: it is longer.
        """
        if batch.num_tokens > num_tokens:
            raise DataError(
                f"a row of {batch.num_tokens} tokens does not fit parallel.gpu's {num_tokens} tokens of every row "
                "(tp_overlap_tokens, graph_tokens); raise it or pack shorter rows"
            )
        return batch.padded_to(num_tokens)

    def forward(self, chunk: Any, batch: PackedBatch) -> Tensor:
        """A chunk's output: hidden states, or on the last one logits [m, vocabulary / tp] of our labels, filled up."""
        device = self.context.device
        packed = self.model.packed(batch.cu_seqlens, batch.positions.to(device), parents=batch.parents)
        packed.logit_positions_N = _filled_up(self._labels_here(batch).rows_n).to(device)
        index = self._index(batch)
        tokens = batch.tokens[index].to(device)
        padding = (index >= batch.num_real_tokens).to(device)
        if self.model.shape.is_moe:
            self._replay_choices(chunk, batch, index)
        output: Tensor = chunk(
            tokens.unsqueeze(0),
            None,
            None,
            packed_seq_params=packed,
            padding_mask=self._padding_mask(padding, chunk) if self.model.shape.is_moe else None,
        )
        return output

    def label_logprobs(self, logits: Tensor, batch: PackedBatch, temperature: float) -> Tensor:
        """Log-probability [N] of each label of a row, those of other context-parallel ranks among them."""
        here = self._labels_here(batch)
        labels = _filled_up(batch.labels[here.positions_n]).to(logits.device)
        values = vocab_parallel_logprobs(logits, labels, self.context.tp.group, temperature)[: here.rows_n.numel()]
        return gather_values(values, here.places_n.to(values.device), here.num_labels, self.context.cp)

    def label_entropy(
        self, logits: Tensor, batch: PackedBatch, temperature: float, with_gradient: bool = False
    ) -> Tensor:
        """Entropy [N] of the prediction of each label, in nats."""
        here = self._labels_here(batch)
        entropy = differentiable_entropy if with_gradient else vocab_parallel_entropy
        values = entropy(logits, self.context.tp.group, temperature)[: here.rows_n.numel()]
        return gather_values(values, here.places_n.to(values.device), here.num_labels, self.context.cp)

    def num_real_tokens(self, batch: PackedBatch) -> int:
        """Tokens of this rank that are no padding."""
        return int((self._index(batch) < batch.num_real_tokens).sum())

    def _replay_choices(self, chunk: Any, batch: PackedBatch, index: Tensor) -> None:
        """Gives the chunk's routers the choices that the batch carries for this rank's tokens, if it does."""
        routers = self._routers.setdefault(id(chunk), routers_of(chunk.modules()))
        signals = {name: values for name, values in batch.signals.items() if name.startswith(EXPERTS)}
        if not signals:
            forget_choices(routers)
            return
        here = {name: self._of_sequence_rank(values[index]).to(self.context.device) for name, values in signals.items()}
        give_choices(routers, here, self.model.shape.experts_per_token)

    def forget_choices(self) -> None:
        """After the passes over a step: the routers choose for themselves."""
        for routers in self._routers.values():
            forget_choices(routers)

    def _of_sequence_rank(self, values_T: Tensor) -> Tensor:
        """The part of a row that layers of this rank see under sequence parallelism."""
        if not self.model.config.sequence_parallel:
            return values_T
        return values_T.chunk(self.context.tp.size)[self.context.tp.rank]

    def _index(self, batch: PackedBatch) -> Tensor:
        """Places in the row of this rank's tokens."""
        return local_index(batch.num_tokens, self.context.cp.size, self.context.cp.rank)

    def _labels_here(self, batch: PackedBatch) -> LabelsHere:
        positions, index = batch.logit_positions, self._index(batch)
        rows = torch.nonzero(batch.loss_weights[index], as_tuple=True)[0]
        return LabelsHere(index[rows], torch.searchsorted(positions, index[rows]), rows, positions.numel())

    def _padding_mask(self, padding_T: Tensor, chunk: Any) -> Tensor:
        """The mask as the chunk's expert layers need it; Megatron splits it over sequence ranks in the first chunk."""
        first = getattr(chunk, "module", chunk).pre_process
        return (padding_T if first else self._of_sequence_rank(padding_T)).unsqueeze(0)


def _filled_up(values_n: Tensor) -> Tensor:
    """The values with copies of the last one, so that they are a multiple of LABEL_MULTIPLE."""
    missing = -values_n.numel() % LABEL_MULTIPLE
    return torch.cat([values_n, values_n[-1:].expand(missing)]) if missing and values_n.numel() else values_n
