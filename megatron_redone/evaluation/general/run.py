"""General-Bench on a model: which tasks have data, the harness's run over them, and the result.

The harness loads tasks, builds prompts, asks the model and calls the metrics. Its `simple_evaluate` is not used,
because it sets the seeds of the whole process; its `evaluate` draws nothing but few-shot examples, which have a seed of
their own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from megatron_redone.common.errors import InputError
from megatron_redone.common.logging import get_logger
from megatron_redone.evaluation.general.benchmarks import TASKS_FOLDER, GeneralBenchmark, Selection
from megatron_redone.evaluation.general.language_model import EngineLanguageModel
from megatron_redone.evaluation.results import ItemScore
from megatron_redone.scoring.unit_tests import check_sandbox

FEWSHOT_SEED = 1234
"""The harness's default."""


@dataclass(frozen=True)
class GeneralSettings:
    """How prompts are built.

    Attributes:
        limit: only the first rows of each task; None for all.
        num_fewshot: examples before each question, where a task has examples; None leaves it to the task (0 for ours).
        chat: whether prompts are chats in the model's template; examples are turns of it.
        system: a system message before all else, "" for none.
    """

    limit: int | None = None
    num_fewshot: int | None = None
    chat: bool = True
    system: str = ""


@dataclass
class TaskOutcome:
    """One task.

    Attributes:
        score: 0..100, the metric that counts.
        metrics: all metrics, 0..1.
        items: a line of scores.jsonl for each row.
        outputs: by row its index, prompt, answer and gold answer, to be read.
    """

    name: str
    metric: str
    score: float
    metrics: dict[str, float]
    items: list[ItemScore]
    outputs: list[dict[str, Any]] = field(default_factory=list)
    num_fewshot: int = 0


def missing_benchmarks(selection: Selection, data: Path) -> dict[str, str]:
    """By title the benchmarks of the selection that cannot be run, with the reason; others are run."""
    missing = {}
    for benchmark in selection.benchmarks:
        if not benchmark.file:
            missing[benchmark.title] = f"no task for it: {benchmark.why_not}"
        elif not (data / benchmark.file).is_file():
            missing[benchmark.title] = f"no file {benchmark.file} in the folder of data"
    return missing


def run_general_bench(
    model: EngineLanguageModel, selection: Selection, data: Path, settings: GeneralSettings
) -> tuple[dict[str, TaskOutcome], dict[str, str]]:
    """By task what came out, in the order of the selection; and by benchmark why it is missing.

    Raises:
        InputError: nothing is left to run, or no examples for a task that needs them. DataError: a bad row.
        SandboxUnavailableError: programs are to be judged and no sandbox is safe here; told before a model is asked.
    """
    missing = missing_benchmarks(selection, data)
    runnable = [benchmark for benchmark in selection.benchmarks if benchmark.title not in missing]
    with _quiet_harness():
        tasks = _our_tasks(runnable, data)
        tasks |= _harness_tasks(selection.harness_tasks, missing)
        if not tasks:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise InputError(f"{data}: no task can be run ({reasons}); see docs/general_bench.md for the files")
        if any(benchmark.metric == "pass_at_1" for benchmark in runnable):
            check_sandbox()
        _set_fewshot(tasks, settings.num_fewshot)
        results = _evaluate(model, tasks, settings)
    metrics = {benchmark.name: benchmark.metric for benchmark in runnable}
    return {name: _outcome(name, tasks[name], results, metrics.get(name)) for name in tasks}, missing


def _our_tasks(benchmarks: Sequence[GeneralBenchmark], data: Path) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    if not benchmarks:
        return {}
    manager = TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False, metadata={"data": str(data)})
    loaded = manager.load([benchmark.name for benchmark in benchmarks])["tasks"]
    return {benchmark.name: loaded[benchmark.name] for benchmark in benchmarks}


def _harness_tasks(names: Sequence[str], missing: dict[str, str]) -> dict[str, Any]:
    """Tasks that come with the harness; their rows lie in the cache of the `datasets` library or are missing.

    Raises:
        InputError: an unknown name, or a task that runs a model's code in this process.
    """
    if not names:
        return {}
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    tasks: dict[str, Any] = {}
    for name in names:
        if name not in manager.all_tasks:
            raise InputError(f"lm-evaluation-harness has no task {name!r}; `lm-eval ls tasks` lists them")
        try:
            loaded = manager.load([name])["tasks"]
        except (OSError, ValueError, RuntimeError, ImportError) as error:  # no rows on this machine, or a part of it
            missing[name] = f"the harness cannot load it without a network: {str(error).splitlines()[0][:200]}"
            continue
        if unsafe := [task for task in loaded if getattr(loaded[task], "UNSAFE_CODE", False)]:
            raise InputError(f"{unsafe[0]}: this task of the harness runs a model's code in this process; use ours")
        tasks |= loaded
    return tasks


