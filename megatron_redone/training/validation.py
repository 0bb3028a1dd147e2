"""Loss on held-out tokens while a stage trains."""

from __future__ import annotations

from collections.abc import Mapping

from megatron_redone.common.errors import DataError
from megatron_redone.data.indexed_corpus import PretrainSamples
from megatron_redone.training.batches import microbatches_of
from megatron_redone.training.config import ValidationConfig
from megatron_redone.training.engine import MegatronEngine


class Validation:
    """The first samples of the validation split of each corpus, the same at every step and in every layout.

    Args:
        corpora: samples of the split, by name.

    Raises:
        DataError: a split that does not fill one sample.
    """

    def __init__(self, config: ValidationConfig, corpora: Mapping[str, PretrainSamples]) -> None:
        self.every = config.every
        self._rows: dict[str, range] = {}
        self._corpora = dict(corpora)
        for name, samples in corpora.items():
            whole = samples.tokens_per_epoch // samples.sequence_length
            if not whole:
                raise DataError(
                    f"validation tokens of {name!r}: {samples.tokens_per_epoch} do not fill a row of "
                    f"sequence_length={samples.sequence_length}; keep more documents apart (validation_share), or "
                    "leave validation out"
                )
            self._rows[name] = range(min(whole, config.samples))

    def losses(self, engine: MegatronEngine) -> dict[str, float]:
        """Mean negative log-likelihood of a token in nats, as `validation_loss/NAME`. A collective."""
        return {f"validation_loss/{name}": self._loss(name, engine) for name in self._corpora}

    def _loss(self, name: str, engine: MegatronEngine) -> float:
        batches = microbatches_of([self._corpora[name][row] for row in self._rows[name]], engine)
        own = -sum(float(values.double().sum()) for values in engine.logprobs(batches))
        labels = sum(float(batch.loss_weights.sum()) for batch in batches)
        found = engine.context.gather_objects((own, labels), engine.context.dp)
        return sum(loss for loss, _ in found) / sum(count for _, count in found)
