"""Rows made of small files in the benchmark's formats, with texts of our own; the real files where they are given."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import ConfigError, DataError, InputError
from megatron_redone.config.loading import validate
from megatron_redone.curation.config import SNS_BENCH_FILES, SNSBenchRowsConfig
from megatron_redone.curation.sns_bench_formats import READERS, read_item
from megatron_redone.curation.sns_bench_rows import SNSBenchRows, arithmetic_rows, sns_bench_rows
from megatron_redone.scoring.normalise import loose
from megatron_redone.tasks.catalogue import get_task

NOTE = "Note Title: Kayaks in Norvik\n    Note Content: We paddled two days.\nBring dry socks!"
COMMENT = (
    "Comment: \nIs that the blue kayak from Norvik?\n\nPossible highlight word options list:\n{}\n\nPlease list them."
)

# file -> (item, fields, answer)
ITEMS: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "Note-Gender": (
        {"content": "Title: Blisters\nCategory: Sport\nBody: My hands hurt.\nasr:\nocr: ouch", "answer": "No"},
        {"title": "Blisters", "content": "Category: Sport\nBody: My hands hurt.\nasr:\nocr: ouch"},
        "No",
    ),
    "Note-Taxonomy-single": (
        {"content": NOTE, "candidates": "Outdoors, Food & Drink", "answer": "Outdoors"},
        {
            "title": "Kayaks in Norvik",
            "content": "We paddled two days.\nBring dry socks!",
            "candidates": ["Outdoors", "Food & Drink"],
        },
        "Outdoors",
    ),
    "Note-Taxonomy-multiple": (
        {
            "content": NOTE,
            "candidates_primary": "['Outdoors', \"Kids' things\"]",
            "candidates_secondary": "['Water']",
            "candidates_tertiary": "['Kayaks', 'Sails']",
            "answer": "Outdoors | Water | Kayaks",
        },
        {
            "title": "Kayaks in Norvik",
            "content": "We paddled two days.\nBring dry socks!",
            "candidates_primary": ["Outdoors", "Kids' things"],
            "candidates_secondary": ["Water"],
            "candidates_tertiary": ["Kayaks", "Sails"],
        },
        ["Outdoors", "Water", "Kayaks"],
    ),
    "Note-Hashtag-single": (
        {"content": "Notebook title: nan\n Notebook content：Soup again", "candidates": "soup, rain", "answer": "soup"},
        {"title": "", "content": "Soup again", "candidates": ["soup", "rain"]},
        "soup",
    ),
    "Note-Hashtag-multiple": (
        {"content": "Soup again, no heading at all", "candidates": "soup, rain, socks", "answer": "soup, socks"},
        {"title": "", "content": "Soup again, no heading at all", "candidates": ["soup", "rain", "socks"]},
        ["soup", "socks"],
    ),
    "Note-QueryCorr-explain": (
        {"sentence1": "dry socks", "sentence2": "Ten pairs compared.", "answer": "Yes"},
        {"query": "dry socks", "note": "Ten pairs compared."},
        "Yes",
    ),
    "Note-QueryCorr-topic": (
        {"content": "```\nQuery: dry socks\nNotes: Ten pairs\ncompared.\n```", "answer": "-1"},
        {"query": "dry socks", "note": "Ten pairs\ncompared."},
        -1,
    ),
    "Note-NER": (
        {"question": "Please find all the 'Place (of trips)' entities.", "content": "Norvik, Lund", "answer": "Lund"},
        {"entity_type": "Place (of trips)", "content": "Norvik, Lund"},
        ["Lund"],
    ),
    "Note-CHLW": (
        {"content": COMMENT.format("['blue kayak', 'Norvik']"), "answer": "['Norvik']"},
        {"comment": "Is that the blue kayak from Norvik?", "candidates": ["blue kayak", "Norvik"]},
        ["Norvik"],
    ),
}


def make(
    folder: Path, files: dict[str, Any], max_refused_share: float = 0.5, seed: int = 0, **settings: Any
) -> SNSBenchRows:
    for file, items in files.items():
        text = items if isinstance(items, str) else json.dumps(items)
        (folder / f"{file}.json").write_text(text, encoding="utf-8")
    config = SNSBenchRowsConfig(tasks=tuple(files), **settings)
    return sns_bench_rows(config, folder, max_refused_share, seed)


def relevance(query: str, note: str, answer: str = "Yes") -> dict[str, str]:
    return {"sentence1": query, "sentence2": note, "answer": answer}


def many(count: int) -> list[dict[str, str]]:
    return [relevance(f"query {number}", f"Note number {number}") for number in range(count)]


def test_every_file_has_a_reader() -> None:
    assert set(SNS_BENCH_FILES) == set(READERS) == set(ITEMS)


@pytest.mark.parametrize("file", SNS_BENCH_FILES)
def test_items_become_valid_rows_with_their_source(tmp_path: Path, file: str) -> None:
    value, fields, answer = ITEMS[file]
    found = make(tmp_path, {file: [value]})
    (row,) = [row for rows in found.rows.values() for row in rows]
    assert (row.fields, row.answer, row.language) == (fields, answer, "en")
    assert (row.id, row.source) == (f"{file}-0", f"sns-bench/{file}#0")
    assert get_task(row.task).benchmark == file and get_task(row.task).validate(row) == []


def no_parts(text: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda value: {**value, "content": text}


@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        *((file, lambda value: {k: v for k, v in value.items() if k != "answer"}, "'answer'") for file in READERS),
        *((file, lambda value: {**value, "answer": 3}, "'answer' is int, expected a text") for file in READERS),
        *((file, lambda value: list(value), "a list, expected an object") for file in READERS),
        ("Note-Gender", no_parts("A post without headings"), "`Title: ...`"),
        ("Note-Taxonomy-single", no_parts("Note Title: only that"), "`Note Title: ...` and `Note Content: ...`"),
        ("Note-QueryCorr-topic", no_parts("Query: and no more"), "`Query: ...` and `Note: ...`"),
        ("Note-CHLW", no_parts("Comment: and no more"), "not a comment, a list"),
        ("Note-CHLW", no_parts(COMMENT.format("['it's']")), "no list of texts"),
        ("Note-NER", lambda value: {**value, "question": "Find all places"}, "no entity type"),
        ("Note-Taxonomy-multiple", lambda value: {**value, "candidates_primary": "Outdoors"}, "no list of texts"),
    ],
)
def test_items_that_cannot_be_taken_apart_are_named(
    file: str, change: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_item(file, change(ITEMS[file][0]), "folder/file.json#7")
    assert str(caught.value).startswith("folder/file.json#7: ") and problem in str(caught.value)


def test_rows_that_their_task_refuses_are_listed_and_counted(tmp_path: Path) -> None:
    good = ITEMS["Note-Hashtag-single"][0]
    found = make(tmp_path, {"Note-Hashtag-single": [good, {**good, "answer": "kayaks"}, "text"]}, 0.7)
    first, second = found.refused
    assert first.startswith(f"{tmp_path / 'Note-Hashtag-single.json'}#1: ")
    assert "gold answer 'kayaks' is not among its 2 options" in first
    assert "#2: a str, expected an object" in second
    assert found.counts["Note-Hashtag-single/refused"] == 2 and found.counts["Note-Hashtag-single/rows"] == 1


def test_too_many_refused_items_stop(tmp_path: Path) -> None:
    good = ITEMS["Note-QueryCorr-explain"][0]
    with pytest.raises(DataError, match=r"1 of 2 items refused, but at most 40% may be(.|\n)*#1: .*'Maybe'"):
        make(tmp_path, {"Note-QueryCorr-explain": [good, {**good, "answer": "Maybe"}]}, 0.4)


@pytest.mark.parametrize(
    ("content", "problem"),
    [("[{]", "not JSON"), ('{"a": 1}', "a dict, expected a list of items"), ("[]", "0 of 0 items refused")],
)
def test_damaged_files_are_named(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        make(tmp_path, {"Note-NER": content})
    assert str(tmp_path / "Note-NER.json") in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Note-NER\.json: no such file; give the folder"):
        sns_bench_rows(SNSBenchRowsConfig(tasks=("Note-NER",)), tmp_path, 0.05, 0)


def test_long_and_repeated_items_are_left_out_and_counted(tmp_path: Path) -> None:
    items = [relevance("a", "short"), relevance("a", "short"), relevance("b", "word " * 50)]
    found = make(tmp_path, {"Note-QueryCorr-explain": items}, max_prompt_words=40)
    assert [row.id for rows in found.rows.values() for row in rows] == ["Note-QueryCorr-explain-0"]
    assert found.counts["Note-QueryCorr-explain/too_long"] == 1
    assert found.counts["Note-QueryCorr-explain/repeated"] == 1
    assert found.refused == []


def test_splits_share_no_text_over_all_files(tmp_path: Path) -> None:
    chained = [relevance("query 1", "Note number 2"), relevance("QUERY 3 ", "Note number 1")]
    topic = [{"content": f"Query: other {number}\nNote: Note number {number}", "answer": "2"} for number in range(60)]
    found = make(tmp_path, {"Note-QueryCorr-explain": many(60) + chained, "Note-QueryCorr-topic": topic})
    split_of: dict[str, str] = {}
    for split in ("train", "diagnosis", "test"):
        assert found.rows[split]
        for row in found.rows[split]:
            for text in row.fields.values():
                assert split_of.setdefault(loose(text), split) == split


def test_splits_do_not_depend_on_seed_or_order_and_follow_the_shares(tmp_path: Path) -> None:
    file, items = "Note-QueryCorr-explain", many(400)
    first = make(tmp_path, {file: items}, shares=(0.6, 0.1, 0.3))
    second = make(tmp_path, {file: items[::-1]}, seed=9, shares=(0.6, 0.1, 0.3))

    def queries(found: SNSBenchRows, split: str) -> set[str]:
        return {row.fields["query"] for row in found.rows[split]}

    for split, share in (("train", 0.6), ("diagnosis", 0.1), ("test", 0.3)):
        assert queries(first, split) == queries(second, split)
        assert abs(len(first.rows[split]) / 400 - share) < 0.07


def test_limits_hold_for_each_task_and_choose_by_hash(tmp_path: Path) -> None:
    topic = [{"content": f"Query: q{number}\nNote: text {number}", "answer": "0"} for number in range(100)]
    files = {"Note-QueryCorr-explain": many(100), "Note-QueryCorr-topic": topic}
    found = make(tmp_path, files, max_rows_per_task=(10, None, 5))
    for task in ("query_note_relevance", "query_note_relevance_yes_no"):
        assert sum(row.task == task for row in found.rows["train"]) == 10
        assert sum(row.task == task for row in found.rows["test"]) == 5
        assert sum(row.task == task for row in found.rows["diagnosis"]) > 10
    numbers = [int(row.id.rpartition("-")[2]) for row in found.rows["train"] if row.task == "query_note_relevance"]
    assert numbers == sorted(numbers) and max(numbers) > 50
    assert found.counts["rows/train"] == 20


def test_general_rows_are_different_sums(tmp_path: Path) -> None:
    rows = arithmetic_rows(50, seed=1)
    assert len({row.fields["question"] for row in rows}) == len({row.id for row in rows}) == 50
    assert all(get_task("arithmetic").validate(row) == [] for row in rows)
    assert [row.id for row in arithmetic_rows(50, seed=1)] == [row.id for row in rows]
    assert [row.id for row in arithmetic_rows(50, seed=2)] != [row.id for row in rows]
    assert make(tmp_path, {"Note-QueryCorr-explain": many(9)}).rows["general"] == []
    with pytest.raises(InputError, match=r"general_rows=1500: only .* ask for fewer"):
        arithmetic_rows(1500, seed=1)


def test_bad_settings_are_reported_together() -> None:
    data = {"tasks": ["Note-Gendr", "Note-NER", "Note-NER"], "shares": [0.5, 0.5, 0.5], "max_rows_per_task": [0, 1, 1]}
    with pytest.raises(ConfigError) as caught:
        validate(SNSBenchRowsConfig, data, "recipe.yaml")
    text = str(caught.value)
    for part in ("did you mean 'Note-Gender'?", "has repeats", "must be above 0 and add up to 1", "limit below 1"):
        assert part in text


@pytest.mark.skipif("REDONE_TEST_SNS_BENCH" not in os.environ, reason="REDONE_TEST_SNS_BENCH names no SNS-Bench folder")
def test_the_real_files_are_read_almost_whole() -> None:
    folder = Path(os.environ["REDONE_TEST_SNS_BENCH"])
    config = SNSBenchRowsConfig(tasks=SNS_BENCH_FILES, max_prompt_words=10_000)
    found = sns_bench_rows(config, folder, 0.06, 0)
    for file in SNS_BENCH_FILES:
        items = json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))
        parts = [found.counts[f"{file}/{name}"] for name in ("refused", "too_long", "repeated", "rows")]
        assert sum(parts) == len(items) and parts[3] > 0.9 * len(items)
    ids = [row.id for rows in found.rows.values() for row in rows]
    assert len(ids) == len(set(ids)) == sum(found.counts[f"{file}/rows"] for file in SNS_BENCH_FILES)
