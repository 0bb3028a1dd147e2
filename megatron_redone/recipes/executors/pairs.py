"""Preference pairs, and the agreement of a judge with people."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import Progress, get_logger
from megatron_redone.common.progress_file import ProgressFile
from megatron_redone.curation.conversations import balanced
from megatron_redone.curation.pairs.checks import PromptWriter
from megatron_redone.curation.pairs.collect import Collector, summary
from megatron_redone.curation.pairs.config import JudgeConfig
from megatron_redone.curation.pairs.judged import (
    AGREEMENT,
    BATCH,
    agreement_report,
    choose_labelled,
    given_pair,
    judged_pairs,
    passed_agreement,
    read_verdicts,
    verdicts_of,
)
from megatron_redone.curation.pairs.model_errors import as_outputs, error_pairs, read_predictions, sample_rows
from megatron_redone.curation.pairs.option_order import option_pairs
from megatron_redone.curation.pairs.pair import Pair
from megatron_redone.curation.pairs.pair_files import MAX_PROBLEMS_SHOWN, AnswerPair, PairFile
from megatron_redone.recipes import data_stages as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.executors.held_out import held_out_of
from megatron_redone.recipes.executors.judges import identity_of, judge_of
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.row import Row
from megatron_redone.training.stop import agreed_stop, stopped

LOG = get_logger("pairs")
VERDICTS, SAMPLES = "verdicts.jsonl", "samples.jsonl"
ROWS_AT_ONCE = 64
"""Rows answered between two writes to disk."""


def run_judge_agreement(execution: Execution) -> None:
    """A judge's verdicts on labelled pairs, its figures, and whether it passes."""
    config = execution.config(kinds.JudgeAgreementStage)
    file = _pair_file(execution, "labelled", "labelled.jsonl", labelled=True)
    labelled = list(file)
    pairs = choose_labelled(config, labelled, execution.seed)
    execution.refused += file.refused
    execution.counts.update({"labelled": len(labelled), "compared": len(pairs)})
    if not pairs:
        raise DataError(f"{file.path}: no pair has at most max_characters={config.max_characters}; raise it")
    _judge(execution, config.judge, pairs, len(pairs))
    execution.context.on_main(lambda: _report_agreement(execution, pairs))


def _report_agreement(execution: Execution, pairs: Sequence[AnswerPair]) -> None:
    config = execution.config(kinds.JudgeAgreementStage)
    verdicts = read_verdicts(ProgressFile(execution.work / VERDICTS))
    identity = identity_of(execution, config.judge)
    report = agreement_report(config, identity, pairs, verdicts, execution.seed)
    atomic_write_json(execution.work / AGREEMENT, report)
    LOG.info("the judge %s: %s", "passed" if report["passed"] else "did NOT pass", report["summary"])
    for failure in report["failures"]:
        LOG.info("  %s", failure)
    figures = report["figures"]
    execution.counts.update({name: figures[name] for name in ("accuracy", "kappa", "decided", "unreadable")})
    execution.counts["passed"] = int(report["passed"])


def run_pairs(execution: Execution) -> None:
    """Pairs of every source that the settings name."""
    config = execution.config(kinds.PairsStage)
    for section in (config.option_order, config.model_errors):
        for name in section.tasks if section is not None else ():
            get_task(name)
    rows = execution.rows("data", f"{config.split}.jsonl") if config.data is not None else []
    agreement: dict[str, Any] = {}
    if config.candidates is not None:
        assert config.judge is not None
        agreement = passed_agreement(execution.input_path("agreement"), identity_of(execution, config.judge))
        candidates = _pair_file(execution, "candidates", "candidates.jsonl", labelled=False)
        _judge(execution, config.judge, candidates, candidates.count())
    if config.model is not None:
        _sample(execution, _rows_to_answer(execution, rows))
    execution.context.on_main(lambda: _collect(execution, rows, agreement))


def _collect(execution: Execution, rows: Sequence[Row], agreement: dict[str, Any]) -> None:
    config = execution.config(kinds.PairsStage)
    tokenizer = execution.model_folder("tokenizer") if config.tokenizer is not None else None
    folder = execution.input_path("data") if config.data is not None else None
    asked = [folder / f"{config.split}.jsonl"] if folder is not None else []
    held_out = held_out_of(execution, config.held_out, config.held_out_rows, folder, asked)
    writer = PromptWriter(tokenizer, config.max_tokens)
    collector = Collector(config, execution.work, writer, execution.seed, held_out)
    collector.collect(_all_pairs(execution, rows, agreement))
    execution.counts.update(summary(collector.publish()))


def _all_pairs(execution: Execution, rows: Sequence[Row], agreement: dict[str, Any]) -> Iterator[Pair]:
    config = execution.config(kinds.PairsStage)
    by_id = {row.id: row for row in rows}
    if config.option_order is not None:
        yield from option_pairs(config.option_order, rows, execution.seed)
    if config.model_errors is not None:
        yield from _error_pairs(execution, by_id)
    if config.candidates is not None:
        candidates = _pair_file(execution, "candidates", "candidates.jsonl", labelled=False)
        verdicts = read_verdicts(ProgressFile(execution.work / VERDICTS))
        execution.counts["judge/ties"] = sum(verdict.winner == "tie" for verdict in verdicts.values())
        execution.counts["judge/unreadable"] = sum(verdict.unreadable for verdict in verdicts.values())
        yield from judged_pairs(candidates, verdicts, agreement, by_id)
        execution.refused += candidates.refused
    for place in range(len(config.files)):
        file = _pair_file(execution, f"files.{place}", "train.jsonl", labelled=True)
        for pair in file:
            given = given_pair(pair)
            if given is None:
                execution.counts["given/ties"] = execution.counts.get("given/ties", 0) + 1
            else:
                yield given
        execution.refused += file.refused


