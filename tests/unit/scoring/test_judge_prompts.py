from __future__ import annotations

import pytest

from megatron_redone.scoring.judge_prompts import pairwise_messages, pointwise_messages, read_score, read_verdict

PROMPT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "second"},
]


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        ("A is kinder.\nVerdict: A", "first"),
        ("verdict: b\n\n", "second"),
        ("Both do.\n  Verdict : Tie  ", "tie"),
        ("理由。\n结论：A", "first"),
        ("结论：平局", "tie"),
        ("<think>Verdict: A? no.\nVerdict: A</think>\nB is right.\nVerdict: B", "second"),
        ("Verdict: A\nwhich I repeat:\nVerdict: A", "first"),
        ("Verdict: A\nor rather\nVerdict: B", None),  # two verdicts
        ("Verdict: A\nbecause it is short", None),  # not the last line
        ("I say Verdict: A", None),  # not a line of its own
        ("Verdict: **A**", None),
        ("Verdict: C", None),
        ("<think>Verdict: A\nVerdict: A", None),  # the thought is not closed
        ("A", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_from_the_last_line_alone(reply: str, shown: str | None) -> None:
    assert read_verdict(reply) == shown


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("fine\nScore: 7", 7),
        ("分数：10", 10),
        ("Score: 0", None),
        ("Score: 11", None),
        ("Score: 7.5", None),
        ("7", None),
    ],
)
def test_a_score_is_a_whole_number_from_one_to_ten(reply: str, score: int | None) -> None:
    assert read_score(reply) == score


@pytest.mark.parametrize(("language", "verdict"), [("en", "Verdict: A"), ("zh", "结论：A")])
def test_the_question_shows_the_conversation_and_the_answers_in_order(language: str, verdict: str) -> None:
    system, user = pairwise_messages(PROMPT, "one", "two", language)
    assert (system["role"], user["role"]) == ("system", "user") and verdict in system["content"]
    text = user["content"]
    assert [text.index(part) for part in ("be kind", "first", "yes", "second", "<A>\none", "<B>\ntwo")] == sorted(
        text.index(part) for part in ("be kind", "first", "yes", "second", "<A>\none", "<B>\ntwo")
    )
    # the asked forms are ones that can be read
    assert read_verdict(system["content"].splitlines()[-1]) == "tie"
    single, question = pointwise_messages(PROMPT, "one", language)
    assert read_score(single["content"].splitlines()[-1]) == 6 and "<answer>\none" in question["content"]
