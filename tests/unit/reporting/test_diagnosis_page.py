from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from megatron_redone.reporting.capability_map import capability_map
from megatron_redone.reporting.diagnosis_page import PAGE, diagnosis_view, write_diagnosis_page
from megatron_redone.reporting.schema import DiagnosedCapability, DiagnosedTask, DiagnosisResult, FailureExample

HOSTILE = "</svg><script>alert(1)</script>\x00\u202e"


def found(num_tasks: int, hostile: str = "") -> DiagnosisResult:
    tasks = tuple(
        DiagnosedTask(
            task=f"task_{i}{hostile}", capability=f"capability_{i % 3}", score=i % 101, interval=(0, 100), weak=i < 2,
            reason="because" + hostile, num_rows=9, target=None if i == 5 else 50, p_value=0.5, q_value=0.5,
            earlier=(None, 3.0), trend=("rose", "fell", "no conclusion")[i % 3], failure_kinds={"wrong" + hostile: 3},
            examples=(FailureExample(id="r", kind="wrong", value=0, prompt="p" + hostile, output="", target="g"),),
        )
        for i in range(num_tasks)
    )  # fmt: skip
    names = sorted({task.capability for task in tasks})
    capabilities = tuple(
        DiagnosedCapability(
            capability=name, num_tasks=sum(t.capability == name for t in tasks), num_weak=0, score=50,
            interval=(40, 60), target=50,
        )
        for name in names
    )  # fmt: skip
    return DiagnosisResult(
        model="m" + hostile, rule="rule" + hostile, threshold=50, tasks=tasks, capabilities=capabilities,
        weak_bucket=("task_0",), earlier=("a", "b"),
    )  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "link", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(("num_tasks", "hostile"), [(1, ""), (12, HOSTILE), (85, "")])
def test_the_page_is_whole_and_nothing_in_it_runs(tmp_path: Path, num_tasks: int, hostile: str) -> None:
    text = write_diagnosis_page(found(num_tasks, hostile), tmp_path).read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and "script" not in tags.seen and "http://" not in text and "\x00" not in text
    assert text.count("<svg") == 2 and (tmp_path / PAGE).is_file()
    assert text == write_diagnosis_page(found(num_tasks, hostile), tmp_path).read_text()


def test_the_map_has_a_cell_for_every_task_and_tells_weak_ones_without_colour() -> None:
    svg = capability_map(found(12))
    assert svg.count("task_") >= 12 and "weak: task_0" in svg
    assert svg.count("stroke-width: 2") >= 2 and "↑" in svg and "↓" in svg


def test_a_result_from_before_capabilities_has_no_map() -> None:
    task = DiagnosedTask(task="t", capability="c", score=1, interval=(0, 2), weak=True, reason="x")
    old = DiagnosisResult(model="m", rule="r", tasks=(task,), weak_bucket=("t",))
    assert diagnosis_view(old, "d")["map"] is None