def _set_fewshot(tasks: Mapping[str, Any], num_fewshot: int | None) -> None:
    for name, task in tasks.items():
        count = num_fewshot if num_fewshot is not None else task.get_config("num_fewshot") or 0
        if count and num_fewshot is not None and not _has_examples(task):
            get_logger("evaluate").warning("%s has no examples: it is asked without", name)
            count = 0
        task.set_config(key="num_fewshot", value=count)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)


def _has_examples(task: Any) -> bool:
    split = task.config.fewshot_split
    return split is not None and bool(len(task.dataset[split]))


def _evaluate(model: EngineLanguageModel, tasks: Mapping[str, Any], settings: GeneralSettings) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    results: dict[str, Any] = evaluate(
        lm=model,
        task_dict={"tasks": dict(tasks), "groups": {}},
        limit=settings.limit,
        bootstrap_iters=0,
        system_instruction=settings.system or None,
        apply_chat_template=settings.chat,
        fewshot_as_multiturn=settings.chat,
    )
    return results


def _outcome(name: str, task: Any, results: Mapping[str, Any], metric: str | None) -> TaskOutcome:
    """The result of one task; where it is the harness's own, its first metric counts."""
    found: dict[str, float] = {}
    for key, value in results["results"][name].items():
        label, _, filter_name = key.partition(",")
        if isinstance(value, int | float) and filter_name and not label.endswith("_stderr"):
            found.setdefault(label, float(value))
    counted = metric or next(iter(found))
    samples = results["samples"][name]
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    return TaskOutcome(
        name=name,
        metric=counted,
        score=100 * found[counted],
        metrics=found,
        items=[_item(name, sample, counted) for sample in first],
        outputs=[_output(sample) for sample in first],
        num_fewshot=int(task.get_config("num_fewshot") or 0),
    )


def _item(task: str, sample: Mapping[str, Any], metric: str) -> ItemScore:
    """The row's line of scores.jsonl; a metric of several numbers (corpus BLEU) gives each as a statistic."""
    statistics: dict[str, float] = {}
    for name in sample["metrics"]:
        value = sample[name]
        if isinstance(value, Mapping):
            statistics |= {str(part): float(number) for part, number in value.items()}
        elif isinstance(value, list):
            statistics |= {name: float(sum(value)), f"{name}_asked": float(len(value))}
        elif isinstance(value, bool | int | float):
            statistics[name] = float(value)
    value = statistics.get(metric, statistics.get("sentence_bleu", 0.0))
    parsed = all(getattr(answer, "parsed", True) for answer in sample["filtered_resps"])
    return ItemScore(task, int(sample["doc_id"]), min(max(value, 0.0), 1.0), parsed, statistics)


def _output(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked and answered; of choices the log-likelihood of each."""
    answers = [list(map(_plain, responses)) for responses in sample["resps"]]
    reasons = [getattr(answer, "reason", "") for answer in sample["filtered_resps"]]
    return {
        "index": int(sample["doc_id"]),
        "prompt": str(sample["arguments"][0][0]),
        "output": answers[0][0] if len(answers) == 1 else "\n".join(str(part) for part in answers),
        "gold": str(sample["target"]),
        "reason": "; ".join(filter(None, reasons)) or _told(sample),
    }


def _told(sample: Mapping[str, Any]) -> str:
    """The metrics of a row in words: `math_match 0`, `instruction_level_strict 1 of 3`."""
    parts = []
    for name in sample["metrics"]:
        value = sample[name]
        if isinstance(value, list):
            parts.append(f"{name} {sum(value)} of {len(value)}")
        elif isinstance(value, int | float):
            parts.append(f"{name} {value:.2g}")
    return ", ".join(parts)


def _plain(response: Any) -> Any:
    return response if isinstance(response, str | list) else list(response)


def mean_of_benchmarks(scores: Mapping[str, float]) -> float:
    """The plain mean: the papers print one average and do not say how it is formed."""
    return fmean(scores.values())


@contextmanager
def _quiet_harness() -> Iterator[None]:
    """The harness logs each task at length; only its errors are shown, and its bars not at all."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
