from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from megatron_redone.reporting.curves import (
    MOST_POINTS,
    curve_chart,
    mean_curve,
    stage_curves,
    task_reward_chart,
    thinned,
)
from megatron_redone.reporting.lineage import build_lineage
from megatron_redone.reporting.lineage_chart import lineage_chart
from megatron_redone.reporting.plots import change_chart, diagnosis_chart, stage_chart, time_chart
from megatron_redone.reporting.run_files import RunFiles, load_run
from megatron_redone.reporting.svg import short, stacked
from megatron_redone.reporting.tables import build_table
from megatron_redone.reporting.timing import stage_times
from tests.unit.reporting.synthetic_run import TASKS, diagnosis, folder_of, write_run

HOSTILE = '<script>"&任务$\x07'


def all_charts(files: RunFiles) -> dict[str, str]:
    table = build_table(files)
    curves = next(entry for entry in stage_curves(files) if entry.stage == "explore")
    found = files.of_name("diagnose")[0].diagnosis
    assert found is not None
    return {
        "stages": stage_chart(table),
        "changes": change_chart(table, "warmup", "refine"),
        "diagnosis": diagnosis_chart(found),
        "times": time_chart(stage_times(files)),
        "lineage": lineage_chart(build_lineage(files)),
        "curve": curve_chart("reward", curves.primary["reward"], "curve"),
        "tasks": task_reward_chart(curves.by_task, "tasks"),
    }


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return all_charts(load_run(write_run(tmp_path_factory.mktemp("run"), hostile=HOSTILE)))


def test_every_chart_is_one_svg_that_says_what_it_shows(charts: dict[str, str]) -> None:
    for name, svg in charts.items():
        root = ElementTree.fromstring(svg)
        assert root.tag == "svg" and root.get("role") == "img", name
        assert root.get("aria-label") and root.findtext("title") == root.get("aria-label"), name
        assert len(list(root.iter("path"))) > 3 and len(list(root.iter("text"))) > 3, name


def test_charts_hold_no_address_script_date_or_fixed_colour(charts: dict[str, str]) -> None:
    for name, svg in charts.items():
        assert not re.search(r"https?:|xmlns|<script|<style|<image|data:", svg), name
        assert not re.search(r"(?:fill|stroke): #", svg), name
        assert "var(--ink)" in svg, name


def test_ids_belong_to_their_chart_and_references_meet_them(charts: dict[str, str]) -> None:
    for name, svg in charts.items():
        ids = re.findall(r' id="([^"]+)"', svg)
        references = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert len(ids) == len(set(ids)) and set(references) == set(ids), name
        assert all(found.startswith(f"{name}-") for found in ids), name


def test_charts_are_equal_in_every_byte_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from megatron_redone.reporting.run_files import load_run; "
        "from tests.unit.reporting.test_charts import all_charts; "
        "sys.stdout.reconfigure(encoding='utf-8'); "
        "print(''.join(all_charts(load_run(Path(sys.argv[1]))).values()), end='')"
    )
    run = write_run(tmp_path, seeds=(1, 2))
    here = "".join(all_charts(load_run(run)).values())
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(run)]
    there = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert there == here.encode()


def test_charts_stand_single_values_and_nothing(tmp_path: Path) -> None:
    partial = load_run(write_run(tmp_path, seeds=(1,), upto="warmup"))
    assert "warmup 1" in stage_chart(build_table(partial))
    nothing = load_run(write_run(tmp_path / "bare", seeds=(1,), upto="data"))
    assert "nothing evaluated" in stage_chart(build_table(nothing))
    assert "data" in lineage_chart(build_lineage(nothing))
    assert "<svg" in curve_chart("loss", {None: [(1, 2.0)]}, "curve")
    assert "<svg" in curve_chart("loss", {1: [(1, 2.0), (2, float("nan"))], 2: [(5, 2.0)]}, "curve")


