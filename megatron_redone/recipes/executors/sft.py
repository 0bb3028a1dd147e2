"""SFT sets, and reading them for training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from megatron_redone.curation.conversations import read_conversations
from megatron_redone.curation.sft.build import CONVERSATIONS, build_sft_sets, token_counter
from megatron_redone.curation.sft.mixing import GENERAL, SNS
from megatron_redone.curation.sft.pool import SourceFile, source_files
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.recipes import data_stages as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.executors.held_out import held_out_of
from megatron_redone.training.sft import Example


def run_sft_set(execution: Execution) -> None:
    """Mixes of task rows and conversations."""
    config = execution.config(kinds.SFTSetStage)
    template = ChatTemplate(load_tokenizer(execution.model_folder("tokenizer"))) if config.tokenizer else None
    built = build_sft_sets(
        config,
        list(_source_files(execution, config)),
        execution.work,
        token_counter(template) if template else None,
        execution.max_refused_share,
        execution.seed,
        held_out_of(
            execution, config.held_out, config.held_out_rows, execution.input_path("data") if config.data else None
        ),
    )
    execution.counts.update(built.counts)
    execution.refused += built.refused


def _source_files(execution: Execution, config: kinds.SFTSetStage) -> Iterator[SourceFile]:
    if config.data is not None:
        folder = execution.input_path("data")
        for file, part in (("train.jsonl", SNS), ("general.jsonl", GENERAL)):
            if part == SNS or (folder / file).is_file():
                yield SourceFile(folder / file, f"{folder.name}/{file}", part, "task_row")
    for part, inputs in ((SNS, config.sns), (GENERAL, config.general)):
        for place in range(len(inputs)):
            yield from source_files(execution.input_path(f"{part}.{place}"), part, config.format)


def read_examples(folder: Path) -> Iterator[Example]:
    """The conversations of a set as training reads them."""
    for conversation in read_conversations(folder / CONVERSATIONS):
        yield Example(conversation.id, conversation.messages, conversation.loss_weight)
