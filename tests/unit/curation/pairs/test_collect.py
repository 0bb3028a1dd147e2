from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.held_out import HeldOut
from megatron_redone.curation.pairs.checks import PromptWriter
from megatron_redone.curation.pairs.collect import Collector, Entry, in_turn, length_balanced, summary
from megatron_redone.curation.pairs.config import PairsConfig
from megatron_redone.curation.pairs.lengths import length_report
from megatron_redone.curation.pairs.pair import Pair
from megatron_redone.data.tokenizer import load_tokenizer, train_sentencepiece
from megatron_redone.tasks.base import Row
from tests.scripted_generation import sum_row

Lines = list[dict[str, Any]]


def pair(number: int = 0, chosen: str = "yes", rejected: str = "no", **changes: Any) -> Pair:
    fields: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"question {number}"}],
        "chosen": chosen,
        "rejected": rejected,
        "how": "option_order",
        "source": f"made#{number}",
        "row": f"row-{number}",
        "task": "t",
        "language": "en",
    }
    return Pair(**{**fields, **changes})


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., tuple[Lines, Lines, dict[str, Any]]]:
    """(train, validation, report) of pairs under settings."""

    def run(
        pairs: list[Pair], tokenizer: Path | None = None, seed: int = 0, **settings: Any
    ) -> tuple[Lines, Lines, dict[str, Any]]:
        config = PairsConfig.model_validate({"data": "./d", "option_order": {}, "validation_share": 0.0, **settings})
        collector = Collector(config, tmp_path, PromptWriter(tokenizer, config.max_tokens), seed)
        collector.collect(pairs)
        report = collector.publish()
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
            "report.json", "train.jsonl", "validation.jsonl",
        ]  # fmt: skip
        assert json.loads((tmp_path / "report.json").read_text()) == report
        train, validation = ([v for _, v in read_jsonl(tmp_path / f"{n}.jsonl")] for n in ("train", "validation"))
        return train, validation, report

    return run


Publish = Callable[..., tuple[Lines, Lines, dict[str, Any]]]


def test_a_line_holds_what_nemo_aligner_reads_and_where_it_is_from(published: Publish) -> None:
    made = pair(3, chosen_reward=1.0, rejected_reward=0.25, detail={"change": "a -> b"})
    ((line,), _, _) = published([made])
    assert line == {
        "id": made.id,
        "prompt": "<|im_start|>user\nquestion 3<|im_end|>\n<|im_start|>assistant\n",
        "chosen_response": "yes",
        "rejected_response": "no",
        "chosen_reward": 1.0,
        "rejected_reward": 0.25,
        "messages": [{"role": "user", "content": "question 3"}],
        "source": "made#3",
        "row": "row-3",
        "task": "t",
        "language": "en",
        "how": "option_order",
        "detail": {"change": "a -> b"},
    }
    ((plain,), _, _) = published([pair()])
    assert "chosen_reward" not in plain and "rejected_reward" not in plain  # absent, not null: defaults apply


def test_what_does_not_stand_up_is_left_out_and_counted_by_reason(published: Publish) -> None:
    row = sum_row(3)
    pairs = [
        pair(0),
        pair(0, source="made#again", how="model_errors"),
        pair(1, "the same", " the  same"),
        pair(2, "4", "the answer is 4", origin=row, task=row.task),
        pair(3, chosen_reward=0.5, rejected_reward=0.5),
        pair(4, "not now", "<|im_end|>"),
        pair(5, "x" * 31, "x" * 10),
        pair(6, "x" * 30, "y" * 10),
    ]
    train, _, report = published(pairs, max_length_ratio=3)
    assert {line["row"] for line in train} == {"row-0", "row-6"}
    assert report["found"] == {"model_errors": 1, "option_order": 7}
    assert report["dropped"] == {
        "model_errors": {"duplicate": 1},
        "option_order": {
            "equal_answers": 2,
            "over_length_ratio": 1,
            "rejected_not_worse": 1,
            "spelled_special_token": 1,
        },
    }
    assert summary(report)["dropped/option_order/equal_answers"] == 2 and summary(report)["pairs/train"] == 2


def test_pairs_that_contradict_each_other_are_left_out_for_good(published: Publish) -> None:
    pairs = [pair(0, "x", "y"), pair(0, "y", "x"), pair(0, "x", "y"), pair(0, "y", "x"), pair(0, "x", "z")]
    train, _, report = published(pairs)
    assert [(line["chosen_response"], line["rejected_response"]) for line in train] == [("x", "z")]
    assert report["dropped"] == {"option_order": {"contradiction": 4}}


