"""From packed rows to the micro-batches of this replica."""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.data.microbatches import assign_documents
from megatron_redone.data.shared_prompts import prompt_groups, tokens_with_shared_prompt
from megatron_redone.models.expert_choices import EXPERTS
from megatron_redone.parallel.gpu_config import TE
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
    documents: Sequence[Document],
    max_tokens: int,
    engine: MegatronEngine,
    signal_names: Sequence[str] = (),
    share_prompts: bool = False,
) -> tuple[list[PackedBatch], list[list[int]]]:
    """Documents spread over replicas and micro-batches by their lengths.

    Args:
        share_prompts: documents with the same prompt go into one micro-batch as far as it holds them, and the prompt
            is computed once there; see `may_share_prompts`.

    Returns this replica's micro-batches and, for each of them, the indices of its documents.
    """
    share_prompts = share_prompts and may_share_prompts(engine, signal_names)
    units = [[index] for index in range(len(documents))]
    if share_prompts:
        units = [part for group in prompt_groups(documents) for part in _that_fit(group, documents, max_tokens)]
    lengths = [tokens_with_shared_prompt([documents[index] for index in unit]) for unit in units]
    dp = engine.context.dp
    mine = assign_documents(lengths, dp.size, max_tokens)[dp.rank]
    indices = [[index for place in members for index in units[place]] for members in mine]
    batches = [pack([documents[i] for i in members], engine, signal_names, share_prompts) for members in indices]
    return batches, indices


def paired_microbatches(
    pairs: Sequence[tuple[Document, Document]],
    max_tokens: int,
    engine: MegatronEngine,
    signal_names: Sequence[str],
    share_prompts: bool = False,
) -> list[PackedBatch]:
    """This replica's micro-batches of pairs, spread by their lengths; a pair stays in one micro-batch, end to end."""
    share_prompts = share_prompts and may_share_prompts(engine, signal_names)
    dp = engine.context.dp
    lengths = [_tokens_of_pair(pair) if share_prompts else len(pair[0]) + len(pair[1]) for pair in pairs]
    mine = assign_documents(lengths, dp.size, max_tokens)[dp.rank]
    return [
        pack([document for i in members for document in pairs[i]], engine, signal_names, share_prompts)
        for members in mine
    ]


def may_share_prompts(engine: MegatronEngine, signal_names: Sequence[str]) -> bool:
    """Whether prompts can be computed once without a change of the result.

    Not where context parallelism cuts a row into chunks, where recorded choices of experts are replayed token by token,
    where experts are balanced by a loss, in which a prompt then counted once and not once an answer, and not with
    Transformer Engine, whose attention takes documents from one place each.
    """
    shape = engine.model.shape
    balanced = shape.is_moe and bool(shape.router_aux_loss_coefficient or shape.router_z_loss_coefficient)
    replayed = any(name.startswith(EXPERTS) for name in signal_names)
    own_attention = engine.context.config.gpu.layer_spec != TE
    return own_attention and engine.context.cp.size == 1 and not balanced and not replayed


def pack(
    documents: Sequence[Document],
    engine: MegatronEngine,
    signal_names: Sequence[str] = (),
    share_prompts: bool = False,
) -> PackedBatch:
    """One micro-batch, padded as the layout needs it."""
    names = list(signal_names) or None
    return PackedBatch.from_documents(documents, engine.row_multiple, signal_names=names, share_prompts=share_prompts)


def _tokens_of_pair(pair: tuple[Document, Document]) -> int:
    return sum(tokens_with_shared_prompt([pair[i] for i in group]) for group in prompt_groups(pair))


def _that_fit(group: Sequence[int], documents: Sequence[Document], max_tokens: int) -> list[list[int]]:
    """The group cut, in order, into parts that each fit a micro-batch with their prompt once."""
    parts: list[list[int]] = []
    for index in group:
        longer = [*parts[-1], index] if parts else [index]
        if parts and tokens_with_shared_prompt([documents[i] for i in longer]) <= max_tokens:
            parts[-1] = longer
        else:
            parts.append([index])
    return parts
