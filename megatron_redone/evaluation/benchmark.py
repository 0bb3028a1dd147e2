"""What a benchmark of files is: tasks with rows, prompts and official metrics, and how they make one score.

The metrics here are those of published benchmarks, with their official cuts and quirks. They compare models with
published figures and are never a reward: rewards are the scorers of the task catalogue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from megatron_redone.scoring.base import Score

Row = Mapping[str, Any]
"""One object of a benchmark file; its place in the file, from 0, is its index."""
Sums = Mapping[str, npt.NDArray[np.float64]]
"""By statistic: its sums over the items of each resample, shape [resamples]."""
Metrics = dict[str, npt.NDArray[np.float64]]
"""By metric: its value in 0..100 in each resample, shape [resamples]; `score` is the one that counts."""


def statistic(sums: Sums, name: str) -> npt.NDArray[np.float64]:
    """The sums of one statistic; zeros where no item has it."""
    if name in sums:
        return sums[name]
    return np.zeros_like(next(iter(sums.values()))) if sums else np.zeros(1)


class Metric(Protocol):
    """An official metric of one or more tasks: per answer its statistics, and the score from their sums."""

    @property
    def name(self) -> str:
        """What is computed, in a few words, for tables."""
        ...

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """One score an answer, in order: a value in 0..1 for itself, and the statistics that `aggregate` sums.

        A statistic `official_errors` counts answers at which the official code would stop with an error.
        """
        ...

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """The official values from the sums over `num_items` answers. A statistic that is absent is 0."""
        ...


@dataclass(frozen=True)
class Prompt:
    """A prompt in our words; `{name}` stands for a field of the row."""

    system: str
    user: str

    @property
    def sha256(self) -> str:
        """What tells two prompts apart, in 64 hexadecimal digits."""
        return hashlib.sha256(f"{self.system}\0{self.user}".encode()).hexdigest()


@dataclass(frozen=True)
class BenchmarkTask:
    """One file of a benchmark.

    Attributes:
        file: its name in the folder, and the task's name everywhere.
        group: the task of the benchmark that it is a part of.
        fields: the fields that a row must have, all texts.
        answer: the field of the gold answer, and its type.
        metric: the official metric.
        prompt: what a model is asked.
        max_new_tokens: room for an answer, in tokens.
        gold_text: the gold answer as a model would write it.
        empty_text: the answer that says "nothing" in the asked format.
        options_text: all options of a row in the asked format, where it has options.
        check: what is wrong with the answer of a row, "" for nothing.
        shown: by name what a prompt can show of a row; its fields by default.
    """

    file: str
    group: str
    fields: Sequence[str]
    metric: Metric
    prompt: Prompt
    answer: tuple[str, str] = ("answer", "text")
    max_new_tokens: int = 64
    gold_text: Callable[[Row], str] = field(default=lambda row: str(row["answer"]))
    empty_text: str = ""
    options_text: Callable[[Row], str] | None = None
    check: Callable[[Row], str] | None = None
    shown: Mapping[str, Callable[[Row], str]] = field(default_factory=dict)

    @property
    def prompt_fields(self) -> Mapping[str, Callable[[Row], str]]:
        """By name what `{name}` in a prompt becomes."""
        return self.shown or {name: partial(_field, name) for name in self.fields}


def _field(name: str, row: Row) -> str:
    return str(row[name])


@dataclass(frozen=True)
class Benchmark:
    """Tasks by file name, and how their scores make one.

    Attributes:
        score_rule: how the benchmark's score comes from the tasks, in a sentence.
        notes: what must be known beside its numbers.
        settings: what its metrics were built with, for example the embedder.
    """

    name: str
    tasks: Mapping[str, BenchmarkTask]
    score_rule: str
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def groups(self, scores: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
        """By group the plain mean of the scores of its tasks that are there."""
        parts: dict[str, list[npt.NDArray[np.float64]]] = {}
        for file, task in self.tasks.items():
            if file in scores:
                parts.setdefault(task.group, []).append(scores[file])
        return {group: np.mean(of_group, axis=0) for group, of_group in parts.items()}
