"""Continued pretraining: next-token prediction over an indexed corpus (RedOne, stage 1).

Documents are joined to rows of `sequence_length` tokens; attention and loss stay inside a document.
"""

from __future__ import annotations

from pathlib import Path

from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.indexed_corpus import PretrainSamples
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.training.batches import microbatches_of
from megatron_redone.training.config import PretrainConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun
from megatron_redone.training.schedule import learning_rate


def pretrain(
    config: PretrainConfig, corpus: Path, eos_id: int, engine: MegatronEngine, run: TrainingRun
) -> dict[str, int]:
    """Trains the engine on the corpus whose .bin and .idx stand at the prefix `corpus`; returns counts."""
    samples = PretrainSamples(corpus, config.sequence_length, eos_id, run.seed)
    num_steps = config.num_steps(samples.samples_in(1))

    def step(number: int) -> dict[str, float]:
        first = number * config.global_batch_size
        rows = [samples[first + i] for i in range(config.global_batch_size)]
        batches: list[PackedBatch] = microbatches_of(rows, engine)
        run.note_samples([document.sample_id for row in rows for document in row])
        run.trained_tokens += sum(len(document) for row in rows for document in row)
        rate = learning_rate(config.optimizer, number, num_steps)
        return {**engine.train_step(batches, NextToken(), rate), "learning_rate": rate}

    run.steps(engine, num_steps, step)
    return {"tokens_per_epoch": samples.tokens_per_epoch, "steps": num_steps}
