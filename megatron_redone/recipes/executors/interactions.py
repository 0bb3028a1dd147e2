"""Interaction logs, the documents made of them, and general texts."""

from __future__ import annotations

import signal

from megatron_redone.common.errors import DataError
from megatron_redone.curation.general_text import write_general_text
from megatron_redone.curation.interactions.log import write_log
from megatron_redone.curation.interactions.synthesis import synthesize_interactions
from megatron_redone.curation.interactions.traffic import Platform
from megatron_redone.curation.segments import estimated_tokens
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.recipes import data_stages as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.training.stop import stop_signal, stopped


def run_interaction_logs(execution: Execution) -> None:
    """A generated log with its notes."""
    config = execution.config(kinds.InteractionLogsStage)
    platform = Platform(config, execution.seed)
    execution.counts["notes"] = write_log(execution.work / "notes.jsonl", platform.notes())
    execution.counts["sessions"] = write_log(execution.work / "sessions.jsonl", platform.sessions())


def run_interactions(execution: Execution) -> None:
    """Documents in the three forms."""
    config = execution.config(kinds.InteractionsStage)
    logs = execution.input_path("logs")
    if config.notes is None and logs.is_file():
        raise DataError(f"logs={logs} is a file: name the notes that it is about as well (notes=...)")
    notes = logs if config.notes is None else execution.input_path("notes")
    made = synthesize_interactions(
        config, logs, notes, execution.work, execution.seed, execution.max_refused_share, _check_stop
    )
    execution.counts.update(made.counts)
    execution.refused += made.refused


def run_general_text(execution: Execution) -> None:
    """Texts of about equal length."""
    config = execution.config(kinds.GeneralTextStage)
    count_tokens = estimated_tokens
    if config.tokenizer is not None:
        tokenizer = load_tokenizer(execution.model_folder("tokenizer"))

        def count_tokens(text: str) -> int:
            return len(tokenizer.encode(text))

    counts, refusals = write_general_text(
        config, execution.input_path("texts"), execution.work, execution.max_refused_share, count_tokens, _check_stop
    )
    execution.counts.update(counts)
    execution.refused += refusals.messages


def _check_stop() -> None:
    """Ends the stage between two files when the process was asked to stop; the files done are kept."""
    number = stop_signal()
    if number:
        name = signal.Signals(number).name
        raise stopped(f"stopped by {name} between two files; the same command goes on with the next one", number)
