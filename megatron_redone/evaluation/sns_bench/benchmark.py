"""SNS-Bench: the twelve files, what each is scored by, and how they make one score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from megatron_redone.evaluation.benchmark import Benchmark, BenchmarkTask, Metric, Row
from megatron_redone.evaluation.sns_bench.accuracy import CutAccuracy, PathAccuracy, yes_no
from megatron_redone.evaluation.sns_bench.cuts import label_cut
from megatron_redone.evaluation.sns_bench.item_sets import CommaListF1, HighlightF1
from megatron_redone.evaluation.sns_bench.levels import LEVELS, LevelF1
from megatron_redone.evaluation.sns_bench.mrc_complex import ExtractedOptions, read_options
from megatron_redone.evaluation.sns_bench.mrc_simple import ExtractedSentences
from megatron_redone.evaluation.sns_bench.prompts import PROMPTS
from megatron_redone.evaluation.sns_bench.python_literal import first_list, read_python_literal
from megatron_redone.evaluation.sns_bench.query_generation import Embed, QueryCloseness

NAME = "sns-bench"
PUBLISHED_EMBEDDER = "BAAI/bge-large-en-v1.5"
SCORE_RULE = (
    "the plain mean of the eight tasks, Taxonomy, Hashtag, QueryCorr and MRC each as the mean of its two files; "
    "how the authors merge them is not published"
)
NOTES = (
    "A model that was trained on a part of SNS-Bench is not comparable with published figures.",
    "Prompts are in words of our own unless a prompt set is given; published figures were made with the authors'.",
    "The official cuts spoil some gold answers too; the column of the gold answers is the most that can be reached.",
)
EMPTY_RESULT = "<Result>[]</Result>"


def sns_bench(embed: Embed | None, embedder: str) -> Benchmark:
    """The benchmark with QueryGen's embedder; None leaves its cosine out.

    Args:
        embed: texts to vectors.
        embedder: its name or path, for the settings and the notes; "" where QueryGen is not scored.
    """
    tasks = [
        _task("Taxonomy", "-single", CutAccuracy("accuracy", label_cut, _candidates), "content candidates", 32,
              options=lambda row: str(row["candidates"])),
        _task("Taxonomy", "-multiple", PathAccuracy(),
              "content candidates_primary candidates_secondary candidates_tertiary", 64, options=_levels_copied),
        _task("Hashtag", "-single", CutAccuracy("accuracy", label_cut, _candidates), "content candidates", 32,
              options=lambda row: str(row["candidates"])),
        _task("Hashtag", "-multiple", CommaListF1(), "content candidates", 256,
              options=lambda row: str(row["candidates"])),
        _task("QueryCorr", "-explain", yes_no(), "sentence1 sentence2", 16, check=_is_yes_or_no,
              options=lambda row: "Yes, No"),
        _task("QueryCorr", "-topic", LevelF1(), "content", 16, check=_is_level,
              options=lambda row: ", ".join(LEVELS)),
        _task("MRC", "-simple", ExtractedSentences(), "query content", 512, answer="texts", empty="[]",
              gold=lambda row: str([row["answer"]] if isinstance(row["answer"], str) else list(row["answer"]))),
        _task("MRC", "-complex", ExtractedOptions(), "content", 1024, empty=EMPTY_RESULT, check=_has_result),
        _task("NER", "", CommaListF1(), "question content", 64),
        _task("Gender", "", yes_no(), "content", 16, check=_is_yes_or_no, options=lambda row: "Yes, No"),
        _task("CHLW", "", HighlightF1(), "content", 128, empty="[]", check=_is_list,
              options=lambda row: first_list(str(row["content"]))),
        _task("QueryGen", "", QueryCloseness(embed), "content", 64, check=_is_not_empty),
    ]  # fmt: skip
    return Benchmark(
        name=NAME,
        tasks={task.file: task for task in tasks},
        score_rule=SCORE_RULE,
        notes=(*NOTES, *_note_on_embedder(embed, embedder)),
        settings={"embedder": embedder},
    )


def _task(
    name: str,
    part: str,
    metric: Metric,
    fields: str,
    max_new_tokens: int,
    answer: str = "text",
    empty: str = "",
    gold: Callable[[Row], str] = lambda row: str(row["answer"]),
    options: Callable[[Row], str] | None = None,
    check: Callable[[Row], str] | None = None,
) -> BenchmarkTask:
    file = f"Note-{name}{part}.json"
    return BenchmarkTask(
        file=file,
        group=f"Note-{name}",
        fields=fields.split(),
        metric=metric,
        prompt=PROMPTS[file],
        answer=("answer", answer),
        max_new_tokens=max_new_tokens,
        gold_text=gold,
        empty_text=empty,
        options_text=options,
        check=check,
    )


def _note_on_embedder(embed: Embed | None, embedder: str) -> tuple[str, ...]:
    if not embedder:
        return ()
    if embed is None:
        return (
            "No embedder: QueryGen's score is its ANLS alone, without the cosine; it and the benchmark's score are not "
            "comparable with published figures.",
        )
    if embedder.rstrip("/").split("/")[-1] == PUBLISHED_EMBEDDER.split("/")[-1]:
        return ()
    return (
        f"QueryGen's cosine is of {embedder}, not of {PUBLISHED_EMBEDDER}: QueryGen, and with it the benchmark's "
        "score, is not comparable with published figures.",
    )


def _candidates(row: Row) -> list[str]:
    return [candidate.strip() for candidate in str(row["candidates"]).split(",")]


def _levels_copied(row: Row) -> str:
    return " | ".join(str(row[f"candidates_{level}"]) for level in ("primary", "secondary", "tertiary"))


def _is_yes_or_no(row: Row) -> str:
    return "" if row["answer"] in ("Yes", "No") else f"answer {row['answer']!r} is neither Yes nor No"


def _is_not_empty(row: Row) -> str:
    return "" if row["answer"] else "answer is empty"


def _is_level(row: Row) -> str:
    return "" if row["answer"] in LEVELS else f"answer {row['answer']!r} is none of {', '.join(LEVELS)}"


def _is_list(row: Row) -> str:
    try:
        value: Any = read_python_literal(row["answer"])
    except ValueError as error:
        return f"answer is no list of texts ({error})"
    return "" if isinstance(value, list | tuple | str) else "answer is no list of texts"


def _has_result(row: Row) -> str:
    return "" if read_options(row["answer"]) is not None else "answer has no list of Option and Reason in <Result> tags"


METRICS: Mapping[str, Metric] = {file: task.metric for file, task in sns_bench(None, "none").tasks.items()}
"""By file, for whoever aggregates statistics of a scores.jsonl."""