def _error_pairs(execution: Execution, rows: dict[str, Row]) -> Iterator[Pair]:
    config = execution.config(kinds.PairsStage)
    assert config.model_errors is not None
    counts = {"answered": 0, "over_long_prompts": 0, "without_error": 0}
    for row, outputs in _answers(execution, rows):
        if config.model_errors.tasks and row.task not in config.model_errors.tasks:
            continue
        pairs = error_pairs(config.model_errors, row, outputs)
        counts["answered"] += bool(outputs)
        counts["over_long_prompts"] += not outputs
        counts["without_error"] += bool(outputs) and not pairs
        yield from pairs
    execution.counts.update({f"model_errors/{name}": count for name, count in counts.items()})


def _answers(execution: Execution, rows: dict[str, Row]) -> Iterator[tuple[Row, list[Any]]]:
    """Rows with the model's answers: those drawn here, or those of the file of predictions."""
    if execution.config(kinds.PairsStage).predictions is None:
        for value in ProgressFile(execution.work / SAMPLES):
            yield rows[value["id"]], as_outputs(value["outputs"])
        return
    path = _file_in(execution.input_path("predictions"), "predictions.jsonl")
    refused, read = [], 0
    for row, outputs, problem in read_predictions(path, rows):
        if row is None:
            refused.append(str(problem))
        else:
            read += 1
            yield row, outputs
    execution.refused += refused
    if not read or len(refused) > execution.max_refused_share * (read + len(refused)):
        shown = "\n".join(f"  {line}" for line in refused[:MAX_PROBLEMS_SHOWN])
        total = read + len(refused)
        raise DataError(f"{path}: {len(refused)} of {total} predictions refused; first problems:\n{shown}")


def _rows_to_answer(execution: Execution, rows: Sequence[Row]) -> list[Row]:
    config = execution.config(kinds.PairsStage).model_errors
    assert config is not None
    wanted = [row for row in rows if not config.tasks or row.task in config.tasks]
    if not wanted:
        raise DataError(f"data has no row of the tasks {', '.join(config.tasks) or '(any)'}; name others")
    if config.max_rows is None:
        return wanted
    num_tasks = len({row.task for row in wanted})
    return balanced(wanted, -(-config.max_rows // num_tasks), execution.seed)[: config.max_rows]


def _sample(execution: Execution, rows: Sequence[Row]) -> None:
    """Answers to the rows that have none yet, into the file of samples."""
    config = execution.config(kinds.PairsStage).model_errors
    assert config is not None
    progress = execution.context.on_main(lambda: ProgressFile(execution.work / SAMPLES))
    left = [row for row in rows if row.id not in progress.done]
    with _reported(execution, "answers", len(rows), len(rows) - len(left)) as between:
        if not left:
            return
        engine, _, template = execution.load_model()
        generator = execution.generator(engine, config.generation)
        for start in range(0, len(left), ROWS_AT_ONCE):
            batch = left[start : start + ROWS_AT_ONCE]
            outputs = sample_rows(config, batch, generator, template, execution.seed)
            lines = [
                {"id": row.id, "outputs": [output.to_json() for output in found]}
                for row, found in zip(batch, outputs, strict=True)
            ]
            _append(execution, progress, lines)
            between(len(batch))


def _judge(execution: Execution, config: JudgeConfig, pairs: Sequence[AnswerPair] | PairFile, total: int) -> None:
    """Verdicts on the pairs that have none yet, into the file of verdicts."""
    progress = execution.context.on_main(lambda: ProgressFile(execution.work / VERDICTS))
    batch_size = max(BATCH, config.server.concurrency if config.server is not None else 0)
    with _reported(execution, "verdicts", total, len(progress.done)) as between:
        if len(progress.done) >= total:
            return
        with judge_of(execution, config) as judge:
            left = (pair.comparison(config.language) for pair in pairs if pair.id not in progress.done)
            verdicts_of(judge, left, lambda lines: _append(execution, progress, lines), between, batch_size)


def _pair_file(execution: Execution, field: str, name: str, labelled: bool) -> PairFile:
    path = _file_in(execution.input_path(field), name)
    return PairFile(path, labelled, execution.seed, execution.max_refused_share)


def _file_in(path: Path, name: str) -> Path:
    """An input that is a file, or the file of that name in a folder."""
    return path / name if path.is_dir() else path


def _append(execution: Execution, progress: ProgressFile, lines: list[dict[str, Any]]) -> None:
    """Rank 0 writes; all remember."""
    if execution.context.is_main:
        progress.append(lines)
    else:
        progress.done.update(line["id"] for line in lines)
    execution.context.barrier()


@contextlib.contextmanager
def _reported(execution: Execution, what: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """Shows progress, and stops between two batches when the process was asked to."""
    with Progress(f"{execution.run.id} {what}", total, what, execution.context.is_main) as progress:
        progress.start_at(done)

        def between(number: int) -> None:
            progress.advance(number)
            signal = agreed_stop(execution.context)
            if signal:
                raise stopped(f"stopped after {progress.done} of {total} {what}; the same command goes on", signal)

        yield between
