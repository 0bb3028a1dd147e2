"""Our side of the alignment benchmark: the real DAPO loop and the real DPO stage, with a clock at their calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from megatron_redone.benchmarks.part_clock import ClockedEngine, ClockedGenerator, PartClock, TimedStep
from megatron_redone.benchmarks.rl_config import RLBenchmarkConfig
from megatron_redone.benchmarks.rl_inputs import BenchmarkInputs, pair_set
from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.factory import engine_for_model
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.rl.dapo import dapo
from megatron_redone.tasks.reading import read_rows
from megatron_redone.training.dpo import all_documents, dpo
from megatron_redone.training.model_folder import load_engine
from megatron_redone.training.reference_logprobs import ReferenceLogprobs
from megatron_redone.training.run import TrainingRun

NO_CHECKPOINT = CheckpointConfig(every=1_000_000)


def measure_dapo(
    config: RLBenchmarkConfig, inputs: BenchmarkInputs, work: Path, context: ParallelContext
) -> list[TimedStep]:
    """The measured rollouts with their updates.

    Args:
        work: new folder for what the loop writes.
    """
    work.mkdir(parents=True)
    stage, clock = config.dapo.stage(), PartClock()
    engine, tokenizer = load_engine(inputs.model, context, stage.optimizer)
    template = ChatTemplate(tokenizer)
    generator = engine_for_model(stage.generation, engine.model, context, engine.export_hf_weights)
    clocked = cast(Any, ClockedEngine(engine, clock))
    run = TrainingRun(work, "dapo", config.seed, context, NO_CHECKPOINT)
    dapo(stage, read_rows(inputs.rows).rows, template, clocked, ClockedGenerator(generator, clock), run)
    return clock.steps[config.dapo.warmup :]


def measure_dpo(
    config: RLBenchmarkConfig, inputs: BenchmarkInputs, work: Path, context: ParallelContext
) -> list[TimedStep]:
    """The measured optimizer steps; the reference's log-probabilities are there before the first."""
    work.mkdir(parents=True)
    stage = config.dpo.stage()
    engine, tokenizer = load_engine(inputs.model, context, stage.optimizer)
    with pair_set(config, inputs, ChatTemplate(tokenizer)) as pairs:
        reference = ReferenceLogprobs(work / "reference", str(inputs.model), context)
        reference.fill(all_documents(pairs), engine, stage.max_tokens_per_microbatch, "dpo")
        clock = PartClock()
        clocked = cast(Any, ClockedEngine(engine, clock, step_is_update=True))
        run = TrainingRun(work, "dpo", config.seed, context, NO_CHECKPOINT)
        dpo(stage, pairs, reference, clocked, run)
    return clock.steps[config.dpo.warmup :]
