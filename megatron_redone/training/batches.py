"""From packed rows to the micro-batches of this replica."""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.data.microbatches import assign_documents
from megatron_redone.training.engine import MegatronEngine


def microbatches_of(rows: Sequence[Sequence[Document]], engine: MegatronEngine) -> list[PackedBatch]:
    """Packed rows dealt to the replicas in turn, one micro-batch each.

    Every replica gets equally many; where the rows do not go round, a filler without weight stands in.
    """
    dp = engine.context.dp
    mine = list(rows[dp.rank :: dp.size])
    missing = -(-len(rows) // dp.size) - len(mine)
    return [pack(row, engine) for row in [*mine, *([[]] * missing)]]


def balanced_microbatches(
    documents: Sequence[Document], max_tokens: int, engine: MegatronEngine, signal_names: Sequence[str] = ()
) -> tuple[list[PackedBatch], list[list[int]]]:
    """Documents spread over replicas and micro-batches by their lengths.

    Returns this replica's micro-batches and, for each of them, the indices of its documents.
    """
    dp = engine.context.dp
    indices = assign_documents([len(d) for d in documents], dp.size, max_tokens)[dp.rank]
    batches = [pack([documents[i] for i in members], engine, signal_names) for members in indices]
    return batches, indices


def paired_microbatches(
    pairs: Sequence[tuple[Document, Document]], max_tokens: int, engine: MegatronEngine, signal_names: Sequence[str]
) -> list[PackedBatch]:
    """This replica's micro-batches of pairs, spread by their lengths; a pair stays in one micro-batch, end to end."""
    dp = engine.context.dp
    lengths = [len(first) + len(second) for first, second in pairs]
    mine = assign_documents(lengths, dp.size, max_tokens)[dp.rank]
    return [pack([document for i in members for document in pairs[i]], engine, signal_names) for members in mine]


def pack(documents: Sequence[Document], engine: MegatronEngine, signal_names: Sequence[str] = ()) -> PackedBatch:
    """One micro-batch, padded as the layout needs it."""
    return PackedBatch.from_documents(documents, engine.row_multiple, signal_names=list(signal_names) or None)
