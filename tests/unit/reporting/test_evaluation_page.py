from __future__ import annotations

import re
from html.parser import HTMLParser

from megatron_redone.reporting.benchmark_schema import BaselineScores, BenchmarkResult, Failure
from megatron_redone.reporting.evaluation_page import Published, evaluation_html

TASK = {"score": 50.0, "interval": [40.0, 60.0], "num_rows": 1234, "parse_rate": 0.5, "official_errors": 2}
BASELINE = BaselineScores(score=12.25, groups={"G": 12.25}, tasks={"A.json": 12.25})


def result(**changes: object) -> BenchmarkResult:
    given = {
        "benchmark": "sns-bench",
        "label": "model <b>",
        "score": 50.0,
        "interval": (40.0, 60.0),
        "score_rule": "the mean",
        "groups": {"G": 50.0},
        "tasks": {"A.json": {**TASK, "f1": 50.0, "recall": 33.33}},
        "baselines": {"gold answers": BASELINE},
        "notes": ("Say this.",),
        "settings": {"counts": {"rows_without_an_answer": {}, "rows_scored": 7}},
    }
    return BenchmarkResult.model_validate({**given, **changes})


def page(of: BenchmarkResult, failures: tuple[Failure, ...] = (), published: Published | None = None) -> str:
    return evaluation_html(of, failures, {"gold answers": "the ceiling"}, published or Published("", {}))


def test_scores_baselines_notes_and_errors_are_shown() -> None:
    text = page(result())
    for shown in ("model &lt;b&gt;", "40.00 to 60.00", "1,234", "50.0%", "12.25", "Say this.", "33.33", "the ceiling"):
        assert shown in text
    assert "At 2 places the official code would have stopped" in text
    assert 'class="gaps"' not in text and "Published figures" not in text
    assert 'class="gaps"' in page(result(missing=["B.json"]))


def test_published_figures_stand_in_a_table_of_their_own() -> None:
    text = page(result(), published=Published("Paper, table 1", {"Model X": {"Note-NER": 44.5, "score": 52.5}}))
    assert "Paper, table 1" in text and "Model X" in text and "44.50" in text and "Note-NER" in text


def test_failures_are_escaped_clipped_and_close_their_tags() -> None:
    failure = Failure(
        file="A.json",
        index=3,
        value=0.25,
        reason="cut to '<x>'",
        prompt="p" * 9000,
        output="</pre><script>alert(1)</script>\x00\ud800",
        gold="g",
    )
    text = page(result(), (failure,))
    assert "<script" not in text and "alert(1)" in text and "\x00" not in text and "index 3: 0.25" in text
    assert "(6000 more characters)" in text
    text.encode("utf-8")
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "link", "br", "wbr"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Tags().feed(text)
    assert not opened
    assert not re.search(r"(?:src|href)=[\"']?https?:", text)
