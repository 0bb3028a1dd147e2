"""`redone evaluate` on SNS-Bench and SNS-TransBench: benchmarks that are files with official metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.table import Table

from megatron_redone.cli.evaluate_app import EvaluateOptions
from megatron_redone.common.errors import InputError
from megatron_redone.common.files import sha256_file
from megatron_redone.common.logging import CONSOLE, get_logger
from megatron_redone.evaluation.baselines import EMPTY, GOLD, MAJORITY, MEANINGS, OPTIONS
from megatron_redone.evaluation.benchmark import Benchmark, Prompt, Row
from megatron_redone.evaluation.benchmark_data import read_benchmark
from megatron_redone.evaluation.benchmark_scoring import Answered, item_scores, score_benchmark
from megatron_redone.evaluation.failures import failures
from megatron_redone.evaluation.predictions_file import read_predictions
from megatron_redone.evaluation.prompt_set import read_prompt_set
from megatron_redone.evaluation.published import SOURCE, published_figures
from megatron_redone.evaluation.results import FAILURES, PAGE, PREDICTIONS, BenchmarkResult, write_results
from megatron_redone.evaluation.sns_bench.benchmark import NAME as SNS_BENCH, PUBLISHED_EMBEDDER, sns_bench
from megatron_redone.evaluation.translation import sns_transbench
from megatron_redone.reporting.evaluation_page import Published, write_evaluation_page

QUERY_GENERATION = "Note-QueryGen.json"
NO_EMBEDDER = "none"
SHORT = {GOLD: "gold", EMPTY: "empty", OPTIONS: "options", MAJORITY: "majority"}


def evaluate_files(options: EvaluateOptions) -> None:
    """Reads all that is given before anything slow begins; then answers (with a model), scores, writes and prints."""
    benchmark = sns_bench(None, NO_EMBEDDER) if options.benchmark == SNS_BENCH else sns_transbench()
    rows = read_benchmark(options.data, benchmark, options.files)
    own_prompts = read_prompt_set(options.prompt_set, benchmark) if options.prompt_set else {}
    prompts = {file: own_prompts.get(file, benchmark.tasks[file].prompt) for file in rows}
    settings: dict[str, Any] = {
        "data": {file: sha256_file(options.data / file) for file in rows},
        "limit": options.limit,
    }
    settings["prompts"] = {
        file: f"{'prompt set' if file in own_prompts else 'built in'}, sha256 {prompt.sha256}"
        for file, prompt in prompts.items()
    }
    num_scored = {file: min(len(of_file), options.limit or len(of_file)) for file, of_file in rows.items()}
    outputs, more, notes = _outputs(options, benchmark, rows, num_scored, prompts)
    answered = {file: Answered(rows[file], of_file) for file, of_file in outputs.items()}
    if options.benchmark == SNS_BENCH:
        benchmark = _with_embedder(options, rows)
    result, scores = score_benchmark(
        benchmark, answered, label=str(options.model or options.predictions), settings=settings | more, notes=notes
    )
    lost = failures(benchmark, answered, scores, prompts)
    write_results(options.out, result, item_scores(scores), lost)
    published = Published(SOURCE, published_figures(benchmark.name))
    write_evaluation_page(result, lost, MEANINGS, published, options.out / PAGE)
    _print(result, options.out)


def _outputs(
    options: EvaluateOptions,
    benchmark: Benchmark,
    rows: Mapping[str, Sequence[Row]],
    num_scored: Mapping[str, int],
    prompts: Mapping[str, Prompt],
) -> tuple[dict[str, list[str]], dict[str, Any], list[str]]:
    """By file the answers to its first rows; settings and notes on where they come from."""
    sizes = {file: _size(options.data, file, rows) for file in benchmark.tasks}
    more: dict[str, Any] = {}
    if options.model is not None:
        more = _answer(options, benchmark, rows, num_scored, prompts, sizes)
        path = options.out / PREDICTIONS
    else:
        assert options.predictions is not None
        path = options.predictions
        more["predictions_sha256"] = sha256_file(path) if path.is_file() else ""
    read = read_predictions(path, sizes)
    outputs = {
        file: [read.outputs.get(file, {}).get(index, "") for index in range(count)]
        for file, count in num_scored.items()
    }
    absent = {
        file: sum(index not in read.outputs.get(file, {}) for index in range(count))
        for file, count in num_scored.items()
    }
    given = sum(len(of_file) for of_file in read.outputs.values())
    scored = sum(num_scored.values()) - sum(absent.values())
    more["counts"] = {
        "rows_scored": sum(num_scored.values()),
        "rows_without_an_answer": {file: count for file, count in absent.items() if count},
        "answers_not_scored": read.num_unused + given - scored,
        **more.pop("answering", {}),
    }
    return outputs, more, _notes(absent, num_scored, rows)


def _size(folder: Path, file: str, rows: Mapping[str, Sequence[Row]]) -> int | None:
    """Rows of a file of the benchmark; None where it is not read."""
    return len(rows[file]) if file in rows else None


def _notes(absent: Mapping[str, int], num_scored: Mapping[str, int], rows: Mapping[str, Sequence[Row]]) -> list[str]:
    notes = []
    if missing := {file: count for file, count in absent.items() if count}:
        listed = ", ".join(f"{file} {count} of {num_scored[file]}" for file, count in missing.items())
        notes.append(f"Rows without an answer are scored as empty answers: {listed}.")
        get_logger("evaluate").warning(notes[-1])
    if cut := [file for file, count in num_scored.items() if count < len(rows[file])]:
        notes.append(f"Only the first rows are scored (--limit) of {len(cut)} file(s): not comparable with whole ones.")
    return notes


def _answer(
    options: EvaluateOptions,
    benchmark: Benchmark,
    rows: Mapping[str, Sequence[Row]],
    num_scored: Mapping[str, int],
    prompts: Mapping[str, Prompt],
    sizes: Mapping[str, int | None],
) -> dict[str, Any]:
    """Lets the model answer into OUT/predictions.jsonl, and says how."""
    import os

    import torch

    from megatron_redone.evaluation.model_answers import AnswerSettings, answer_rows, begin, identity
    from megatron_redone.generation.open_model import open_model
    from megatron_redone.launch.environment import from_environ
    from megatron_redone.models.families import read_shape
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import build_context, shutdown

    assert options.model is not None
    how = AnswerSettings(
        options.batch_size,
        options.max_new_tokens,
        options.max_prompt_tokens,
        options.temperature,
        options.top_p,
        options.seed,
        options.precision,
    )
    place = from_environ(os.environ)
    if place.world_size > 1:
        raise InputError(f"evaluate runs in one process, not in {place.world_size}; start it without torchrun")
    torch.set_num_threads(place.threads)

    read_shape(options.model)  # a folder that holds no model is told before anything is built
    context = build_context(ParallelConfig(precision=options.precision))
    with ExitStack() as stack:
        stack.callback(shutdown)
        model = open_model(options.model, options.engine, options.batch_size, context)
        stack.callback(model.engine.close)
        options.out.mkdir(parents=True, exist_ok=True)
        fixed = identity(options.model, options.engine, prompts, {file: options.data / file for file in rows}, how)
        begin(options.out, fixed)
        asked = {file: rows[file][:count] for file, count in num_scored.items()}
        counts = answer_rows(options.out, model, benchmark, prompts, asked, sizes, how)
    room = {file: how.room(benchmark.tasks[file]) for file in rows}
    return {
        "engine": options.engine,
        "generation": fixed["settings"] | {"max_new_tokens": room},
        "model_positions": model.max_positions,
        "answering": counts,
    }


def _with_embedder(options: EvaluateOptions, rows: Mapping[str, Sequence[Row]]) -> Benchmark:
    """SNS-Bench with the embedder that is asked for; the published one may be out of reach, any other must be there."""
    name = options.embedder or PUBLISHED_EMBEDDER
    if QUERY_GENERATION not in rows or name == NO_EMBEDDER:
        return sns_bench(None, NO_EMBEDDER if QUERY_GENERATION in rows else "")
    from megatron_redone.evaluation.embedder import load_embedder

    try:
        return sns_bench(load_embedder(name), name)
    except InputError as error:
        if options.embedder:
            raise
        get_logger("evaluate").warning("%s. QueryGen is scored without its cosine.", error)
        return sns_bench(None, f"none ({PUBLISHED_EMBEDDER} cannot be loaded here)")


def _print(result: BenchmarkResult, out: Path) -> None:
    headings = ("task", "score", "95%", "parsed", *(SHORT[name] for name in result.baselines))
    table = Table(*headings, title=f"{result.benchmark}: {result.label}", box=None, padding=(0, 1), pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for file, task in result.tasks.items():
        name = file.removeprefix("Note-").removesuffix(".json")
        beside = [baseline.tasks[file] for baseline in result.baselines.values()]
        table.add_row(name, *_cells(task["score"], task["interval"], f"{task['parse_rate']:.1%}", beside))
    table.add_section()
    beside = [baseline.score for baseline in result.baselines.values()]
    table.add_row("benchmark", *_cells(result.score, result.interval, "", beside))
    CONSOLE.print(table)
    for sentence in (f"Score: {result.score_rule}.", *result.notes):
        CONSOLE.print(sentence, markup=False, highlight=False)
    CONSOLE.print(f"written: {out / PAGE} and, beside it, {FAILURES}", markup=False, highlight=False, soft_wrap=True)


def _cells(score: float, interval: Sequence[float], parsed: str, beside: Sequence[float]) -> list[str]:
    return [f"{score:.2f}", f"{interval[0]:.1f}-{interval[1]:.1f}", parsed, *(f"{value:.2f}" for value in beside)]
