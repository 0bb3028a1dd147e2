from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from megatron_redone.curation.pairs.config import OptionOrderConfig
from megatron_redone.curation.pairs.option_order import option_pairs, wrong_answers
from megatron_redone.curation.pairs.pair import Pair
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import TASKS, get_task
from tests.unit.tasks.sample_rows import CASES, sample_rows

WITH_OPTIONS = [
    (name, language)
    for name, language in CASES
    if TASKS[name].options is not None
    and isinstance(TASKS[name].gold(sample_rows(name, language)[0]), str | int | list)
]
WORDS = st.lists(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=6, unique=True)
NOTE = {"title": "a walk", "content": "by the sea"}


def pairs_of(row: Row, choice: str = "seeded", per_row: int = 1, seed: int = 0) -> list[Pair]:
    config = OptionOrderConfig.model_validate({"choice": choice, "pairs_per_row": per_row})
    return list(option_pairs(config, [row], seed))


def check(row: Row, pairs: list[Pair]) -> None:
    """What must hold of every pair of a row: the truth over something that the task reads and finds wrong."""
    task = get_task(row.task)
    for pair in pairs:
        right, wrong = task.score([pair.chosen, pair.rejected], [row, row])
        assert (right.value, right.parsed) == (1.0, True) == (pair.chosen_reward, True)
        assert wrong.parsed and wrong.value < 1.0 and wrong.value == pair.rejected_reward
        assert not pair.same_answers and not pair.worse_chosen
        prompt = task.render(replace(row, rationale=None))
        assert (pair.messages, pair.row, pair.task, pair.source) == (prompt, row.id, row.task, row.source)
    assert len({pair.rejected for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(("task", "language"), WITH_OPTIONS)
def test_every_task_with_options_gives_pairs(task: str, language: str) -> None:
    for row in sample_rows(task, language):
        pairs = pairs_of(row, per_row=3)
        assert pairs
        check(row, pairs)
        assert all("<think>" not in text for pair in pairs for text in (pair.chosen, pair.rejected))


@given(WORDS, st.data(), st.sampled_from(["seeded", "nearest"]), st.integers(0, 3))
def test_one_option_of_a_list(options: list[str], data: st.DataObject, choice: str, seed: int) -> None:
    gold = data.draw(st.sampled_from(options))
    row = Row("r", "hashtag_single", "en", {**NOTE, "candidates": options}, gold, source="made")
    if get_task(row.task).validate(row):
        return
    pairs = pairs_of(row, choice, len(options), seed)
    check(row, pairs)
    assert {pair.rejected for pair in pairs} == set(options) - {gold}
    if choice == "nearest":
        distances = [abs(options.index(pair.rejected) - options.index(gold)) for pair in pairs]
        assert distances == sorted(distances) == [pair.detail["distance"] for pair in pairs]


@given(WORDS, st.data(), st.sampled_from(["hashtag_multiple", "highlight_words"]), st.integers(0, 3))
def test_several_options_of_a_list(options: list[str], data: st.DataObject, task: str, seed: int) -> None:
    smallest = 0 if get_task(task).allow_empty_answer else 1
    gold = data.draw(st.lists(st.sampled_from(options), min_size=smallest, max_size=len(options), unique=True))
    fields = {**NOTE, "candidates": options} if task == "hashtag_multiple" else {"comment": "x", "candidates": options}
    row = Row("r", task, "en", fields, gold)
    if get_task(task).validate(row):
        return
    pairs = pairs_of(row, per_row=3, seed=seed)
    check(row, pairs)
    nothing_wrong = gold == options and len(gold) == 1 and not get_task(task).allow_empty_answer
    assert bool(pairs) != nothing_wrong
    if pairs and set(gold) != set(options) and gold:
        read = get_task(task).parse(pairs[0].rejected, row)
        assert read is not None and len(set(read) ^ set(gold)) == 2  # one item is another


@given(st.lists(WORDS, min_size=3, max_size=3), st.data(), st.sampled_from(["seeded", "nearest"]))
def test_one_option_of_each_list_is_wrong_in_one_of_them(
    levels: list[list[str]], data: st.DataObject, choice: str
) -> None:
    gold = [data.draw(st.sampled_from(level)) for level in levels]
    names = ("candidates_primary", "candidates_secondary", "candidates_tertiary")
    row = Row("r", "note_taxonomy_multiple", "en", {**NOTE, **dict(zip(names, levels, strict=True))}, gold)
    task = get_task(row.task)
    if task.validate(row):
        return
    pairs = pairs_of(row, choice, 4)
    check(row, pairs)
    assert bool(pairs) == any(len(level) > 1 for level in levels)
    for pair in pairs:
        read = task.parse(pair.rejected, row)
        assert read is not None and sum(a != b for a, b in zip(read, gold, strict=True)) == 1


def test_nearest_takes_the_next_level_of_a_scale() -> None:
    for gold, nearest in ((-1, {"0"}), (1, {"0", "2"}), (3, {"2"})):
        row = Row("r", "query_note_relevance", "en", {"query": "q", "note": "n"}, gold)
        (pair,) = pairs_of(row, "nearest")
        assert pair.rejected in nearest
        assert [p.rejected for p in pairs_of(row, "nearest", 4)][-1] in {"-1", "3"} - {str(gold)}


def test_a_ranking_gets_two_letters_changed() -> None:
    row = next(row for row in sample_rows("click_ranking", "en"))
    pairs = pairs_of(row, per_row=9)
    check(row, pairs)
    read = [get_task("click_ranking").parse(pair.rejected, row) or [] for pair in pairs]
    assert len(read) == 3 and all(sum(a != b for a, b in zip(r, row.answer, strict=True)) == 2 for r in read)


def test_the_seed_chooses_and_other_rows_do_not() -> None:
    row = Row("r", "hashtag_single", "en", {**NOTE, "candidates": list("abcdefgh")}, "a")
    assert {pairs_of(row, seed=seed)[0].rejected for seed in range(30)} == set("bcdefgh")
    other = replace(row, id="other")
    together = list(option_pairs(OptionOrderConfig(), [other, row], 5))
    assert together[1] == pairs_of(row, seed=5)[0]


def test_only_the_named_tasks_and_none_without_options() -> None:
    rows = [row for name, language in CASES if language == "en" for row in sample_rows(name, "en")]
    config = OptionOrderConfig(tasks=("note_security", "arithmetic"))
    assert {pair.task for pair in option_pairs(config, rows, 0)} == {"note_security"}


def test_options_that_the_parser_takes_for_one_another_give_no_pair() -> None:
    row = Row("r", "hashtag_single", "en", {**NOTE, "candidates": ["Tea", "tea.", "TEA"]}, "Tea")
    assert len(wrong_answers(get_task(row.task), row)) == 2
    assert pairs_of(row) == []


def test_the_prompt_of_a_row_with_a_rationale_asks_for_no_thought() -> None:
    (row,) = [row for row in sample_rows("hashtag_single", "en") if row.rationale]
    (pair,) = pairs_of(row)
    task = get_task(row.task)
    assert list(pair.messages) == task.render(replace(row, rationale=None)) != task.render(row)
