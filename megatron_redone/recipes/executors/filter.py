"""Raw documents to kept ones, and the classifier of tone."""

from __future__ import annotations

from pathlib import Path

from megatron_redone.common.errors import InputError, Interrupted
from megatron_redone.common.files import atomic_write_text
from megatron_redone.curation.filter.config import FilterConfig, ToneModelConfig
from megatron_redone.curation.filter.run import filter_corpus
from megatron_redone.curation.filter.tone_training import (
    LabelledText,
    cold_rows,
    davidson_rows,
    jsonl_rows,
    train_tone_model,
)
from megatron_redone.recipes import data_stages as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.training.stop import stop_signal, stopped


def run_filter(execution: Execution) -> None:
    """Rules, duplicates, benchmarks, language model, tone."""
    stage = execution.config(kinds.FilterStage)
    if execution.context.world_size > 1:
        raise InputError(
            f"curate filter in {execution.context.world_size} ranks: it spreads its own tasks; start one process and "
            "set executor.workers"
        )
    config = FilterConfig(**{name: getattr(stage, name) for name in FilterConfig.model_fields})
    done = filter_corpus(
        config,
        [execution.input_path(f"documents.{place}") for place in range(len(stage.documents))],
        execution.work,
        execution.seed,
        execution.max_refused_share,
        benchmarks=_benchmarks(execution, config),
        model=execution.model_folder("language_model.model") if config.language_model else None,
        tone_model=execution.input_path("tone.model") if config.tone else None,
        stop=_asked_to_stop,
    )
    execution.counts.update(done.counts)
    execution.refused += done.refused
    lines = "".join(f'{{"pass": "{name}", "seconds": {seconds:.3f}}}\n' for name, seconds in done.seconds.items())
    atomic_write_text(execution.work / "timing.jsonl", lines)


def _benchmarks(execution: Execution, config: FilterConfig) -> list[Path]:
    if config.decontamination is None:
        return []
    places = range(len(config.decontamination.benchmarks))
    return [execution.input_path(f"decontamination.benchmarks.{place}") for place in places]


def _asked_to_stop() -> Interrupted | None:
    number = stop_signal()
    message = "stopped between tasks; the same command goes on with those that are left"
    return stopped(message, number) if number else None


def run_tone_model(execution: Execution) -> None:
    """A classifier of offensive texts."""
    stage = execution.config(kinds.ToneModelStage)
    rows: list[LabelledText] = []
    for field, reader in (("davidson", davidson_rows), ("cold", cold_rows), ("rows", jsonl_rows)):
        if getattr(stage, field) is None:
            continue
        found = list(reader(execution.input_path(field)))
        refused = [row for row in found if isinstance(row, str)]
        if len(refused) > execution.max_refused_share * len(found):
            raise InputError(
                f"{field}: {len(refused)} of {len(found)} rows cannot be used, more than max_refused_share="
                f"{execution.max_refused_share}; the first: {refused[0]}"
            )
        execution.refused += refused
        rows += [row for row in found if isinstance(row, LabelledText)]
    config = ToneModelConfig(**{name: getattr(stage, name) for name in ToneModelConfig.model_fields})
    execution.counts.update(train_tone_model(rows, config, execution.work, execution.seed))
