"""Preference optimisation as a stage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.curation.pairs.pair_files import MAX_PROBLEMS_SHOWN, AnswerPair, read_answer_pairs
from megatron_redone.data.tokenizer import Tokenizer
from megatron_redone.nemo_aligner.train import dpo_with_nemo_aligner
from megatron_redone.recipes import config as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.training.dpo import all_documents, dpo
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.model_folder import load_engine
from megatron_redone.training.preference_pairs import PairSet, PreferencePair
from megatron_redone.training.reference_logprobs import ReferenceLogprobs

TRAIN, VALIDATION = "train.jsonl", "validation.jsonl"
REFERENCE = "reference"


def run_dpo(execution: Execution) -> None:
    """Trains on `train.jsonl` of the pairs, or on the one file that they are."""
    config = execution.config(kinds.DPOStage)
    engine, tokenizer, template = execution.load_model(config.optimizer)
    run = execution.training_run(tokenizer)
    folder = execution.input_path("pairs")
    with PairSet(config, template) as pairs, PairSet(config, template) as held_out:
        _read(execution, folder / TRAIN if folder.is_dir() else folder, pairs)
        if config.validation is not None:
            _read(execution, validation_file(folder), held_out)
        reference = _reference(execution, engine, tokenizer, [pairs, held_out])
        run.forward_tokens += sum(len(document) for some in (pairs, held_out) for document in all_documents(some))
        validation = held_out if config.validation is not None else None
        if config.backend == "nemo-aligner":
            counts = dpo_with_nemo_aligner(config, config.nemo_aligner, pairs, reference, engine, run, validation)
        else:
            counts = dpo(config, pairs, reference, engine, run, validation)
    execution.counts.update(counts)
    if config.validation is not None:
        execution.counts["validation_pairs"] = len(held_out)
    execution.finish_model(engine, tokenizer, template, run)
    execution.context.barrier()
    execution.context.on_main(lambda: shutil.rmtree(execution.work / REFERENCE, ignore_errors=True))


def validation_file(folder: Path) -> Path:
    """The held-out pairs of a folder.

    Raises:
        InputError: it has none.
    """
    path = folder / VALIDATION
    if not path.is_file():
        raise InputError(f"validation is on, but {path} is not there; give a folder that has it, or switch it off")
    return path


def _read(execution: Execution, path: Path, pairs: PairSet) -> None:
    """Takes the pairs of a file; refused ones go into the manifest, and too many of them end the stage."""
    refused, ties = read_pairs(path, execution.seed, execution.max_refused_share, pairs)
    execution.refused += refused
    execution.counts |= {f"pairs_refused/{path.name}": len(refused), f"ties_left_out/{path.name}": ties}


def read_pairs(path: Path, seed: int, max_refused_share: float, pairs: PairSet) -> tuple[list[str], int]:
    """Adds the pairs of a file; why others were refused, and how many ties were left out.

    Raises:
        DataError: more than the share were refused, or none was there.
    """
    refused: list[str] = []
    ties = total = 0
    for pair, problem in _items(path, seed):
        total += 1
        if pair is None:
            refused.append(problem)
        elif pair.label == "tie":
            ties += 1
        else:
            try:
                pairs.add(_preference(pair))
            except DataError as error:
                refused.append(f"{pair.source}: {pair.id}: {error}")
    if not total or len(refused) > max_refused_share * total:
        shown = "\n".join(f"  {line}" for line in refused[:MAX_PROBLEMS_SHOWN])
        raise DataError(
            f"{path}: {len(refused)} of {total} pairs refused, but at most {max_refused_share:.0%} may be "
            f"and one must remain; correct the file; first problems:\n{shown}"
        )
    return refused, ties


def _items(path: Path, seed: int) -> Iterator[tuple[AnswerPair | None, str]]:
    for found in read_answer_pairs(path, labelled=True, seed=seed):
        yield (None, found) if isinstance(found, str) else (found, "")


def _preference(pair: AnswerPair) -> PreferencePair:
    answers = [(pair.answer_a, pair.score_a), (pair.answer_b, pair.score_b)]
    (chosen, chosen_reward), (rejected, rejected_reward) = answers if pair.label == "a" else answers[::-1]
    return PreferencePair(
        pair.id, pair.messages, chosen, rejected, chosen_reward, rejected_reward, from_text=pair.from_text
    )


def _reference(
    execution: Execution, engine: MegatronEngine, tokenizer: Tokenizer, sets: list[PairSet]
) -> ReferenceLogprobs:
    """The reference log-probabilities of all pairs: of the model that training starts from, or of `reference`.

    Called before a checkpoint is loaded, so that the engine holds the weights that the stage began with.
    """
    config = execution.config(kinds.DPOStage)
    name = "model" if config.reference is None else "reference"
    weights: dict[str, Any] = execution.identity["inputs"][name]
    folder = config.reference_cache or execution.work / REFERENCE
    reference = ReferenceLogprobs(folder, f"{weights['sha256']} {config.parallel.precision}", execution.context)
    scorer = engine
    if config.reference is not None:
        scorer, other = load_engine(execution.model_folder("reference"), execution.context)
        if other.fingerprint != tokenizer.fingerprint:
            raise InputError(
                f"reference={config.reference!r} has another tokenizer than model={config.model!r}; their "
                "log-probabilities would be of other tokens: take a reference with the same tokenizer"
            )
    for pairs in sets:
        limit = config.max_tokens_per_microbatch
        reference.fill(all_documents(pairs), scorer, limit, execution.run.id, config.share_prompts)
    if execution.context.is_main:
        atomic_write_json(execution.work / "reference.json", {"model_sha256": weights["sha256"], "of": name})
    return reference
