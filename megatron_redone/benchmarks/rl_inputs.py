"""What both sides of the alignment benchmark read: one model folder, and the same token ids in the same order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.benchmarks.inputs import (
    QWEN2_5_20M,
    invented_pairs,
    invented_rows,
    row_texts,
    write_model_folder,
)
from megatron_redone.benchmarks.rl_config import RLBenchmarkConfig
from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.curation.pairs.pair_files import AnswerPair, read_answer_pairs
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.document import Document
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.reading import read_rows, write_rows
from megatron_redone.training.dpo import PairStream
from megatron_redone.training.preference_pairs import PairSet, PreferencePair

ROWS_PER_TASK = 40
INVENTED_PAIRS = 200
MAX_REFUSED_SHARE = 0.2


@dataclass(frozen=True)
class BenchmarkInputs:
    """Files of one comparison; `prompts` and `pairs_in_order` are what the peer reads."""

    model: Path
    rows: Path
    pairs: Path
    prompts: Path
    pairs_in_order: Path


def prepare_inputs(config: RLBenchmarkConfig, folder: Path) -> BenchmarkInputs:
    """Writes the files into a folder; only those of the parts that are asked for.

    Raises:
        DataError: data that cannot be read, or none of which fits the lengths.
    """
    if config.rows is None:
        rows = invented_rows(config.seed, ROWS_PER_TASK)
    else:
        rows = list(read_rows(config.rows, MAX_REFUSED_SHARE).rows)
    model = config.model
    if model is None:
        model = folder / "model"
        write_model_folder(QWEN2_5_20M, row_texts(rows), model, config.seed)
    if not (model / "tokenizer.json").is_file():
        raise InputError(f"model={model}: no tokenizer.json in it, which both sides read; give a Hugging Face folder")
    template = ChatTemplate(load_tokenizer(model))
    inputs = BenchmarkInputs(
        model, folder / "rows.jsonl", folder / "pairs.jsonl", folder / "prompts.jsonl", folder / "pairs_in_order.jsonl"
    )
    if "dapo" in config.parts:
        limit = config.dapo.max_prompt_tokens
        fitting = [row for row in rows if len(_prompt_ids(row, template)) <= limit]
        if not fitting:
            raise DataError(f"no row has a prompt of at most dapo.max_prompt_tokens={limit} tokens; raise it")
        write_rows(inputs.rows, fitting)
        write_jsonl(inputs.prompts, _prompts_in_order(config, fitting, template))
    if "dpo" in config.parts:
        if config.pairs is None:
            write_jsonl(inputs.pairs, invented_pairs(rows, INVENTED_PAIRS, config.seed))
        else:
            inputs = BenchmarkInputs(model, inputs.rows, config.pairs, inputs.prompts, inputs.pairs_in_order)
        with pair_set(config, inputs, template) as pairs:
            write_jsonl(inputs.pairs_in_order, _pairs_in_order(config, pairs))
    return inputs


@contextlib.contextmanager
def pair_set(config: RLBenchmarkConfig, inputs: BenchmarkInputs, template: ChatTemplate) -> Iterator[PairSet]:
    """The pairs that fit, as tokens.

    Raises:
        DataError: none, or too many are refused.
    """
    refused, total = list[str](), 0
    with PairSet(config.dpo.stage(), template) as pairs:
        for found in read_answer_pairs(inputs.pairs, labelled=True, seed=config.seed):
            total += 1
            try:
                if isinstance(found, str):
                    raise DataError(found)
                if found.label != "tie":
                    pairs.add(_preference(found))
            except DataError as error:
                refused.append(str(error))
        if not len(pairs) or len(refused) > MAX_REFUSED_SHARE * total:
            raise DataError(
                f"{inputs.pairs}: {len(pairs)} of {total} pairs can be used at dpo.max_length={config.dpo.max_length}, "
                f"{len(refused)} are refused ({refused[:1]}); give other pairs or raise the length"
            )
        yield pairs


def _preference(pair: AnswerPair) -> PreferencePair:
    answers = (pair.answer_a, pair.answer_b) if pair.label == "a" else (pair.answer_b, pair.answer_a)
    return PreferencePair(pair.id, pair.messages, *answers, from_text=pair.from_text)


def _prompt_ids(row: Row, template: ChatTemplate) -> list[int]:
    return template.prompt_ids(get_task(row.task).render(row))


def _prompts_in_order(config: RLBenchmarkConfig, rows: list[Row], template: ChatTemplate) -> Iterator[dict[str, Any]]:
    """The prompts that our loop draws, in its order."""
    stage = config.dapo.stage()
    queue = PromptQueue(rows, stage.task_balance, config.seed)
    for row in queue.take(stage.num_rollouts * stage.prompts_per_rollout):
        yield {"prompt_ids": _prompt_ids(row, template), "answer": get_task(row.task).answer_text(row)}


def _pairs_in_order(config: RLBenchmarkConfig, pairs: PairSet) -> Iterator[dict[str, Any]]:
    """The pairs that our stage trains on, step by step."""
    stage = config.dpo.stage()
    stream = PairStream(len(pairs), config.seed)
    for number in range(stage.num_steps(len(pairs))):
        for place in stream.batch(number, stage.global_batch_size):
            chosen, rejected = pairs.documents(place)
            prompt = _num_prompt(chosen)
            yield {
                "prompt_ids": list(chosen.token_ids[:prompt]),
                "chosen_ids": list(chosen.token_ids[prompt:]),
                "rejected_ids": list(rejected.token_ids[prompt:]),
            }


def _num_prompt(document: Document) -> int:
    return next(place for place, learnt in enumerate(document.loss_mask) if learnt)
