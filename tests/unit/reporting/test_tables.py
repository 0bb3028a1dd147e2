from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path

import pytest

from megatron_redone.reporting.run_files import RunFiles, load_run
from megatron_redone.reporting.schema import EvaluationResult
from megatron_redone.reporting.tables import ScoreTable, TableRow, build_table, signed, to_html, to_markdown
from tests.unit.reporting.synthetic_run import TASKS, folder_of, write_run


def row_of(table: ScoreTable, label: str) -> TableRow:
    return next(row for row in table.rows if row.label == label)


def results_of(files: RunFiles, name: str) -> list[EvaluationResult]:
    return [stage.evaluation for stage in files.of_name(name) if stage.evaluation]


def edit_result(run: Path, folder: str, **changes: object) -> None:
    path = run / folder / "evaluation" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_cells_are_means_and_spreads_over_seeds(tmp_path: Path) -> None:
    files = load_run(write_run(tmp_path))
    table = build_table(files)
    names = [column.name for column in table.columns]
    assert names == ["always empty", "majority", "warmup", "explore", "target", "refine", "sft_only"]
    assert [column.group for column in table.columns] == ["baseline"] * 2 + ["stage"] * 4 + ["arm"]
    cell = row_of(table, "note_ner").cells[names.index("refine")]
    scores = [{s.task: s for s in result.tasks}["note_ner"] for result in results_of(files, "refine")]
    assert cell is not None and len(cell.values) == 3
    assert cell.mean == pytest.approx(statistics.fmean(score.score for score in scores))
    assert cell.spread == pytest.approx(statistics.stdev(score.score for score in scores))
    assert cell.interval is not None
    assert cell.interval[0] == pytest.approx(min(score.interval[0] for score in scores))
    assert cell.interval[1] == pytest.approx(max(score.interval[1] for score in scores))


def test_a_single_result_has_no_spread(tmp_path: Path) -> None:
    table = build_table(load_run(write_run(tmp_path)))
    warmup = table.overall_of("warmup")
    assert warmup is not None and warmup.spread is None and "±" not in warmup.text


def test_means_by_capability_and_overall(tmp_path: Path) -> None:
    files = load_run(write_run(tmp_path))
    table = build_table(files)
    place = [column.name for column in table.columns].index("warmup")
    (result,) = results_of(files, "warmup")
    of_capability = [s.score for s in result.tasks if s.capability == "semantic matching"]
    capability, overall = row_of(table, "semantic matching"), row_of(table, "mean of all tasks")
    assert capability.kind == "capability" and capability.num_rows == 200
    assert capability.cells[place].mean == pytest.approx(statistics.fmean(of_capability))  # type: ignore[union-attr]
    assert overall.cells[place].mean == pytest.approx(result.mean_score)  # type: ignore[union-attr]
    assert sum(row.kind == "task" for row in table.rows) == len(TASKS)
    assert sum(row.kind == "capability" for row in table.rows) == len(set(TASKS.values()))


