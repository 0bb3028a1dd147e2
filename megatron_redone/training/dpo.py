"""Preference optimisation of RedOne (section 3.3): DPO with an SFT term, on pairs of answers.

The reference log-probabilities are computed once, before training (`reference_logprobs.py`). A step takes
`global_batch_size` pairs of a shuffled stream of epochs; pairs are packed into micro-batches by their lengths, and the
two answers of a pair stay together, as two documents that do not see each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import rng
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.objectives.dpo import DPO
from megatron_redone.training.batches import paired_microbatches
from megatron_redone.training.config import DPOConfig
from megatron_redone.training.engine import MegatronEngine, labelled_tokens
from megatron_redone.training.preference_pairs import PairSet
from megatron_redone.training.reference_logprobs import ReferenceLogprobs
from megatron_redone.training.run import TrainingRun
from megatron_redone.training.schedule import learning_rate

PairOfDocuments = tuple[Document, Document]


def objective_of(config: DPOConfig) -> DPO:
    """The objective of the settings."""
    return DPO(
        beta=config.beta,
        sft_coefficient=config.sft.coefficient,
        loss=config.loss,
        label_smoothing=config.label_smoothing,
        gt_reward_scale=1.0 if config.gt_reward_scale is None else config.gt_reward_scale,
        preference_coefficient=config.preference_coefficient,
        preference_logprobs=config.preference_logprobs,
        sft_normalisation=config.sft.normalisation,
    )


def dpo(
    config: DPOConfig,
    pairs: PairSet,
    reference: ReferenceLogprobs,
    engine: MegatronEngine,
    run: TrainingRun,
    validation: PairSet | None = None,
) -> dict[str, int]:
    """Trains the engine on the pairs; returns counts for the manifest.

    Args:
        reference: filled for all documents of `pairs` and `validation`.

    Raises:
        DataError: no pair is left.
    """
    if not len(pairs):
        raise DataError(
            f"no pair to train on ({dict(pairs.counts)}); give pairs, or raise max_length={config.max_length}"
        )
    objective, stream = objective_of(config), PairStream(len(pairs), run.seed)
    num_steps = config.num_steps(len(pairs))

    def step(number: int) -> dict[str, float]:
        places = stream.batch(number, config.global_batch_size)
        run.note_samples([pairs.ids[place] for place in places])
        documents = [pair_with_signals(pairs, place, reference, objective) for place in places]
        documents = with_sft_shares(documents, config.sft.group_pairs)
        run.trained_tokens += sum(len(document) for pair in documents for document in pair)
        batches = _microbatches(config, documents, objective, engine)
        rate = learning_rate(config.optimizer, number, num_steps)
        metrics = {**engine.train_step(batches, objective, rate), "learning_rate": rate}
        if validation is not None and (number + 1 == num_steps or (number + 1) % config.validation_every == 0):
            metrics |= validation_metrics(config, validation, reference, objective, engine)
        return metrics

    run.steps(engine, num_steps, step)
    return {"pairs": len(pairs), "steps_per_epoch": -(-len(pairs) // config.global_batch_size), **pairs.counts}


def all_documents(pairs: PairSet) -> Iterator[Document]:
    """Both documents of every pair, in order: what the reference has to score."""
    for place in range(len(pairs)):
        yield from pairs.documents(place)


class PairStream:
    """The endless stream of pairs: each epoch holds all of them once, in an order of its own."""

    def __init__(self, num_pairs: int, seed: int) -> None:
        self.num_pairs, self.seed = num_pairs, seed
        self._epoch, self._order = -1, list[int]()

    def batch(self, number: int, size: int) -> list[int]:
        """The indices of the pairs of step `number`."""
        return [self._at(place) for place in range(number * size, (number + 1) * size)]

    def _at(self, place: int) -> int:
        epoch, index = divmod(place, self.num_pairs)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(range(self.num_pairs))
            rng(self.seed, "pairs", epoch).shuffle(self._order)
        return self._order[index]


def pair_with_signals(pairs: PairSet, place: int, reference: ReferenceLogprobs, objective: DPO) -> PairOfDocuments:
    """The two documents of a pair with the signals of the loss but `sft_shares`."""
    found = []
    for document, reward in zip(pairs.documents(place), pairs.rewards[place], strict=True):
        signals: dict[str, Sequence[float]] = {"reference_logprobs": reference.of(document)}
        if "rewards" in objective.signals:
            signals["rewards"] = [reward] * len(document)
        found.append(replace(document, signals=signals))
    return found[0], found[1]


def with_sft_shares(pairs: Sequence[PairOfDocuments], group_pairs: int | None) -> list[PairOfDocuments]:
    """The pairs with the signal `sft_shares`, 1 / (chosen tokens of the group); as they are without groups."""
    if group_pairs is None:
        return list(pairs)
    found: list[PairOfDocuments] = []
    for start in range(0, len(pairs), group_pairs):
        group = pairs[start : start + group_pairs]
        share = 1.0 / sum(sum(chosen.loss_mask) for chosen, _ in group)
        for pair in group:
            chosen, rejected = (replace(d, signals={**d.signals, "sft_shares": [share] * len(d)}) for d in pair)
            found.append((chosen, rejected))
    return found


def _microbatches(
    config: DPOConfig, pairs: Sequence[tuple[Document, Document]], objective: DPO, engine: MegatronEngine
) -> list[PackedBatch]:
    limit = config.max_tokens_per_microbatch
    return paired_microbatches(pairs, limit, engine, objective.signals, config.share_prompts)


@torch.no_grad()
def validation_metrics(
    config: DPOConfig, pairs: PairSet, reference: ReferenceLogprobs, objective: DPO, engine: MegatronEngine
) -> dict[str, float]:
    """The loss, its terms and metrics over held-out pairs, as `validation/NAME`. A collective."""
    assert config.validation is not None
    places = range(min(len(pairs), config.validation.pairs))
    documents = [pair_with_signals(pairs, place, reference, objective) for place in places]
    documents = with_sft_shares(documents, config.sft.group_pairs)
    batches = _microbatches(config, documents, objective, engine)
    sums: dict[str, tuple[float, float]] = {}
    coefficients: dict[str, float] = {}
    for batch, row in zip(batches, engine.logprobs(batches), strict=True):
        tokens = labelled_tokens(batch)
        found, units = objective(row[batch.logit_positions], tokens), objective.count_units(tokens)
        for term in found.terms:
            coefficients[term.name] = term.weight
            _add(sums, term.name, (float(term.loss_sum), units[term.name]))
        for name, (numerator, denominator) in found.metric_sums.items():
            _add(sums, name, (float(numerator), float(denominator)))
    whole: dict[str, tuple[float, float]] = {}
    for part in engine.context.gather_objects(sums, engine.context.dp):
        for name, values in part.items():
            _add(whole, name, values)
    metrics = {name: numerator / max(denominator, 1e-12) for name, (numerator, denominator) in whole.items()}
    metrics["loss"] = sum(weight * metrics[name] for name, weight in coefficients.items())
    return {f"validation/{name}": value for name, value in metrics.items()}


def _add(sums: dict[str, tuple[float, float]], name: str, values: tuple[float, float]) -> None:
    before: Mapping[str, tuple[float, float]] = sums
    numerator, denominator = before.get(name, (0.0, 0.0))
    sums[name] = (numerator + values[0], denominator + values[1])
