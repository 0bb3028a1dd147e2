from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.curation.pairs import json_list as lists
from megatron_redone.curation.pairs.json_list import json_list
from megatron_redone.curation.pairs.pair_files import (
    AnswerPair,
    PairFile,
    is_chinese,
    read_answer_pairs,
)

USER = [{"role": "user", "content": "tea?"}]
GOOD = {"id": "g", "prompt": "tea?", "answer_a": "yes", "answer_b": "no", "label": "a"}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def write(path: Path, items: list[Any], as_list: bool = False) -> Path:
    text = json.dumps(items, ensure_ascii=False, indent=2) if as_list else "\n".join(map(json.dumps, items))
    path.write_text(text, encoding="utf-8")
    return path


def only(path: Path, item: dict[str, Any], labelled: bool = True) -> AnswerPair:
    (found,) = read_answer_pairs(write(path, [item]), labelled)
    assert isinstance(found, AnswerPair), found
    return found


def preferred(pair: AnswerPair) -> tuple[str, str]:
    """(the better answer, the other)."""
    answers = (pair.answer_a, pair.answer_b)
    return answers if pair.label == "a" else answers[::-1]


SAME_PAIR = [
    {"messages": USER, "answer_a": "yes", "answer_b": "no", "label": "a"},
    {"prompt": USER, "answer_a": "no", "answer_b": "yes", "label": "b"},
    {"prompt": "tea?", "chosen_response": "yes", "rejected_response": "no"},
    {"prompt": "<|im_start|>user\ntea?", "messages": USER, "chosen_response": "yes", "rejected_response": "no"},
    {"conversations": [{"from": "human", "value": "tea?"}], "chosen": {"from": "gpt", "value": "yes"},
     "rejected": {"from": "gpt", "value": "no"}},
    {"instruction": "tea?", "input": "", "chosen": "yes", "rejected": "no"},
    {"prompt": "tea?", "chosen": "yes", "rejected": "no"},
    {"prompt": "tea?", "chosen": [*USER, {"role": "assistant", "content": "yes"}],
     "rejected": [*USER, {"role": "assistant", "content": "no"}]},
]  # fmt: skip


@pytest.mark.parametrize("item", SAME_PAIR)
def test_every_form_says_the_same(tmp_path: Path, item: dict[str, Any]) -> None:
    pair = only(tmp_path / "f.jsonl", item)
    assert (pair.messages, preferred(pair)) == (USER, ("yes", "no"))
    assert (pair.id, pair.source, pair.language) == ("f-1", "f.jsonl:1", "en")


def test_turns_system_and_scores_are_kept(tmp_path: Path) -> None:
    sharegpt = {
        "system": "be kind",
        "conversations": [
            {"from": "human", "value": "hi"},
            {"from": "gpt", "value": "hello"},
            {"from": "human", "value": "tea?"},
        ],
        "chosen": {"from": "gpt", "value": "yes"},
        "rejected": {"from": "gpt", "value": "no"},
    }
    roles = [message["role"] for message in only(tmp_path / "f.jsonl", sharegpt).messages]
    assert roles == ["system", "user", "assistant", "user"]
    alpaca = {"instruction": "translate", "input": "tea", "chosen": "茶", "rejected": "杯", "system": "s"}
    assert only(tmp_path / "f.jsonl", alpaca).messages[-1]["content"] == "translate\ntea"
    scored = only(
        tmp_path / "f.jsonl",
        {"prompt": "p", "chosen": "x", "rejected": "y", "score_chosen": 9.5, "score_rejected": 2},
    )
    assert {scored.answer_a: scored.score_a, scored.answer_b: scored.score_b} == {"x": 9.5, "y": 2.0}