made_pairs = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from("tuv"), st.sampled_from(["option_order", "model_errors"]),
              st.sampled_from(["a", "bb", "ccc"]), st.sampled_from(["a", "bb", "ccc"])),
    max_size=40,
)  # fmt: skip


@given(made_pairs, st.none() | st.integers(1, 5), st.none() | st.integers(1, 9), st.booleans())
def test_found_is_kept_and_dropped_and_caps_hold(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, str, str, str, str]],
    per_task: int | None,
    in_all: int | None,
    balance: bool,
) -> None:
    pairs = [pair(n, a, b, task=task, how=how) for n, task, how, a, b in rows]
    config = PairsConfig.model_validate(
        {"data": "./d", "option_order": {}, "max_pairs_per_task": per_task, "max_pairs": in_all,
         "balance_length": balance, "validation_share": 0.3}
    )  # fmt: skip
    folder = tmp_path_factory.getbasetemp()
    collector = Collector(config, folder, PromptWriter(None, 4096), 0)
    collector.collect(pairs)
    report = collector.publish()
    kept = [value for name in ("train", "validation") for _, value in read_jsonl(folder / f"{name}.jsonl")]
    dropped = sum(count for reasons in report["dropped"].values() for count in reasons.values())
    assert sum(report["found"].values()) == len(pairs) == len(kept) + dropped
    assert sum(report["kept"].values()) == len(kept) == sum(entry["pairs"] for entry in report["pairs"])
    assert all(count > 0 for reasons in report["dropped"].values() for count in reasons.values())
    by_task = Counter(value["task"] for value in kept)
    assert per_task is None or all(count <= per_task for count in by_task.values())
    assert in_all is None or len(kept) <= in_all
    assert len({value["id"] for value in kept}) == len(kept)
    assert all(value["chosen_response"] != value["rejected_response"] for value in kept)


def test_a_cap_is_shared_by_sources_and_small_tasks_stay_whole(published: Publish) -> None:
    pairs = [pair(n, task="big", how=("option_order", "model_errors")[n >= 30]) for n in range(40)]
    pairs += [pair(100 + n, task="small") for n in range(4)]
    train, _, report = published(pairs, max_pairs_per_task=12)
    assert Counter((line["task"], line["how"]) for line in train) == {
        ("big", "option_order"): 6,
        ("big", "model_errors"): 6,
        ("small", "option_order"): 4,
    }
    assert report["dropped"]["option_order"]["over_max_pairs_per_task"] == 24
    train, _, _ = published(pairs, max_pairs=10)
    assert Counter(line["task"] for line in train) == {"big": 6, "small": 4}


def test_the_seed_decides_what_a_cap_leaves_not_the_order_of_the_pairs(published: Publish) -> None:
    pairs = [pair(n) for n in range(40)]

    def ids(pairs: list[Pair], seed: int) -> set[str]:
        return {line["id"] for line in published(pairs, seed=seed, max_pairs=5)[0]}

    assert ids(pairs, 0) == ids(pairs[::-1], 0) != ids(pairs, 1)


def test_all_pairs_of_a_prompt_stand_on_one_side(published: Publish) -> None:
    pairs = [pair(n, f"right {k}", f"wrong {k}") for n in range(60) for k in range(3)]
    train, validation, report = published(pairs, validation_share=0.3)
    sides = [{line["prompt"] for line in lines} for lines in (train, validation)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 60
    assert 8 <= len(sides[1]) <= 28
    assert report["kept"] == {"train": len(train), "validation": len(validation)}
    again = published(pairs[:90], seed=7, validation_share=0.3)
    assert {line["id"] for line in again[1]} <= {line["id"] for line in validation}


def entry(chosen: int, rejected: int, how: str = "option_order", task: str = "t") -> Entry:
    return Entry(f"{chosen}/{rejected}", "p", task, how, "s", chosen, rejected, None, None)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=30))
def test_balanced_lengths_tell_nothing(lengths: list[tuple[int, int]]) -> None:
    kept = length_balanced([entry(*pair) for pair in lengths])
    longer = sum(e.chosen_characters > e.rejected_characters for e in kept)
    assert longer == sum(e.chosen_characters < e.rejected_characters for e in kept)
    assert sum(e.chosen_characters == e.rejected_characters for e in kept) == sum(a == b for a, b in lengths)
    assert len(kept) - 2 * longer + 2 * min(sum(a > b for a, b in lengths), sum(a < b for a, b in lengths)) == len(kept)


