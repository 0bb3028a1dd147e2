from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.curation.sft.pool import source_files
from megatron_redone.curation.stats import collect as module
from megatron_redone.curation.stats.collect import Lengths, collect
from megatron_redone.curation.stats.config import DataStatsConfig
from megatron_redone.curation.stats.labellers import CategoryLabeller, KeywordLabeller
from megatron_redone.curation.stats.taxonomy import Category
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.reporting.data_schema import DataStatsResult
from megatron_redone.reporting.stats_page import stats_html
from tests.scripted_generation import sum_row, sums_template

TALK = {
    "id": "talk",
    "messages": [
        {"role": "user", "content": "what is 1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "solve for x in this equation"},
        {"role": "assistant", "content": "the answer is 3"},
    ],
}
DOCUMENT = {"id": "d", "text": "今天的天气很好", "source": "web#3"}
ALPACA = {"instruction": "Write a poem.", "output": "a"}


def stats(
    folder: Path, rows: Sequence[Any], labeller: CategoryLabeller | None = None, limit: float = 0.3, **settings: Any
) -> tuple[DataStatsResult, list[str]]:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    template = settings.pop("template", None)
    config = DataStatsConfig(**settings)
    return collect(config, source_files(path, "sns"), Lengths(template), labeller, limit, 0)


def test_rows_of_all_kinds_are_counted(tmp_path: Path) -> None:
    result, refused = stats(tmp_path, [TALK, sum_row(1).to_json(), DOCUMENT, ALPACA], KeywordLabeller())
    assert (result.rows, result.conversations, result.refused, refused) == (4, 3, 0, [])
    assert result.turns == {"1": 2, "2": 1}
    assert result.languages == {"en": 3, "zh": 1}
    assert result.sources == {"rows.jsonl": 3, "web": 1}
    assert result.capabilities == {"unknown": 2, "corpus": 1, "general": 1}
    assert {(task.task, task.capability): task.rows for task in result.tasks} == {
        ("rows", "unknown"): 2,
        ("rows", "corpus"): 1,
        ("arithmetic", "general"): 1,
    }
    assert "rows 3, arithmetic 1" in stats_html(result)  # the title of the chart of tasks
    assert result.topics["mathematics / algebra"] == 1 and sum(result.areas.values()) == result.labelled == 4
    assert result.unit == "characters"
    assert result.lengths.summary.total == 58 + len("Calculate: 1 + 12") + 7 + 14
    assert result.answers is not None and result.answers.summary.count == 4


def test_lengths_are_the_tokens_of_training(tmp_path: Path) -> None:
    template: ChatTemplate = sums_template(tmp_path)
    result, _ = stats(tmp_path, [TALK, DOCUMENT], template=template)
    whole = len(template.training_ids(TALK["messages"]).token_ids)  # type: ignore[arg-type]
    text = len(template.tokenizer.encode(DOCUMENT["text"]))
    assert result.unit == "tokens" and result.lengths.summary.total == whole + text
    assert sum(bar.count for bar in result.lengths.bars) == 2
    assert result.labeller == "none" and result.areas == {}


def test_bad_rows_and_repeated_ids_are_told(tmp_path: Path) -> None:
    result, refused = stats(tmp_path, [TALK, TALK, DOCUMENT, {"text": " "}])
    assert (result.rows, result.refused, result.repeated_ids) == (3, 1, 1)
    assert refused == [f"{tmp_path}/rows.jsonl:4: no text under the key `text`; each row of a corpus is "
                       "{'id': ..., 'text': ...}"]  # fmt: skip
    with pytest.raises(DataError, match="2 of 3 rows refused"):
        stats(tmp_path, [TALK, "{", {"messages": 3}])


def test_a_share_of_the_rows_is_labelled_in_batches(tmp_path: Path) -> None:
    class Noting:
        name = "noting"

        def __init__(self) -> None:
            self.batches: list[int] = []

        def label(self, texts: Sequence[str]) -> list[Category | None]:
            self.batches.append(len(texts))
            return [None if "1" in text else Category("daily life", "food") for text in texts]

    rows = [ALPACA | {"id": str(number), "instruction": str(number)} for number in range(200)]
    labeller = Noting()
    result, _ = stats(tmp_path, rows, labeller, label_share=0.5, label_batch=32)
    assert 70 < result.labelled < 130
    assert set(labeller.batches[:-1]) == {32} and sum(labeller.batches) == result.labelled
    assert result.unreadable_labels + result.areas["daily life"] == result.labelled
    again, _ = stats(tmp_path, rows, Noting(), label_share=0.5, label_batch=7)
    assert again == result


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for number in range(500):
            file.write(json.dumps({"id": str(number), "text": f"{number} " + "x" * 20_000}) + "\n")
    tracemalloc.start()
    result, _ = collect(DataStatsConfig(), source_files(path, "sns"), Lengths(None), None, 0.0, 0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.rows == 500 and path.stat().st_size > 10_000_000
    assert peak_bytes < 3_000_000


def test_too_many_names_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 3)
    rows = [ALPACA | {"source": f"s{number}", "task": f"t{number}"} for number in range(9)]
    result, _ = stats(tmp_path, rows)
    assert result.sources == {"(others)": 6, "s0": 1, "s1": 1, "s2": 1}
    assert {task.task: task.rows for task in result.tasks} == {"(others)": 6, "t0": 1, "t1": 1, "t2": 1}


def test_the_page_shows_the_figures_and_needs_nothing_else(tmp_path: Path) -> None:
    rows = [TALK, DOCUMENT, ALPACA | {"task": "<script>alert(1)</script>"}]
    result, _ = stats(tmp_path, rows, KeywordLabeller(), title="A <b>title</b>")
    page = stats_html(result)
    assert page.count("<svg") == 9
    assert "<script" not in page and "<b>title" not in page and "A &lt;b&gt;title" in page
    assert "http://" not in page and "https://" not in page
    for figure in (result.lengths.summary.median, result.lengths.summary.p95):
        assert f"<b>{figure}</b>" in page
    assert DataStatsResult.model_validate_json(result.model_dump_json()) == result
    corpus, _ = stats(tmp_path, [DOCUMENT])
    assert stats_html(corpus).count("<svg") == 5