def test_where_a_chosen_answer_stands_is_drawn_by_id_and_seed(tmp_path: Path) -> None:
    items = [{"id": str(n), "prompt": "p", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(200)]
    path = write(tmp_path / "f.json", items, as_list=True)
    pairs = [pair for pair in read_answer_pairs(path, True, 1) if isinstance(pair, AnswerPair)]
    assert all(preferred(pair)[0].startswith("good") for pair in pairs)
    assert 70 <= sum(pair.label == "a" for pair in pairs) <= 130
    again = [pair.label for pair in read_answer_pairs(path, True, 1) if isinstance(pair, AnswerPair)]
    assert again == [pair.label for pair in pairs]
    other = [pair.label for pair in read_answer_pairs(path, True, 2) if isinstance(pair, AnswerPair)]
    assert other != again
    assert (pairs[3].source, pairs[3].id) == ("f.json#3", "3")


def test_candidates_have_no_label(tmp_path: Path) -> None:
    item = {key: value for key, value in GOOD.items() if key != "label"}
    assert only(tmp_path / "f.jsonl", item, labelled=False).label is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"label": "c"}, "label='c' is not one of a, b, tie"),
        ({"label": None}, "label=None is not one of"),
        ({"label": ["a"]}, r"label=\['a'\] is not one of"),
        ({"prompt": " "}, "prompt is ' '; give a text"),
        ({"prompt": None}, "prompt is None"),
        ({"answer_a": ""}, "an answer is empty"),
        ({"answer_b": " \n"}, "an answer is empty"),
        ({"answer_b": 5}, "answer_b is int; give a text"),
        ({"answer_b": " yes "}, "the two answers are equal"),
        ({"answer_b": "\ud83d"}, "half of a surrogate pair"),
        ({"language": "fr"}, "language='fr'"),
        ({"id": ""}, "id='' is no text"),
        ({"id": 1.5}, "id=1.5 is no text"),
        ({"score_a": "high"}, "score_a='high' is no finite number"),
        ({"score_a": float("nan")}, "score_a=nan is no finite number"),
        ({"messages": [*USER, {"role": "assistant", "content": "x"}]}, "the last message is of 'assistant'"),
        ({"messages": []}, "no user message"),
    ],
)
def test_a_bad_item_is_named_by_file_and_line(tmp_path: Path, change: dict[str, Any], rule: str) -> None:
    path = write(tmp_path / "f.jsonl", [GOOD, {**GOOD, "id": "other", **change}])
    good, bad = read_answer_pairs(path, True)
    assert isinstance(good, AnswerPair) and isinstance(bad, str)
    assert bad.startswith(f"{path}:2: ")
    with pytest.raises(AssertionError, match=rule):
        raise AssertionError(bad)


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        ({"prompt": "p", "chosen": "x"}, "has the keys chosen, prompt"),
        ({"prompt": "p", "answer_a": "x", "label": "a"}, "answer_b is missing"),
        ({"prompt": "p", "chosen_response": "x"}, "rejected_response is missing"),
        ({"conversations": [], "chosen": {}, "rejected": {}}, "expected turns like"),
        ({"conversations": [{"from": "cat", "value": "x"}], "chosen": {}, "rejected": {}}, "a turn from 'cat'"),
        ({"prompt": "p", "chosen": USER, "rejected": USER}, "does not end with an answer"),
        (
            {"chosen": [*USER, {"role": "assistant", "content": "x"}],
             "rejected": [{"role": "user", "content": "!"}, {"role": "assistant", "content": "y"}]},
            "differ before the last turn",
        ),
    ],
)  # fmt: skip
def test_missing_parts_are_named(tmp_path: Path, item: dict[str, Any], rule: str) -> None:
    (bad,) = read_answer_pairs(write(tmp_path / "f.jsonl", [item]), True)
    assert isinstance(bad, str) and "f.jsonl:1: " in bad and rule in bad


def test_an_id_stands_once_and_a_judge_gets_no_labelled_pairs(tmp_path: Path) -> None:
    _, twice = read_answer_pairs(write(tmp_path / "f.jsonl", [GOOD, GOOD]), True)
    assert isinstance(twice, str) and "f.jsonl:2: id 'g' occurs twice" in twice
    (chosen,) = read_answer_pairs(write(tmp_path / "f.jsonl", [{"prompt": "p", "chosen": "x", "rejected": "y"}]), False)
    assert isinstance(chosen, str) and "has a chosen answer already" in chosen


def test_a_file_may_have_some_bad_items_but_not_many(tmp_path: Path) -> None:
    items = [{**GOOD, "id": str(n)} for n in range(9)] + [{**GOOD, "id": "x", "label": "?"}]
    path = write(tmp_path / "f.jsonl", items)
    file = PairFile(path, True, 0, 0.1)
    assert file.count() == 9 == len(list(file)) and len(file.refused) == 1
    with pytest.raises(DataError, match=r"1 of 10 items refused, but at most 5% may be(.|\n)*f\.jsonl:10: label='\?'"):
        PairFile(path, True, 0, 0.05).count()
    empty = write(tmp_path / "e.jsonl", [])
    with pytest.raises(DataError, match="0 of 0 items refused"):
        PairFile(empty, True, 0, 1.0).count()
    with pytest.raises(DataError, match="no such file"):
        list(read_answer_pairs(tmp_path, True))


@given(st.lists(JSON_VALUES, max_size=8), st.sampled_from([None, 2]), st.integers(1, 7))
def test_a_json_list_is_read_item_by_item(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], indent: int | None, chunk: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "list.json"
    path.write_text(json.dumps(values, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "CHUNK_CHARACTERS", chunk)
        assert list(json_list(path)) == values


@pytest.mark.parametrize(
    ("content", "rule"),
    [(b'[{"a": 1}, {"a": ', "#1: not JSON, or cut"), (b"[1, x]", "#1: not JSON"), (b'["\xff"]', "not UTF-8")],
)
def test_a_broken_json_list_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rule):
        list(json_list(path))


def test_items_of_a_list_that_are_no_objects_are_refused(tmp_path: Path) -> None:
    found = list(read_answer_pairs(write(tmp_path / "f.json", [GOOD, "x"], as_list=True), True))
    assert isinstance(found[0], AnswerPair) and "f.json#1: a str" in str(found[1])


@pytest.mark.parametrize(("text", "chinese"), [("喝茶 tea", True), ("a cup of 茶 for me", False), ("", False)])
def test_language_of_a_text(text: str, chinese: bool) -> None:
    assert is_chinese(text) == chinese
