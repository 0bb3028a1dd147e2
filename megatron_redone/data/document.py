"""One tokenised training example, before it is packed into a batch. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Document:
    """Tokens that attend to each other and to nothing else.

    Attributes:
        token_ids: the n tokens.
        loss_mask: n weights: what learning to predict this very token counts, 0 for not at all (booleans
            will do). The first one has no effect, since nothing precedes the first token.
        sample_id: where the document comes from; it follows the document into batches and logs.
        signals: for each name n numbers, one for each token (advantages, log-probabilities of another model,
            ...).
    """

    token_ids: Sequence[int]
    loss_mask: Sequence[float]
    sample_id: str
    signals: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.token_ids):
            raise ValueError(f"document {self.sample_id!r} has no tokens; leave it out")
        for name, values in {"loss_mask": self.loss_mask, **self.signals}.items():
            if len(values) != len(self.token_ids):
                raise ValueError(
                    f"document {self.sample_id!r}: {name} has {len(values)} entries for "
                    f"{len(self.token_ids)} tokens; one for each token is needed"
                )

    def __len__(self) -> int:
        return len(self.token_ids)

    def truncated(self, max_tokens: int) -> Document:
        """The first `max_tokens` tokens with all that belongs to them; the document itself where it is not
        longer."""
        if len(self) <= max_tokens:
            return self
        signals = {name: values[:max_tokens] for name, values in self.signals.items()}
        return Document(self.token_ids[:max_tokens], self.loss_mask[:max_tokens], self.sample_id, signals)