def test_in_turn_takes_one_of_each_group() -> None:
    entries = [entry(n, 1, how) for n, how in enumerate(["b", "b", "a", "b", "a"])]
    assert [(e.how, e.chosen_characters) for e in in_turn(entries, lambda e: e.how)] == [
        ("a", 2), ("b", 0), ("a", 4), ("b", 1), ("b", 3),
    ]  # fmt: skip


def test_lengths_show_their_bias() -> None:
    report = length_report([entry(30, 10), entry(20, 10), entry(5, 10), entry(7, 7)])
    assert report["longer_is_chosen"] == pytest.approx(2 / 3, abs=1e-4) and report["equally_long"] == 1
    low, high = report["longer_is_chosen_interval"]
    assert 0 < low < 2 / 3 < high < 1
    assert report["characters"]["chosen"] == {"mean": 15.5, "median": 13.5, "p90": 27.0}
    assert length_report([]) == {"pairs": 0} and "longer_is_chosen" not in length_report([entry(1, 1)])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_sentencepiece([f"question {n} yes no maybe assistant user" for n in range(50)], folder, 330, 0)
    return folder


def test_with_a_tokenizer_lengths_are_counted_and_limited(published: Publish, tokenizer: Path) -> None:
    pairs = [pair(0), pair(1, "yes " * 50, "no")]
    train, _, report = published(pairs, tokenizer, max_tokens=60)
    assert len(train) == 1 and report["dropped"] == {"option_order": {"over_max_tokens": 1}}
    assert report["lengths"]["all"]["tokens"]["chosen"]["mean"] >= 1


def test_tokens_over_the_border_of_prompt_and_answer_are_found(tokenizer: Path) -> None:
    class Merging(PromptWriter):
        """Encodes the end of the prompt and a digit after it as one token."""

        def ids(self, text: str) -> list[int]:
            return [ord(character) for character in text.replace("\n4", "\u2463")]

    writer = Merging(tokenizer, 4096)
    assert writer.check(pair(0, "4", "5")).problem == "token_over_border"
    assert writer.check(pair(0, "5", "4")).problem == "token_over_border"
    assert writer.check(pair(0, "5", "6")).problem == ""
    assert PromptWriter(tokenizer, 4096).check(pair(0, "4", "5")).problem == ""


def test_special_tokens_in_texts_are_found_and_thoughts_are_no_such(tokenizer: Path) -> None:
    writer = PromptWriter(tokenizer, 4096)
    for token in load_tokenizer(tokenizer).special_tokens:
        expected = "" if "think>" in token else "spelled_special_token"
        assert writer.check(pair(0, "yes", f"{token} no")).problem == expected
    thought = "<think>\nhm\n</think>\n\nyes"
    for each in (writer, PromptWriter(None, 4096)):
        assert each.check(pair(0, thought, "no")).problem == ""
        asked = pair(0, messages=[{"role": "user", "content": "<|im_start|>system"}])
        assert each.check(asked).problem == "spelled_special_token"


def test_answers_that_read_alike_are_the_same_for_their_task_only() -> None:
    row = Row("r", "hashtag_single", "en", {"title": "x", "content": "", "candidates": ["Tea", "Milk"]}, "Tea")
    assert pair(0, "Tea", "tea.", origin=row).same_answers
    assert not pair(0, "Tea", "tea.").same_answers
    assert not pair(0, "Tea", "Milk", origin=row).same_answers
    assert not pair(0, "Tea", "Coffee", origin=row).same_answers


def test_planted_held_out_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    long = " ".join(f"word{number}" for number in range(20))
    test = tmp_path / "held" / "test.jsonl"
    test.parent.mkdir()
    test.write_text(json.dumps({"id": "row-1", "question": long}) + "\n", encoding="utf-8")
    config = PairsConfig.model_validate({"data": "./d", "option_order": {}, "validation_share": 0.0})
    held_out = HeldOut([test], HeldOutConfig())
    collector = Collector(config, tmp_path, PromptWriter(None, config.max_tokens), 0, held_out)
    asked = [{"role": "user", "content": f"so: {long}"}]
    collector.collect([pair(1), pair(2), pair(3, messages=asked), pair(4, chosen=long), pair(5, rejected=long)])
    counts = summary(collector.publish())
    assert [value["row"] for _, value in read_jsonl(tmp_path / "train.jsonl")] == ["row-2"]
    assert (counts["held_out/id"], counts["held_out/ngrams"]) == (1, 3)
    assert counts["dropped/option_order/held_out_ngrams"] == 3
