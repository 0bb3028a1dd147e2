from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.reporting.html import write_report
from megatron_redone.reporting.run_files import load_run
from megatron_redone.reporting.samples import choose_samples
from megatron_redone.reporting.templating import breakable, clipped, duration, printable
from tests.unit.reporting.synthetic_run import TASKS, write_run

HOSTILE = '<script>alert(1)</script><img src="http://evil.example/x.png" onerror=alert(2)>\'"]]>-->\x00\u202e{{ 7*7 }}'
SECTIONS = (
    "result",
    "table",
    "weak",
    "diagnosis",
    "training",
    "samples",
    "lineage",
    "time",
    "machine",
    "limits",
)
VOID = {"meta", "link", "br", "wbr", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects the tags and attributes of a page and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.sections: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "section":
            self.sections.append(dict(attrs).get("id") or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    return write_report(write_run(folder / "run", (1,), hostile=HOSTILE), folder / "report.html").read_text("utf-8")


def test_the_report_has_every_section_and_chart(tmp_path: Path) -> None:
    report = write_report(write_run(tmp_path / "run"), tmp_path)
    assert report == tmp_path / "report.html"
    page = Page(report.read_text("utf-8"))
    assert tuple(page.sections) == SECTIONS
    # stages, changes, bucket; 3 diagnoses; lineage; times; 4 SFT-like stages x 4, 2 RL stages x (9 + 1)
    assert page.tags.count("svg") == 3 + 3 + 2 + 4 * 4 + 2 * 10
    text = " ".join(page.words)
    for wanted in ("+40.4", "redone run examples/quickstart/recipe.yaml", "no conclusion", "gold answer"):
        assert wanted in text
    assert "an example processor" in text and "2.13.0" in text and "nothing here was written by users" in text


def test_the_report_asks_nothing_from_outside(hostile_report: str) -> None:
    page = Page(hostile_report)
    assert not {"script", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#") or value == "data:,", (tag, name, value)
    assert "@import" not in hostile_report and not re.search(r"url\((?!#)", hostile_report)
    policy = next(value for tag, name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy


def test_hostile_text_is_shown_and_not_run(hostile_report: str) -> None:
    page = Page(hostile_report)
    assert "<script" not in hostile_report and "onerror=alert(2)>" not in hostile_report
    assert any("<script>alert(1)</script>" in words for words in page.words)
    assert "\x00" not in hostile_report and "\u202e" not in hostile_report
    assert "\\x00\\u202e" in hostile_report
    assert "{{ 7*7 }}" in hostile_report


def test_page_ids_are_unique(hostile_report: str) -> None:
    ids = [value for _, name, value in Page(hostile_report).attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 20


def test_two_reports_of_one_folder_are_equal(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", seeds=(1,), upto="warmup")
    first = write_report(run, tmp_path / "a.html").read_bytes()
    assert write_report(run, tmp_path / "b.html").read_bytes() == first


@pytest.mark.parametrize("upto", ["cpt", "explore", "diagnose", "refine"])
def test_a_partial_run_is_reported_with_its_gaps(tmp_path: Path, upto: str) -> None:
    report = write_report(write_run(tmp_path, seeds=(1,), upto=upto), tmp_path / "report.html")
    page = Page(report.read_text("utf-8"))
    assert "gaps" in page.sections
    text = " ".join(page.words)
    assert "sft_only (seed 1) is not finished (status: pending)." in text
    assert ("points gained" in text) == (upto == "refine")


def test_a_run_that_has_not_started_is_reported(tmp_path: Path) -> None:
    run = {"recipe": "r.yaml", "name": "new", "command": "redone run r.yaml", "stages": []}
    (tmp_path / "run.json").write_text(json.dumps(run))
    text = write_report(tmp_path, tmp_path / "report.html").read_text("utf-8")
    for sentence in (
        "No stage has been evaluated yet",
        "holds no diagnosis",
        "No stage has written metrics yet",
    ):
        assert sentence in text
    assert "<svg" not in text


def test_a_broken_result_stops_the_report_and_leaves_the_old_one(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,), upto="warmup")
    report = write_report(run, tmp_path / "report.html")
    before = report.read_bytes()
    (run / "warmup" / "evaluation" / "predictions.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(DataError, match=r"predictions\.jsonl:1: task: Field required"):
        write_report(run, report)
    assert report.read_bytes() == before


def test_samples_are_drawn_without_looking_at_results(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    first = choose_samples(load_run(run))
    assert [sample.row.task for sample in first.drawn] == sorted(TASKS)
    assert first.seed == 1
    stages = ["warmup", "explore", "target", "refine", "sft_only"]
    for sample in first.drawn:
        assert [output.stage for output in sample.outputs] == stages
        assert {output.prediction.id for output in sample.outputs} == {sample.row.id}
    for path in run.rglob("predictions.jsonl"):
        rows = [json.loads(line) | {"value": 0.5} for line in path.read_text("utf-8").splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    second = choose_samples(load_run(run))
    assert [sample.row.id for sample in second.drawn] == [sample.row.id for sample in first.drawn]
    assert second.lost == () and second.num_lost == 0


def test_rows_that_fell_are_counted_and_shown_worst_first(tmp_path: Path) -> None:
    samples = choose_samples(load_run(write_run(tmp_path)), most_lost=3)
    assert samples.num_compared == 4 * len(TASKS)
    losses = []
    for sample in samples.lost:
        value = {output.stage: output.prediction.value for output in sample.outputs}
        losses.append(value["warmup"] - value["refine"])
    assert len(losses) == min(3, samples.num_lost) and min(losses) > 0
    assert losses == sorted(losses, reverse=True)


def test_a_stage_without_predictions_is_left_out_of_the_samples(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    (run / "target.seed1" / "evaluation" / "predictions.jsonl").unlink()
    samples = choose_samples(load_run(run))
    assert [o.stage for o in samples.drawn[0].outputs] == ["warmup", "explore", "refine", "sft_only"]


def test_filters() -> None:
    assert printable("a\tb\nc\r\nd") == "a\tb\nc\nd"
    assert printable("\x1b\ud800\u2066") == "\\x1b\\ud800\\u2066"
    assert breakable("note_<ner>") == "note_<wbr>&lt;ner&gt;"
    assert clipped("abcdef", 4) == "abcd … (2 more characters)" and clipped("abcd", 4) == "abcd"
    times = [duration(seconds) for seconds in (0.0, 9.96, 59.6, 61, 3599, 4320, 86400)]
    assert times == ["0.0 s", "10 s", "1 min 00 s", "1 min 01 s", "59 min 59 s", "1 h 12 min", "24 h 00 min"]
