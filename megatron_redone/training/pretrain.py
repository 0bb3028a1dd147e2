"""Continued pretraining: next-token prediction over an indexed corpus or a blend of several (RedOne, stage 1).

Documents are joined to rows of `sequence_length` tokens; attention and loss stay inside a document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from megatron_redone.common.errors import ConfigError
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.blend import BlendedSamples, Samples
from megatron_redone.data.indexed_corpus import PretrainSamples
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.training.batches import microbatches_of
from megatron_redone.training.blend_ledger import BlendLedger
from megatron_redone.training.config import PretrainConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun
from megatron_redone.training.schedule import learning_rate
from megatron_redone.training.validation import Validation


def pretrain(
    config: PretrainConfig,
    samples: PretrainSamples,
    engine: MegatronEngine,
    run: TrainingRun,
    validation: Validation | None = None,
) -> dict[str, int]:
    """Trains the engine on one corpus; returns counts."""
    num_steps = config.num_steps(samples.samples_in(1))
    train_on(samples, config, num_steps, engine, run, validation)
    return {"tokens_per_epoch": samples.tokens_per_epoch, "steps": num_steps}


def pretrain_blend(
    config: PretrainConfig,
    samples: BlendedSamples,
    ledger: BlendLedger,
    engine: MegatronEngine,
    run: TrainingRun,
    validation: Validation | None = None,
) -> dict[str, int | float]:
    """Trains the engine on a blend; returns counts, among them samples and epochs of each corpus.

    The checkpoint holds the position in each corpus, and a resume is refused that would not go on from there.
    """
    assert config.steps is not None  # a rule of the stage: a blend has no epoch
    train_on(
        samples,
        config,
        config.steps,
        engine,
        run,
        validation,
        note=lambda: ledger.advance(config.global_batch_size),
        state=ledger.state,
        restore=ledger.restore,
    )
    return {**ledger.summary(), "steps": config.steps}


def check_epochs(samples: BlendedSamples, num_samples: int, max_epochs: float | None) -> None:
    """Refuses a run that would go through a corpus more often than `max_epochs`.

    Raises:
        ConfigError: names each such corpus.
    """
    counts = samples.blend.counts(num_samples)
    epochs = {
        name: counts[name] * corpus.sequence_length / corpus.tokens_per_epoch
        for name, corpus in zip(samples.blend.names, samples.corpora, strict=True)
        if isinstance(corpus, PretrainSamples)
    }
    if problems := [
        f"blend.max_epochs={max_epochs}: {name} would be gone through {number:.2f} times in {num_samples} samples; "
        "lower its weight, or raise max_epochs"
        for name, number in epochs.items()
        if max_epochs is not None and number > max_epochs
    ]:
        raise ConfigError(problems)


def train_on(
    samples: Samples,
    config: PretrainConfig,
    num_steps: int,
    engine: MegatronEngine,
    run: TrainingRun,
    validation: Validation | None = None,
    *,
    note: Callable[[], Mapping[str, float]] = dict,
    state: Callable[[], Mapping[str, Any]] = dict,
    restore: Callable[[Mapping[str, Any]], None] = lambda state: None,
) -> None:
    """Trains the engine on the samples 0, 1, 2, ..., `global_batch_size` of them a step.

    Args:
        note: called after each step, with metrics for it.
        state, restore: what goes into a checkpoint, and takes it back.
    """

    def step(number: int) -> dict[str, float]:
        first = number * config.global_batch_size
        rows = [samples[first + i] for i in range(config.global_batch_size)]
        batches: list[PackedBatch] = microbatches_of(rows, engine)
        run.note_samples([document.sample_id for row in rows for document in row])
        run.trained_tokens += sum(len(document) for row in rows for document in row)
        rate = learning_rate(config.optimizer, number, num_steps)
        metrics = {**engine.train_step(batches, NextToken(), rate), "learning_rate": rate, **note()}
        if validation is not None and ((number + 1) % validation.every == 0 or number + 1 == num_steps):
            metrics |= validation.losses(engine)
        return metrics

    run.steps(engine, num_steps, step, state=state, restore=restore)
