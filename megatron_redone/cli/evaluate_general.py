"""`redone evaluate --benchmark general-bench`: general benchmarks through lm-evaluation-harness, offline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.table import Table

from megatron_redone.cli.evaluate_app import EvaluateOptions
from megatron_redone.common.errors import InputError
from megatron_redone.common.files import sha256_file
from megatron_redone.common.logging import CONSOLE, get_logger
from megatron_redone.evaluation.general.benchmarks import SETS, Selection, select
from megatron_redone.evaluation.results import FAILURES, PAGE, BenchmarkResult, write_results

if TYPE_CHECKING:
    from megatron_redone.data.tokenizer import Tokenizer
    from megatron_redone.evaluation.general.language_model import EngineLanguageModel

RESPONSES = "responses.jsonl"
NO_HUB = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "TQDM_DISABLE": "1"}
"""Set before the harness is imported: nothing asks a hub, and its bars do not fight with ours."""


def evaluate_general(options: EvaluateOptions) -> None:
    """Asks the model what is not answered yet, scores, writes and prints."""
    os.environ.update(NO_HUB)
    if options.model is None:
        raise InputError("general-bench asks a model: give --model; answers from a file have no log-likelihoods")
    selection = select(options.tasks or (SETS[1],))
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise InputError(
            "general-bench needs lm-evaluation-harness: pip install 'megatron-redone[evaluation]'"
        ) from error

    from megatron_redone.evaluation.general.result import benchmark_result, failures
    from megatron_redone.evaluation.general.run import GeneralSettings, missing_benchmarks, run_general_bench
    from megatron_redone.reporting.evaluation_page import Published, write_evaluation_page

    for title, reason in missing_benchmarks(selection, options.data).items():
        get_logger("evaluate").warning("%s is missing: %s", title, reason)
    options.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        model, chat, how = _open(options, stack)
        asked = GeneralSettings(limit=options.limit, num_fewshot=options.num_fewshot, chat=chat)
        outcomes, missing = run_general_bench(model, selection, options.data, asked)
    settings = {
        "limit": options.limit,
        "tasks": selection.name,
        "chat": chat,
        "data": _data_hashes(options, selection),
        **how,
        "counts": dict(model.counts),
    }
    result = benchmark_result(outcomes, missing, selection, label=str(options.model), settings=settings)
    lost = failures(outcomes)
    items = (item for outcome in outcomes.values() for item in outcome.items)
    write_results(options.out, result, items, lost)
    write_evaluation_page(result, lost, {}, Published("", {}), options.out / PAGE)
    _print(result, options)


def _open(options: EvaluateOptions, stack: ExitStack) -> tuple[EngineLanguageModel, bool, dict[str, Any]]:
    """The model as the harness sees it, whether it is asked in chats, and settings for the result."""
    import torch

    from megatron_redone.evaluation.general.language_model import EngineLanguageModel, LanguageModelSettings
    from megatron_redone.evaluation.general.response_cache import ResponseCache
    from megatron_redone.evaluation.model_answers import weights_identity
    from megatron_redone.generation.megatron_engine import MegatronGenerator
    from megatron_redone.generation.open_model import open_model
    from megatron_redone.generation.token_scores import MegatronTokenScorer
    from megatron_redone.launch.environment import from_environ
    from megatron_redone.models.families import read_shape
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import build_context, shutdown

    assert options.model is not None
    place = from_environ(os.environ)
    if place.world_size > 1:
        raise InputError(f"evaluate runs in one process, not in {place.world_size}; start it without torchrun")
    torch.set_num_threads(place.threads)
    read_shape(options.model)  # a folder that holds no model is told before anything is built
    layout = ParallelConfig(precision=options.precision)
    context = build_context(layout)
    stack.callback(shutdown)
    opened = open_model(options.model, options.engine, options.batch_size, context)
    engine = opened.engine
    stack.callback(engine.close)
    scorer = MegatronTokenScorer(engine) if isinstance(engine, MegatronGenerator) else None
    template = _template(options, opened.tokenizer)
    how: dict[str, Any] = {
        "engine": options.engine,
        "precision": layout.precision,
        "weights": weights_identity(options.model),
        "tokenizer": opened.tokenizer.fingerprint,
        "thinking": options.thinking,
        "max_length": min(opened.max_positions, (options.max_prompt_tokens or opened.max_positions)),
    }
    settings = LanguageModelSettings(
        max_length=how["max_length"],
        batch_size=options.batch_size,
        room=options.max_new_tokens,
        temperature=options.temperature or None,
        top_p=options.top_p if options.temperature else None,
        seed=options.seed,
    )
    fingerprint = str([*how.values(), template.template if template is not None else ""])
    cache = ResponseCache(options.out / RESPONSES, fingerprint)
    model = EngineLanguageModel(engine, scorer, opened.tokenizer, template, settings, cache)
    drawn = {"max_new_tokens": options.max_new_tokens, "temperature": options.temperature, "seed": options.seed}
    return model, template is not None, how | drawn


def _template(options: EvaluateOptions, tokenizer: Tokenizer) -> Any:
    """The chat template that is used, None for bare texts."""
    from megatron_redone.data.chat_template import ChatTemplate

    wanted = options.chat_template if options.chat_template is not None else tokenizer.chat_template is not None
    return ChatTemplate(tokenizer, enable_thinking=options.thinking) if wanted else None


def _data_hashes(options: EvaluateOptions, selection: Selection) -> Mapping[str, str]:
    files = [options.data / benchmark.file for benchmark in selection.benchmarks if benchmark.file]
    return {str(file.relative_to(options.data)): sha256_file(file) for file in files if file.is_file()}


def _print(result: BenchmarkResult, options: EvaluateOptions) -> None:
    table = Table("task", "rows", "metric", "score", "95% interval", title=result.benchmark)
    for name, task in result.tasks.items():
        low, high = task["interval"]
        metric = result.settings["metrics"][name]
        table.add_row(name, str(task["num_rows"]), metric, f"{task['score']:.2f}", f"{low:.1f} to {high:.1f}")
    table.add_section()
    low, high = result.interval
    table.add_row("mean", "", "", f"{result.score:.2f}", f"{low:.1f} to {high:.1f}")
    CONSOLE.print(table)
    for sentence in (f"Score: {result.score_rule}.", *result.notes):
        CONSOLE.print(sentence, markup=False, highlight=False)
    written = f"written: {options.out / PAGE} and, beside it, {FAILURES}"
    CONSOLE.print(written, markup=False, highlight=False, soft_wrap=True)
