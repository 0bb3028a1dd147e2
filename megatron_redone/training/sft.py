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
from megatron_redone.data.packing import pack_documents
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
    """Trains the engine on the examples, shuffled and packed anew for every epoch; returns counts of the packing."""
    documents = [encode(example, template) for example in examples]
    kept = [d for d in documents if len(d) <= config.sequence_length or config.too_long == "truncate"]
    if not kept:
        raise DataError(
            f"all {len(documents)} conversations are longer than sequence_length={config.sequence_length} tokens; "
            "raise it or set too_long: truncate"
        )
    bins, report = pack_documents(documents, config.sequence_length, run.seed, config.too_long)
    num_steps = config.num_steps(len(bins))
    packed_epochs: dict[int, list[list[Document]]] = {}

    def rows_of(step: int) -> list[list[Document]]:
        """The packed rows of a step: a window of the stream of epochs, each packed with its own seed."""
        rows = []
        for place in range(step * config.global_batch_size, (step + 1) * config.global_batch_size):
            epoch, index = divmod(place, len(bins))
            if epoch not in packed_epochs:
                packed_epochs.clear()
                packed_epochs[epoch] = _pack_epoch(kept, config, run.seed, epoch, len(bins))
            rows.append(packed_epochs[epoch][index])
        return rows

    def step(number: int) -> dict[str, float]:
        rows = rows_of(number)
        run.ledger.add([document.sample_id for row in rows for document in row])
        run.trained_tokens += sum(len(document) for row in rows for document in row)
        rate = learning_rate(config.optimizer, number, num_steps)
        batches = microbatches_of(rows, engine)
        return {**engine.train_step(batches, NextToken(), rate), "learning_rate": rate}

    run.steps(engine, num_steps, step)
    return {
        "conversations": len(documents),
        "packed": report.num_packed,
        "dropped_too_long": report.dropped_too_long,
        "truncated": report.truncated,
        "rows_per_epoch": len(bins),
    }


def encode(example: Example, template: ChatTemplate) -> Document:
    """Token ids of a conversation with the answers as what is to be learnt."""
    encoded = template.training_ids(example.messages)
    return Document(encoded.token_ids, [learnt * example.loss_weight for learnt in encoded.loss_mask], example.id)


def _pack_epoch(
    documents: Sequence[Document], config: SFTConfig, seed: int, epoch: int, num_bins: int
) -> list[list[Document]]:
    bins, _ = pack_documents(documents, config.sequence_length, seed + epoch * 1_000_003, config.too_long)
    assert len(bins) == num_bins, "best fit depends on lengths alone"
    return bins