def test_the_diagnosis_chart_names_the_weak_tasks(tmp_path: Path) -> None:
    files = load_run(write_run(tmp_path, seeds=(1,)))
    found = diagnosis(files.of_name("diagnose")[0].stage)
    svg = diagnosis_chart(found)
    assert "weak: " + ", ".join(found.weak_bucket) in svg
    assert "var(--orange)" in svg
    calm = found.model_copy(
        update={
            "tasks": tuple(task.model_copy(update={"weak": False}) for task in found.tasks),
            "weak_bucket": (),
        }
    )
    assert "weak: none" in diagnosis_chart(calm) and "var(--orange)" not in diagnosis_chart(calm)


def test_curves_are_sorted_into_first_others_and_tasks(tmp_path: Path) -> None:
    curves = {entry.stage: entry for entry in stage_curves(load_run(write_run(tmp_path)))}
    assert list(curves) == ["cpt", "warmup", "explore", "target", "refine", "sft_only"]
    explore = curves["explore"]
    assert list(explore.primary) == [
        "loss",
        "reward",
        "entropy",
        "response_length",
        "clip_share",
        "groups_thrown_away",
    ]
    assert list(explore.other) == ["grad_norm", "learning_rate", "tokens_per_second"]
    assert list(explore.by_task) == sorted(TASKS)
    assert list(explore.primary["loss"]) == [1, 2, 3]


def test_labels_are_cut_and_stacked() -> None:
    assert short("a long name\nof two lines", 8) == "a long …"
    assert stacked("warmup", 9) == "warmup"
    assert stacked("sft_only_same_compute", 10) == "sft_only_\nsame_comp…"
    assert stacked("unbreakablelongname", 6) == "unbre…"


def test_the_mean_curve_uses_the_steps_all_seeds_have() -> None:
    assert mean_curve([[(1, 1.0), (2, 2.0), (3, 9.0)], [(2, 4.0), (1, 3.0)]]) == [(1, 2.0), (2, 3.0)]


def test_long_curves_are_thinned_to_means() -> None:
    curve = [(float(step), float(step)) for step in range(1000)]
    thin = thinned(curve)
    assert len(thin) == MOST_POINTS
    assert sum(value for _, value in thin) / len(thin) == pytest.approx(499.5, rel=1e-2)
    assert thinned(curve[:5]) == curve[:5]


def test_lineage_follows_inputs_to_the_stage_that_made_them(tmp_path: Path) -> None:
    lineage = build_lineage(load_run(write_run(tmp_path)))
    names = [node.name for node in lineage.nodes]
    arrows = {(names[e.producer], names[e.consumer]): e.artefacts for e in lineage.edges}
    assert arrows[("explore", "target")] == ("model",)
    assert arrows[("diagnose", "target")] == ("bucket",)
    assert arrows[("data", "sft_only")] == ("rows",)
    assert ("refine", "sft_only") not in arrows
    data, explore, arm = (lineage.nodes[names.index(name)] for name in ("data", "explore", "sft_only"))
    assert data.outside == ("word lists",) and data.num_seeds == 0
    assert explore.num_seeds == 3 and arm.is_arm and not explore.is_arm


def test_lineage_falls_back_on_equal_hashes_and_reads_absolute_paths(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    manifest = run / folder_of("refine", 1) / "manifest.json"
    wanted = f"{len('cpt'):064x}"
    text = manifest.read_text().replace('"target.seed1/model"', '"/elsewhere/copy"', 1)
    manifest.write_text(text.replace(f"{len('target'):064x}", wanted, 1))
    absolute = run / "warmup" / "manifest.json"
    absolute.write_text(absolute.read_text().replace('"cpt/model"', f'"{run}/cpt/model"'))
    lineage = build_lineage(load_run(run))
    names = [node.name for node in lineage.nodes]
    arrows = {(names[e.producer], names[e.consumer]): e.artefacts for e in lineage.edges}
    assert arrows[("cpt", "refine")] == ("model",) and ("target", "refine") not in arrows
    assert arrows[("cpt", "warmup")] == ("model",)