def test_the_overall_mean_is_the_benchmarks_own(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    edit_result(run, "warmup", mean_score=77.0)
    overall = build_table(load_run(run)).overall_of("warmup")
    assert overall is not None and overall.mean == 77.0


def test_the_interval_of_a_mean_is_narrower_than_that_of_its_tasks(tmp_path: Path) -> None:
    table = build_table(load_run(write_run(tmp_path)))
    widths = {}
    for label in ("note_ner", "mean of all tasks"):
        cell = row_of(table, label).cells[2]
        assert cell is not None and cell.interval is not None
        assert cell.interval[0] < cell.mean < cell.interval[1]
        widths[label] = cell.interval[1] - cell.interval[0]
    assert widths["mean of all tasks"] < 0.5 * widths["note_ner"]


def test_changes_say_no_conclusion_where_intervals_overlap(tmp_path: Path) -> None:
    table = build_table(load_run(write_run(tmp_path)))
    better, unclear = row_of(table, "hashtag_single").change, row_of(table, "query_note_yes_no").change
    assert better is not None and better.verdict == "better" and better.points > 20
    assert unclear is not None and unclear.verdict == "no conclusion"


def test_a_clear_loss_is_called_worse(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    path = run / "run.json"
    value = json.loads(path.read_text())
    value["comparison"] = {"before": "refine", "after": "warmup", "arms": []}
    path.write_text(json.dumps(value))
    change = row_of(build_table(load_run(run)), "hashtag_single").change
    assert change is not None and change.verdict == "worse" and change.points < -20


def test_weak_tasks_are_marked_with_their_number_of_seeds(tmp_path: Path) -> None:
    table = build_table(load_run(write_run(tmp_path / "three")))
    assert row_of(table, "next_query").weak == "weak 3/3"
    assert row_of(table, "hashtag_single").weak == ""
    assert row_of(build_table(load_run(write_run(tmp_path / "one", seeds=(1,)))), "next_query").weak == "weak"


def test_a_task_that_a_seed_lacks_is_left_blank_not_averaged(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / folder_of("refine", 2) / "evaluation" / "results.json"
    value = json.loads(path.read_text())
    value["tasks"] = [task for task in value["tasks"] if task["task"] != "note_ner"]
    path.write_text(json.dumps(value))
    table = build_table(load_run(run))
    place = [column.name for column in table.columns].index("refine")
    for label in ("note_ner", "information extraction", "mean of all tasks"):
        assert row_of(table, label).cells[place] is None and row_of(table, label).change is None
    assert row_of(table, "note_taxonomy_single").cells[place] is not None


def test_different_splits_and_row_counts_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    edit_result(run, "warmup", split="validation")
    path = run / folder_of("refine", 1) / "evaluation" / "results.json"
    value = json.loads(path.read_text())
    value["tasks"][0]["num_rows"] = 7
    path.write_text(json.dumps(value))
    notes = build_table(load_run(run)).notes
    assert any("test, validation" in note for note in notes)
    assert any("note_taxonomy_single" in note for note in notes)


def test_equal_results_give_equal_bytes_whatever_the_time(tmp_path: Path) -> None:
    tables = []
    for name in ("first", "second"):
        run = write_run(tmp_path / name)
        if name == "second":
            for path in run.rglob("*.json"):
                value = json.loads(path.read_text())
                if isinstance(value, dict) and "seconds" in value:
                    path.write_text(json.dumps(value | {"seconds": 999.0}))
        tables.append(build_table(load_run(run)))
    assert to_markdown(tables[0]) == to_markdown(tables[1])
    assert to_html(tables[0]) == to_html(tables[1])
    assert str(tmp_path) not in to_markdown(tables[0])


def test_markdown_has_one_cell_a_column_in_every_line(tmp_path: Path) -> None:
    markdown = to_markdown(build_table(load_run(write_run(tmp_path))))
    lines = markdown.rstrip().split("\n")
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].startswith("| task | rows | baseline: always empty | baseline: majority | warmup |")
    assert "| **mean of all tasks** | 1200 |" in markdown
    assert "| next_query (weak 3/3) | 100 |" in markdown


def test_names_cannot_break_the_table(tmp_path: Path) -> None:
    table = build_table(load_run(write_run(tmp_path, seeds=(1,), hostile="<b>|\n")))
    markdown = to_markdown(table)
    assert len({line.count("|") - line.count("\\|") for line in markdown.rstrip().split("\n")}) == 1
    assert "<b>" not in markdown and "<b>" not in to_html(table)
    assert "note_<wbr>ner&lt;b&gt;" in to_html(table)


def test_a_run_without_results_gives_an_empty_table(tmp_path: Path) -> None:
    files = dataclasses.replace(load_run(write_run(tmp_path, seeds=(1,), upto="data")), baselines=())
    table = build_table(files)
    assert table.columns == () and table.num_tasks == 0 and table.overall == ()
    assert to_markdown(table).startswith("| task | rows |")


def test_signs() -> None:
    assert [signed(value) for value in (1.26, -1.26, 0.0, -0.01)] == ["+1.3", "-1.3", "0.0", "0.0"]
