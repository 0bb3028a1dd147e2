from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.curation.conversations import (
    balanced,
    gold_conversation,
    read_conversations,
    write_conversations,
)
from megatron_redone.tasks.base import THOUGHT_REQUESTS, Row
from megatron_redone.tasks.catalogue import TASKS, get_task
from tests.scripted_generation import sum_row
from tests.unit.tasks.sample_rows import SCORED_CASES, sample_rows

made_rows = st.lists(
    st.tuples(st.sampled_from(["note_security", "query_intent"]), st.sampled_from(["en", "zh"])), max_size=30
).map(lambda pairs: [Row(f"r{i}", task, language, {}, "") for i, (task, language) in enumerate(pairs)])


@pytest.mark.parametrize(("task", "language"), SCORED_CASES)
def test_the_gold_answer_of_every_task_earns_full_marks(task: str, language: str) -> None:
    for row in sample_rows(task, language):
        conversation = gold_conversation(row)
        assert [message["role"] for message in conversation.messages][-2:] == ["user", "assistant"]
        answer = conversation.messages[-1]["content"]
        assert get_task(task).score([answer], [row])[0].value == 1.0
        assert (conversation.id, conversation.task, conversation.origin) == (row.id, task, "gold")


def test_a_rationale_stands_before_the_answer_as_a_thought() -> None:
    row = Row("r", "arithmetic", "en", {"question": "1 + 1"}, "2", rationale="one and one")
    question, answer = gold_conversation(row).messages[-2:]
    content = answer["content"]
    assert question["content"].endswith(THOUGHT_REQUESTS["en"])
    assert content.startswith("<think>") and content.index("one and one") < content.index("</think>")
    assert TASKS["arithmetic"].score([content], [row])[0].value == 1.0


@given(made_rows, st.integers(1, 12), st.integers(0, 3))
def test_balanced_takes_the_same_number_of_each_task_evenly_over_languages(
    rows: list[Row], per_task: int, seed: int
) -> None:
    chosen = balanced(rows, per_task, seed)
    assert len({row.id for row in chosen}) == len(chosen)
    have = Counter(row.task for row in rows)
    taken = Counter(row.task for row in chosen)
    assert taken == Counter({task: min(count, per_task) for task, count in have.items()})
    languages = Counter((row.task, row.language) for row in rows)
    taken_languages = Counter((row.task, row.language) for row in chosen)
    for task in have:
        left = {lang: languages[task, lang] - taken_languages[task, lang] for lang in ("en", "zh")}
        if all(left.values()):
            assert abs(taken_languages[task, "en"] - taken_languages[task, "zh"]) <= 1
    assert chosen == balanced(rows[::-1], per_task, seed)


@given(made_rows, st.integers(0, 3))
def test_without_a_bound_all_rows_are_taken_in_an_order_of_the_seed(rows: list[Row], seed: int) -> None:
    assert sorted(row.id for row in balanced(rows, None, seed)) == sorted(row.id for row in rows)
    assert balanced(rows, None, seed) == balanced(rows[::-1], None, seed)


def test_what_is_written_reads_back_and_a_line_that_lacks_a_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    conversations = [gold_conversation(sum_row(number)) for number in range(3)]
    assert write_conversations(path, conversations) == 3
    assert list(read_conversations(path)) == conversations
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": "x", "messages": []}\n')
    with pytest.raises(DataError, match=r"conversations\.jsonl:4: lacks origin, task; build the set again"):
        list(read_conversations(path))
