"""Source 2: the truth over the model's own wrong answers (RedOne, section 3.3.1)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from megatron_redone.common.jsonl import read_jsonl_lenient
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.pairs.config import DrawnAnswersConfig, ModelErrorConfig
from megatron_redone.curation.pairs.pair import Pair
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import THINK_CLOSE
from megatron_redone.generation.base import GenerationEngine, SamplingParams
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.tasks.base import Row, Task
from megatron_redone.tasks.catalogue import get_task


@dataclass(frozen=True)
class Output:
    """One answer of a model.

    Attributes:
        text: as the model wrote it.
        logprob: mean log-probability of its tokens, None where it is not known.
        finished: whether it ended by itself.
    """

    text: str
    logprob: float | None = None
    finished: bool = True

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"text": self.text, "logprob": self.logprob, "finished": self.finished}


def sample_rows(
    config: DrawnAnswersConfig,
    rows: Sequence[Row],
    generator: GenerationEngine,
    template: ChatTemplate,
    seed: int,
    purpose: str = "model errors",
) -> list[list[Output]]:
    """`num_samples` answers to each row; none where the prompt is over the limit (`drop`). All ranks call it alike.

    A sample depends on seed, purpose, row and its number alone, not on the rows beside it.
    """
    whole = [template.prompt_ids(get_task(row.task).render(row)) for row in rows]
    prompts = {i: fitted for i, prompt in enumerate(whole) if (fitted := fit_prompt(prompt, config.generation))}
    params = SamplingParams.of(
        config.generation,
        template.stop_ids,
        num_samples=config.num_samples,
        seed=derive_seed(seed, purpose),
    )
    completions = generator.generate(list(prompts.values()), params, [rows[i].id for i in prompts])
    outputs: list[list[Output]] = [[] for _ in rows]
    for index, samples in zip(prompts, completions, strict=True):
        outputs[index] = [
            Output(
                template.tokenizer.decode(sample.token_ids).strip(),
                fmean(sample.logprobs),
                sample.finish_reason == "stop",
            )
            for sample in samples
        ]
    return outputs


@dataclass(frozen=True)
class WrongOutput:
    """A wrong answer and how often and how surely the model gave it."""

    text: str
    score: float
    count: int
    logprob: float | None
    parsed: bool


def wrong_outputs(config: ModelErrorConfig, row: Row, outputs: Sequence[Output]) -> list[WrongOutput]:
    """The different wrong answers of a row, those to take first in front.

    Answers that the parser reads alike are one; its text is that of the most probable of them.
    """
    task = get_task(row.task)
    finished = [output for output in outputs if output.finished and output.text.strip()]
    scores = task.score([output.text for output in finished], [row] * len(finished))
    groups: dict[str, list[tuple[Output, float, bool]]] = {}
    for output, score in zip(finished, scores, strict=True):
        if score.value < config.threshold and (score.parsed or config.format_failures):
            groups.setdefault(_canonical(task, row, output.text), []).append((output, score.value, score.parsed))
    found = []
    for members in groups.values():
        best, score_value, parsed = max(members, key=lambda member: (_sure(member[0].logprob), member[0].text))
        found.append(WrongOutput(best.text, score_value, len(members), best.logprob, parsed))
    by_count = config.keep == "most_frequent"
    return sorted(found, key=lambda wrong: (*_rank(wrong, by_count), wrong.text))


def _rank(wrong: WrongOutput, by_count: bool) -> tuple[float, float]:
    count, sure = -float(wrong.count), -_sure(wrong.logprob)
    return (count, sure) if by_count else (sure, count)


def _sure(logprob: float | None) -> float:
    return float("-inf") if logprob is None else logprob


def _canonical(task: Task, row: Row, text: str) -> str:
    parsed = task.parse(text, row)
    return json.dumps(["unread", text.strip()] if parsed is None else ["read", parsed], ensure_ascii=True)


def error_pairs(config: ModelErrorConfig, row: Row, outputs: Sequence[Output]) -> list[Pair]:
    """The truth over the row's wrong answers, at most `pairs_per_row` of them.

    The truth stands with its thought, and the prompt asks for one, only over an answer that has one, so that the two
    differ in more than form.
    """
    task = get_task(row.task)
    pairs = []
    for wrong in wrong_outputs(config, row, outputs)[: config.pairs_per_row]:
        asked = row if THINK_CLOSE in wrong.text else replace(row, rationale=None)
        pairs.append(
            Pair(
                messages=task.render(asked),
                chosen=task.target(asked),
                rejected=wrong.text,
                how="model_errors",
                source=row.source,
                row=row.id,
                task=row.task,
                language=row.language,
                chosen_reward=1.0,
                rejected_reward=wrong.score,
                detail={
                    "count": wrong.count,
                    "samples": len(outputs),
                    "logprob": wrong.logprob,
                    "keep": config.keep,
                    "kept_format": wrong.parsed,
                },
                origin=row,
            )
        )
    return pairs


def read_predictions(path: Path, rows: Mapping[str, Row]) -> Iterator[tuple[Row | None, list[Output], str | None]]:
    """(row, its outputs, problem) of each line of a file of predictions; a bad line has a problem and no row.

    Lines are `{"id": row, "output": text}` (as evaluation writes them) or `{"id": row, "outputs": [text, ...]}`; other
    keys are let pass. What the file says about scores is not read: the task's scorer decides.
    """
    seen: set[str] = set()
    for number, value, problem in read_jsonl_lenient(path):
        where = f"{path}:{number}"
        if value is None:
            yield None, [], problem
            continue
        name, texts = value.get("id"), value.get("outputs", [value.get("output")])
        if not isinstance(name, str) or name not in rows:
            problem = f"id={name!r} is no row of the data; give predictions for the split that is read"
        elif name in seen:
            problem = f"id {name!r} occurs twice; several answers of a row stand in one list under `outputs`"
        elif not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            problem = "no text under `output` and no list of texts under `outputs`"
        if problem is not None:
            yield None, [], f"{where}: {problem}"
            continue
        assert isinstance(name, str)
        seen.add(name)
        yield rows[name], [Output(text) for text in texts], None


def as_outputs(values: Iterable[Mapping[str, Any]]) -> list[Output]:
    """What `Output.to_json` wrote."""
    return [Output(value["text"], value["logprob"], value["finished"]) for value in values]
