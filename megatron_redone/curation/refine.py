"""The refinement set: rows ordered by how hard they are for the current model (RedOne 2.0, stage 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.config import RefinementSetConfig
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import GenerationEngine, SamplingParams
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import check_scorable, get_task

DIFFICULTY = "difficulty.jsonl"
"""`{"id": row, "pass_rate": mean score of the model's samples}`, a line for each row that was measured."""


@dataclass(frozen=True)
class MeasuredRow:
    """A row with the mean score of the model's own samples."""

    row: Row
    pass_rate: float

    @property
    def rank(self) -> tuple[int, float]:
        """Order of choice: differing outcomes first, the harder the sooner; then never solved; then always."""
        if 0.0 < self.pass_rate < 1.0:
            return (0, self.pass_rate)
        return (1, 0.0) if self.pass_rate == 0.0 else (2, 0.0)


def measure_difficulty(
    config: RefinementSetConfig,
    rows: Sequence[Row],
    generator: GenerationEngine,
    template: ChatTemplate,
    seed: int,
) -> list[MeasuredRow]:
    """Mean score of `num_samples` responses to each row; rows whose prompt is over the limit (`drop`) are left out."""
    check_scorable(rows)
    whole = [template.prompt_ids(get_task(row.task).render(row)) for row in rows]
    prompts = {i: fitted for i, prompt in enumerate(whole) if (fitted := fit_prompt(prompt, config.generation))}
    params = SamplingParams.of(
        config.generation,
        template.stop_ids,
        num_samples=config.num_samples,
        seed=derive_seed(seed, "difficulty"),
    )
    completions = generator.generate(list(prompts.values()), params, [rows[i].id for i in prompts])
    measured = []
    for index, samples in zip(prompts, completions, strict=True):
        row = rows[index]
        texts = [template.tokenizer.decode(sample.token_ids) for sample in samples]
        scores = get_task(row.task).score(texts, [row] * len(texts))
        measured.append(MeasuredRow(row, fmean(score.value for score in scores)))
    return measured


def refinement_rows(config: RefinementSetConfig, measured: Sequence[MeasuredRow], seed: int) -> list[Row]:
    """Up to `num_rows` rows in curriculum order (`MeasuredRow.rank`), `rationale_share` of them with a rationale if
    there are as many: of each kind the first in that order are taken."""
    ordered = sorted(measured, key=lambda m: (m.rank, derive_seed(seed, "refine", m.row.id)))
    with_rationale = [m.row for m in ordered if m.row.rationale is not None]
    without = [m.row for m in ordered if m.row.rationale is None]
    wanted = min(round(config.num_rows * config.rationale_share), len(with_rationale))
    chosen = {row.id for row in with_rationale[:wanted] + without[: config.num_rows - wanted]}
    return [m.row for m in ordered if m.row.id in chosen]


def write_difficulty(path: Path, measured: Sequence[MeasuredRow]) -> None:
    """Writes what a curriculum reads."""
    write_jsonl(path, ({"id": one.row.id, "pass_rate": one.pass_rate} for one in measured))


def curriculum_ranks(path: Path, order: Literal["hard_first", "easy_first"]) -> dict[str, int]:
    """Id of a row -> its place; equally hard rows share one.

    Hard first: differing outcomes, the harder the sooner; then never solved; then always. Easy first: differing
    outcomes, the easier the sooner; then always solved; then never.

    Raises:
        DataError: a line without an id, or without a pass rate in 0..1.
    """
    keys: dict[str, tuple[int, float]] = {}
    for number, line in read_jsonl(path):
        name, rate = line.get("id"), line.get("pass_rate")
        if (
            not isinstance(name, str)
            or isinstance(rate, bool)
            or not isinstance(rate, int | float)
            or not 0 <= rate <= 1
        ):
            raise DataError(f"{path}:{number}: id={name!r}, pass_rate={rate!r}; give a text and a number in 0..1")
        mixed = 0.0 < rate < 1.0
        if order == "hard_first":
            keys[name] = (0, rate) if mixed else (1 if rate == 0.0 else 2, 0.0)
        else:
            keys[name] = (0, -rate) if mixed else (1 if rate == 1.0 else 2, 0.0)
    places = {key: place for place, key in enumerate(sorted(set(keys.values())))}
    return {name: places[key] for name, key in keys.items()}
