"""Supervised fine-tuning on conversations: loss on answers only, packed without leakage.

RedOne's two SFT steps and RedOne 2.0's Targeted Fine-Tuning are this stage with different rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from megatron_redone.common.errors import DataError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.data.document import Document
from megatron_redone.data.document_store import DocumentStore
from megatron_redone.data.packing import pack_lengths
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.training.batches import microbatches_of
from megatron_redone.training.config import SFTConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun
from megatron_redone.training.schedule import learning_rate


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the answer to learn."""

    id: str
    messages: Sequence[Message]
    loss_weight: float = 1.0
    """What each token of its answers counts in the loss."""


def sft(
    config: SFTConfig,
    examples: Iterable[Example],
    template: ChatTemplate,
    engine: MegatronEngine,
    run: TrainingRun,
) -> dict[str, int]:
    """Trains the engine on the examples, shuffled and packed anew for every epoch; returns counts of the packing.

    The examples are read once and kept as tokens on disk.
    """
    with DocumentStore() as store:
        for example in examples:
            encoded = template.training_ids(example.messages)
            store.add(encoded.token_ids, encoded.loss_mask, example.loss_weight, example.id)
        packing = Packing(store, config, run.seed)
        num_steps = config.num_steps(packing.num_bins)

        def rows_of(step: int) -> list[list[Document]]:
            """The packed rows of a step: a window of the stream of epochs, each packed with its own seed."""
            first = step * config.global_batch_size
            return [packing.row(place) for place in range(first, first + config.global_batch_size)]

        def step(number: int) -> dict[str, float]:
            rows = rows_of(number)
            run.note_samples([document.sample_id for row in rows for document in row])
            run.trained_tokens += sum(len(document) for row in rows for document in row)
            rate = learning_rate(config.optimizer, number, num_steps)
            batches = microbatches_of(rows, engine)
            return {**engine.train_step(batches, NextToken(), rate), "learning_rate": rate}

        run.steps(engine, num_steps, step)
        return {
            "conversations": len(store),
            "packed": len(packing.kept),
            "dropped_too_long": packing.num_long if config.too_long == "drop" else 0,
            "truncated": packing.num_long if config.too_long == "truncate" else 0,
            "rows_per_epoch": packing.num_bins,
        }


def encode(example: Example, template: ChatTemplate) -> Document:
    """Token ids of a conversation with the answers as what is to be learnt."""
    encoded = template.training_ids(example.messages)
    return Document(encoded.token_ids, [learnt * example.loss_weight for learnt in encoded.loss_mask], example.id)


class Packing:
    """The stream of packed rows of all epochs; the bins of one epoch at a time are in memory, as indices.

    Raises:
        DataError: every conversation is too long, or there is none.
    """

    def __init__(self, store: DocumentStore, config: SFTConfig, seed: int) -> None:
        self.store, self.max_tokens, self.seed = store, config.sequence_length, seed
        lengths = store.lengths
        self.num_long = sum(length > self.max_tokens for length in lengths)
        truncate = config.too_long == "truncate"
        self.kept = [index for index, length in enumerate(lengths) if truncate or length <= self.max_tokens]
        if not self.kept:
            raise DataError(
                f"all {len(store)} conversations are longer than sequence_length={self.max_tokens} tokens; "
                "raise it or set too_long: truncate"
            )
        self.lengths = [min(lengths[index], self.max_tokens) for index in self.kept]
        self.epoch = 0
        self._bins = self._pack(0)
        self.num_bins = len(self._bins)

    def row(self, place: int) -> list[Document]:
        """The documents of a row; rows are numbered over all epochs."""
        epoch, index = divmod(place, self.num_bins)
        if epoch != self.epoch:
            self.epoch, self._bins = epoch, self._pack(epoch)
            assert len(self._bins) == self.num_bins, "best fit depends on lengths alone"
        return [self.store.document(self.kept[member], self.max_tokens) for member in self._bins[index]]

    def _pack(self, epoch: int) -> list[list[int]]:
        ids = [self.store.sample_ids[index] for index in self.kept]
        return pack_lengths(self.lengths, ids, self.max_tokens, self.seed + epoch * 1_000_003)
