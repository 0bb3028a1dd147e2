from __future__ import annotations

import pytest
from hypothesis import assume, given, strategies as st

from megatron_redone.curation.config import RefinementSetConfig
from megatron_redone.curation.refine import MeasuredRow, measure_difficulty, refinement_rows
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.tasks.base import Row
from tests.scripted_generation import ScriptedGenerator, number_in, sum_row, sums_template


def measured(rates: list[float], thinking: list[bool]) -> list[MeasuredRow]:
    return [
        MeasuredRow(Row(f"r{i}", "arithmetic", "en", {}, "1", rationale="because" if thought else None), rate)
        for i, (rate, thought) in enumerate(zip(rates, thinking, strict=True))
    ]


cases = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), max_size=24)


@given(cases, st.integers(1, 12), st.floats(0, 1), st.integers(0, 3))
def test_difficult_rows_first_with_the_share_of_rationales(
    found: list[tuple[float, bool]], wanted: int, share: float, seed: int
) -> None:
    all_rows = measured([rate for rate, _ in found], [thought for _, thought in found])
    config = RefinementSetConfig(num_rows=wanted, rationale_share=share)
    chosen = refinement_rows(config, all_rows, seed)
    assert len({row.id for row in chosen}) == len(chosen) <= wanted
    for thought in (True, False):
        kind = [m for m in all_rows if (m.row.rationale is not None) == thought]
        ids = {row.id for row in chosen if (row.rationale is not None) == thought}
        inside = [m.rank for m in kind if m.row.id in ids]
        outside = [m.rank for m in kind if m.row.id not in ids]
        assert not inside or not outside or max(inside) <= min(outside)
    rank = {m.row.id: m.rank for m in all_rows}
    assert [rank[row.id] for row in chosen] == sorted(rank[row.id] for row in chosen)
    with_thought = sum(row.rationale is not None for row in chosen)
    assert with_thought == min(round(wanted * share), sum(thought for _, thought in found))


def test_the_order_is_differing_then_never_then_always_solved() -> None:
    ranks = [m.rank for m in measured([0.1, 0.9, 0.0, 1.0], [False] * 4)]
    assert ranks == sorted(ranks)


@given(cases, st.integers(0, 3))
def test_the_order_of_the_file_does_not_matter(found: list[tuple[float, bool]], seed: int) -> None:
    assume(found)
    all_rows = measured([rate for rate, _ in found], [thought for _, thought in found])
    config = RefinementSetConfig(num_rows=6, rationale_share=0.5)
    assert refinement_rows(config, all_rows, seed) == refinement_rows(config, all_rows[::-1], seed)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


def test_difficulty_is_the_mean_score_of_the_samples(template: ChatTemplate) -> None:
    def answer(prompt: str, sample: int) -> str:  # right in as many samples as the number says
        number = number_in(prompt)
        return str(number + 1) if sample < number else "0"

    config = RefinementSetConfig(num_rows=1, num_samples=4)
    found = measure_difficulty(config, [sum_row(n) for n in range(5)], ScriptedGenerator(template, answer), template, 0)
    assert [(m.row.id, m.pass_rate) for m in found] == [(f"arithmetic-{n}", n / 4) for n in range(5)]


def test_prompts_over_the_limit_are_left_out_or_cut(template: ChatTemplate) -> None:
    long = Row("long", "arithmetic", "en", {"question": "1 + " * 90 + "1"}, "91")
    generator = ScriptedGenerator(template, lambda prompt, sample: "2")
    ids = {}
    for policy in ("drop", "truncate"):
        generation = GenerationConfig.model_validate({"max_prompt_tokens": 150, "over_long": policy})
        config = RefinementSetConfig(num_rows=1, num_samples=2, generation=generation)
        found = measure_difficulty(config, [long, sum_row(1)], generator, template, 0)
        ids[policy] = [m.row.id for m in found]
    assert ids == {"drop": ["arithmetic-1"], "truncate": ["long", "arithmetic-1"]}
