"""Reinforcement learning as a stage."""

from __future__ import annotations

import contextlib

from megatron_redone.common.errors import InputError
from megatron_redone.curation.refine import DIFFICULTY, curriculum_ranks
from megatron_redone.data.tokenizer import Tokenizer
from megatron_redone.nemo_aligner.dapo_train import NemoAlignerUpdate
from megatron_redone.recipes import config as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.rl.dapo import dapo
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.model_folder import load_engine


def run_dapo(execution: Execution) -> None:
    """Reinforcement learning on `rows.jsonl`, in the order of `difficulty.jsonl` where there is a curriculum."""
    config = execution.config(kinds.DAPOStage)
    rows = execution.rows("rows", "rows.jsonl")
    ranks = None
    if config.curriculum != "none":
        path = execution.input_path("rows") / DIFFICULTY
        if not path.is_file():
            raise InputError(
                f"curriculum={config.curriculum!r} needs {path}, which is not there; give the rows of a refinement_set "
                "stage, which measures how hard each one is, or leave the curriculum out"
            )
        ranks = curriculum_ranks(path, config.curriculum)
    engine, tokenizer, template = execution.load_model(config.optimizer)
    reference = _reference(execution, tokenizer) if config.kl.needed else None
    run = execution.training_run(tokenizer)
    generator = execution.generator(engine, config.generation)
    with contextlib.ExitStack() as stack:
        update = None
        if config.backend == "nemo-aligner":
            update = stack.enter_context(
                NemoAlignerUpdate(config, config.nemo_aligner, engine, run.folder, execution.seed)
            )
        execution.counts.update(dapo(config, rows, template, engine, generator, run, reference, ranks, update))
    execution.finish_model(engine, tokenizer, template, run)


def _reference(execution: Execution, tokenizer: Tokenizer) -> MegatronEngine:
    """The frozen model: `reference`, or the one that training starts from."""
    given = execution.config(kinds.DAPOStage).reference
    folder = execution.model_folder("model" if given is None else "reference")
    engine, other = load_engine(folder, execution.context)
    if other.fingerprint != tokenizer.fingerprint:
        raise InputError(f"reference={given!r} has another tokenizer than the model; take one with the same tokenizer")
    return engine
