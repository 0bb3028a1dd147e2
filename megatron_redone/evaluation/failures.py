"""Rows to read: those of each task that lost the most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from megatron_redone.common.seeding import derive_seed
from megatron_redone.evaluation.benchmark import Benchmark, Prompt
from megatron_redone.evaluation.benchmark_scoring import Answered
from megatron_redone.evaluation.prompt_set import conversation
from megatron_redone.evaluation.results import Failure
from megatron_redone.scoring.base import Score

FAILURES_PER_TASK = 10
MAX_CHARACTERS = 20_000


def failures(
    benchmark: Benchmark,
    answered: Mapping[str, Answered],
    scores: Mapping[str, Sequence[Score]],
    prompts: Mapping[str, Prompt],
) -> list[Failure]:
    """Ten rows a task that earned the least; among equals a choice by hash, the same for every model.

    Texts of more than 20,000 characters are cut.
    """
    found = []
    for file, of_file in scores.items():
        lost = [index for index, score in enumerate(of_file) if score.value < 1.0]
        lost.sort(key=lambda index: (of_file[index].value, derive_seed("failures", file, index)))
        task = benchmark.tasks[file]
        for index in lost[:FAILURES_PER_TASK]:
            row = answered[file].rows[index]
            turns = conversation(prompts[file], task, row)
            found.append(
                Failure(
                    file=file,
                    index=index,
                    value=round(of_file[index].value, 4),
                    reason=of_file[index].reason,
                    prompt=_cut("\n\n".join(turn["content"] for turn in turns)),
                    output=_cut(answered[file].outputs[index]),
                    gold=_cut(task.gold_text(row)),
                )
            )
    return found


def _cut(text: str) -> str:
    more = len(text) - MAX_CHARACTERS
    return text if more <= 0 else f"{text[:MAX_CHARACTERS]} ... ({more} more characters)"
