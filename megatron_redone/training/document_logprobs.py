"""Log-probabilities of documents by the engine's model, document by document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from megatron_redone.data.document import Document
from megatron_redone.models.expert_choices import EXPERTS
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.engine import MegatronEngine


def document_logprobs(
    documents: Sequence[Document],
    max_tokens: int,
    engine: MegatronEngine,
    temperature: float = 1.0,
    share_prompts: bool = False,
) -> list[list[float]]:
    """For each document one number a token: its log-probability, 0 where it is not learnt. A collective.

    The documents are spread over the replicas; every rank gets the numbers of all of them. Of their signals only
    choices of experts have an effect: they are replayed.

    Args:
        max_tokens: of a packed micro-batch.
        share_prompts: as in `balanced_microbatches`.
    """
    plain = [
        replace(document, signals={name: s for name, s in document.signals.items() if name.startswith(EXPERTS)})
        for document in documents
    ]
    names = list(plain[0].signals) if plain else []
    batches, indices = balanced_microbatches(plain, max_tokens, engine, names, share_prompts)
    found: dict[int, list[float]] = {}
    for row, batch, members in zip(engine.logprobs(batches, temperature), batches, indices, strict=True):
        for place, index in enumerate(members):
            values = batch.of_document(row, place).tolist()
            found[index] = [0.0, *values[:-1]]  # a token's value stands one place before it
    for part in engine.context.gather_objects(found, engine.context.dp):
        found.update(part)
    return [found[index] for index in range(len(documents))]
