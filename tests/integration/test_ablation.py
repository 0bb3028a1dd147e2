"""`redone ablate` over the mini recipe: what stands is not run again, and an arm of its own is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from megatron_redone.cli.main import main
from tests.integration.mini_recipe import RECIPE, artefact_hashes, process_restored

FILE = """\
name: mini_ablation
output: {output}
recipe: {recipe}
seeds: [1]
baseline: base
seesaw: null
groups: {{sns: {{but_capabilities: [general]}}}}
num_resamples: 200
arms:
  base: {{result: warmup}}
  rl: {{result: explore}}
  all: {{result: refine}}
"""
SFT_FIRST = "  sft_rl: {remove: [explore], result: refine}\n"


def ablation_file(folder: Path, more: str = "") -> Path:
    path = folder / "ablation.yaml"
    path.write_text(FILE.format(output=folder / "run", recipe=RECIPE) + more, encoding="utf-8")
    return path


def ablate(path: Path, *arguments: str) -> int:
    with process_restored():
        return main(["ablate", str(path), *arguments])


def test_arms_whose_stages_stand_run_nothing_and_get_their_table(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*/manifest.json")}
    assert ablate(ablation_file(tmp_path)) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*/manifest.json")} == before
    result = json.loads((tmp_path / "run/ablation.json").read_text())
    assert [arm["seeds"] for arm in result["arms"]] == [[None], [1], [1]] and result["gaps"] == []
    assert (tmp_path / "run/ablation.html").is_file() and "| all |" in (tmp_path / "run/ablation.md").read_text()


def test_a_dry_run_names_the_arms_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(ablation_file(tmp_path, SFT_FIRST), "--dry-run") == 0
    told = capsys.readouterr().out
    assert "target-sft_rl" in told and "stages stand for" in told
    assert not (tmp_path / "run").exists()


def test_an_unknown_arm_is_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(ablation_file(tmp_path), "--arm", "sft") == 2
    assert "--arm sft is no arm; arms: base, rl, all" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_arm_that_differs_trains_its_own_stages_and_no_others(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    before = artefact_hashes(tmp_path / "run")
    path = ablation_file(tmp_path, SFT_FIRST)
    assert ablate(path, "--arm", "sft_rl") == 0
    after = artefact_hashes(tmp_path / "run")
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        "diagnose-sft_rl.seed1", "target_set-sft_rl.seed1", "target-sft_rl.seed1", "refinement_set-sft_rl.seed1",
        "refine-sft_rl.seed1",
    }  # fmt: skip
    assert after["target-sft_rl.seed1"] != after["target.seed1"]
    (tmp_path / "run/refine-sft_rl.seed1").rename(tmp_path / "taken")
    assert ablate(path) == 0
    assert artefact_hashes(tmp_path / "run") == after, "the same arm again gives the same model"
