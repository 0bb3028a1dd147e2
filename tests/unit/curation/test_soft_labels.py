from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from megatron_redone.curation.config import SoftLabelConfig
from megatron_redone.curation.conversations import TrainingConversation, read_conversations, write_conversations
from megatron_redone.curation.soft_label_guards import Guards, too_long
from megatron_redone.curation.soft_labels import soft_labels
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.tasks.base import Row
from tests.scripted_generation import CONFIDENCE, ScriptedGenerator, number_in, sum_row, sums_template

ROWS = [sum_row(number) for number in range(12)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def label(template: ChatTemplate) -> Callable[..., tuple[list[TrainingConversation], dict[str, int]]]:
    def run(
        answer: Callable[[str, int], str], wanted: int = 5, rows: list[Row] = ROWS, seed: int = 0, **settings: object
    ) -> tuple[list[TrainingConversation], dict[str, int]]:
        config = SoftLabelConfig.model_validate({"num_candidates": 4, **settings})
        return soft_labels(config, rows, wanted, ScriptedGenerator(template, answer), template, seed)

    return run


def test_the_best_candidate_becomes_the_answer(label: Callable[..., tuple[list[TrainingConversation], object]]) -> None:
    kept, counts = label(lambda prompt, sample: str(number_in(prompt) + 1) if sample == 2 else "0")
    assert len(kept) == 5 and len({conversation.id for conversation in kept}) == 5
    for conversation in kept:
        *prompt, answer = conversation.messages
        assert answer == {"role": "assistant", "content": str(number_in(prompt[-1]["content"]) + 1)}
        assert conversation.origin == f"best of 4, quality {0.8 + 0.2 * CONFIDENCE:.3f}"
    assert counts == {
        "tried": 5, "kept": 5, "below_floor": 0, "guarded": 0, "over_long_prompts": 0,
        "passed_over_too_long": 0, "passed_over_repetitive": 0, "passed_over_near_duplicate": 0,
    }  # fmt: skip


def test_among_equals_the_first_candidate_is_taken(
    label: Callable[..., tuple[list[TrainingConversation], object]],
) -> None:
    kept, _ = label(lambda prompt, sample: f"{number_in(prompt) + 1}" + "." * (sample > 0), wanted=3)
    assert all(conversation.messages[-1]["content"].isdecimal() for conversation in kept)


def test_rows_below_the_floor_are_left_out_and_the_next_are_tried(
    label: Callable[..., tuple[list[TrainingConversation], dict[str, int]]],
) -> None:
    kept, counts = label(lambda prompt, sample: str(number_in(prompt) + 1) if number_in(prompt) % 2 else "x")
    assert {number_in(c.messages[-2]["content"]) % 2 for c in kept} == {1}
    assert counts["kept"] == len(kept) and counts["tried"] == counts["kept"] + counts["below_floor"] <= 10
    everything, _ = label(lambda prompt, sample: "x", floor=0.0)
    assert len(everything) == 5


def test_an_answer_that_did_not_end_is_worth_nothing(template: ChatTemplate) -> None:
    class Endless(ScriptedGenerator):
        def generate(self, prompts: object, params: SamplingParams, keys: object) -> list[list[Completion]]:
            cut = super().generate(prompts, params, keys)  # type: ignore[arg-type]
            return [[Completion(c.token_ids, c.logprobs, "length") for c in samples] for samples in cut]

    generator = Endless(template, lambda prompt, sample: str(number_in(prompt) + 1))
    kept, counts = soft_labels(SoftLabelConfig(), ROWS, 5, generator, template, 0)
    assert kept == [] and counts["below_floor"] == counts["tried"] == 10


def test_the_seed_chooses_the_rows_and_nothing_else(
    label: Callable[..., tuple[list[TrainingConversation], object]],
) -> None:
    def right(prompt: str, sample: int) -> str:
        return str(number_in(prompt) + 1)

    first = label(right, seed=1)
    assert first == label(right, seed=1, rows=ROWS[::-1])
    assert {c.id for c in first[0]} != {c.id for c in label(right, seed=2)[0]}
    assert label(right, wanted=0)[0] == []


def test_prompts_over_the_limit_are_counted(
    label: Callable[..., tuple[list[TrainingConversation], dict[str, int]]],
) -> None:
    rows = [*ROWS[:2], Row("long", "arithmetic", "en", {"question": "1 + " * 90 + "1"}, "91")]
    kept, counts = label(
        lambda prompt, sample: "x", rows=rows, floor=0.0, generation=GenerationConfig(max_prompt_tokens=150)
    )
    assert counts["over_long_prompts"] == 1 and {c.id for c in kept} == {row.id for row in ROWS[:2]}


# guards

Labelled = tuple[list[TrainingConversation], dict[str, int]]
FILLER = [f"{word}{number}" for number in range(9) for word in ("wool", "kayak", "seven", "bring")]


def long_answer(number: int, words: Sequence[str] = FILLER) -> str:
    """Right by the task's parser, which reads the last number, after other words."""
    return " ".join([*words, str(number)])


def test_a_much_longer_candidate_is_passed_over_for_the_next_best() -> None:
    lengths = [12, 10, 90, 11]
    assert too_long(90, lengths, 3.0)
    assert not too_long(30, [2, 2, 30, 2], 3.0)  # short answers may differ in length
    assert not too_long(90, lengths, None)
    assert not too_long(90, [80, 90, 85], 3.0)


def test_repetition_and_near_duplicates_are_seen() -> None:
    guards = Guards(SoftLabelConfig())
    first, other = " ".join(FILLER), " ".join(reversed(FILLER))
    assert guards.problem("go on " * 20) == "repetitive"
    assert guards.problem("spam") == "" and guards.problem(first) == ""
    guards.keep(first)
    guards.keep("spam")
    assert guards.problem(first + " indeed") == "near_duplicate"
    assert guards.problem(other) == "" and guards.problem("spam") == ""
    assert Guards(SoftLabelConfig(min_distinct=0.0)).problem("go on " * 20) == ""


@pytest.mark.parametrize("reason", ["too_long", "repetitive", "near_duplicate"])
def test_the_best_that_passes_is_taken_and_the_row_tells_why(
    reason: str, label: Callable[..., Labelled], template: ChatTemplate, tmp_path: Path
) -> None:
    def answer(prompt: str, sample: int) -> str:
        right = number_in(prompt) + 1
        if sample == 2:  # the most confident of equals is the first one: the bad candidate must come before it
            return str(right)
        words = {"too_long": FILLER * 3, "repetitive": ["wool"] * 40, "near_duplicate": FILLER}[reason]
        return long_answer(right, words) if sample == 0 else "0"

    settings = {"max_length_ratio": 2.0 if reason == "too_long" else None, "correctness_weight": 1.0}
    kept, counts = label(answer, wanted=3, **settings)
    assert counts["kept"] == 3
    first = 1 if reason == "near_duplicate" else 0  # the first of its kind is no duplicate
    assert counts[f"passed_over_{reason}"] == 3 - first
    for conversation in kept[first:]:
        number = number_in(conversation.messages[-2]["content"])
        assert conversation.messages[-1]["content"] == str(number + 1)
        told = conversation.provenance
        assert told["chosen"] == 2 and len(told["candidates"]) == 4
        assert [one["passed_over"] for one in told["candidates"]] == [reason, "", "", ""]
        assert [one["score"] for one in told["candidates"]] == [1.0, 0.0, 1.0, 0.0]
        assert "1 better or equal passed over" in told["why"]
    write_conversations(tmp_path / "set.jsonl", kept)
    assert list(read_conversations(tmp_path / "set.jsonl")) == kept


def test_a_row_all_of_whose_good_candidates_are_passed_over_is_left_out(label: Callable[..., Labelled]) -> None:
    kept, counts = label(lambda prompt, sample: long_answer(number_in(prompt) + 1, ["wool"] * 40), wanted=3)
    assert kept == [] and counts["guarded"] == counts["tried"] == 6 and counts["below_floor"] == 0


def test_a_line_of_a_gold_row_says_nothing_of_provenance(tmp_path: Path) -> None:
    plain = TrainingConversation("a", "arithmetic", [{"role": "assistant", "content": "1"}], "gold")
    assert "provenance" not in plain.to_json()
    told = dataclasses.replace(plain, provenance={"model": "0f"})
    assert told.to_json()["provenance"] == {"model": "0f"}
