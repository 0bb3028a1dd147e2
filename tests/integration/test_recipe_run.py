"""A whole recipe in small: what it leaves behind, and what it does not do twice."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from megatron_redone.common.files import sha256_file, sha256_path
from megatron_redone.recipes.config import STAGE_KINDS
from megatron_redone.reporting.run_files import load_run
from tests.integration.mini_recipe import (
    ROOT,
    SECONDS,
    STAGES,
    artefact_hashes,
    command,
    copy_without,
    manifest,
    run_here,
    table_of,
)


def contents(output: Path) -> dict[str, tuple[int, str]]:
    """Every file of the artefacts with its time and hash."""
    files = (path for folder in output.iterdir() if folder.is_dir() for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): (path.stat().st_mtime_ns, sha256_file(path)) for path in files}


PROVED_ALONE = {
    "sns_bench_rows", "interaction_logs", "interactions", "general_text", "filter", "tone_model", "regmix_mixtures",
    "regmix_proxies", "regmix_fit", "stats", "judge_agreement", "pairs", "dpo",
}  # fmt: skip
"""Kinds that no training stage of the recipe needs; tests of their own run them."""


def test_the_recipe_covers_every_kind_of_stage_on_the_way_to_a_trained_model(finished_run: Path) -> None:
    kinds = {stage.stage.kind for stage in load_run(finished_run).stages}
    assert kinds == set(STAGE_KINDS) - PROVED_ALONE


def test_every_stage_leaves_an_artefact_with_its_manifest(finished_run: Path) -> None:
    files = load_run(finished_run)
    assert [stage.stage.folder for stage in files.stages] == STAGES
    assert {stage.stage.status for stage in files.stages} == {"done"} and not files.gaps
    hashes = artefact_hashes(finished_run)
    for stage in files.stages:
        found = stage.manifest
        assert found is not None and found.status == "done"
        assert (found.stage, found.seeds) == (stage.stage.name, (stage.stage.seed or 0,))
        assert found.outputs["folder"].sha256 == sha256_path(finished_run / stage.stage.folder)
        for record in found.inputs.values():
            assert record.sha256 == hashes[record.path]
        assert found.versions["torch"] and found.machine["cores"] and found.code_version
    assert not list(finished_run.rglob("checkpoints")) and not list((finished_run / ".work").iterdir())


def test_counts_of_the_manifests_add_up(finished_run: Path) -> None:
    counts = {stage: manifest(finished_run, stage)["counts"] for stage in STAGES}
    assert counts["data"] == {
        "documents": 120, "rows/train": 36, "rows/validation": 12, "rows/diagnosis": 24, "rows/test": 24,
        "rows/general": 8,
    }  # fmt: skip
    assert counts["warmup_set"]["conversations"] == counts["explore_set"]["rows"] == 36
    assert counts["warmup"]["steps"] == 120 and counts["explore.seed1"]["steps"] == 3
    assert counts["refinement_set.seed1"]["rows"] == 12
    spent = sum(counts[stage]["compute_tokens"] for stage in ("explore.seed1", "refine.seed1"))
    assert counts["sft_only.seed1"]["matched_compute_tokens"] == spent
    assert counts["sft_only.seed1"]["steps"] == max(1, round(spent / (3 * 256)))


def test_held_out_answers_are_greedy_although_the_recipe_names_only_their_length(finished_run: Path) -> None:
    for stage in load_run(finished_run).stages:
        if stage.evaluation is not None:
            assert stage.evaluation.settings["temperature"] == 0.0
            assert (stage.evaluation.split, stage.evaluation.num_rows) == ("test", 24)


def test_the_report_is_one_file_that_loads_nothing(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text(encoding="utf-8")
    assert "query_note_relevance" in page and "judged" in page
    assert not re.search(r"""(?:src|href)=["'](?:https?:|//|[^#"'])""", page.replace("data:", "#"))


def test_a_second_run_changes_no_file(finished_run: Path, tmp_path: Path) -> None:
    output = copy_without(finished_run, tmp_path / "run", [])
    before = contents(output)
    assert run_here(output) == 0
    assert contents(output) == before
    assert not list((output / ".work").iterdir())


@pytest.mark.parametrize(
    ("overrides", "again"),
    [
        (["refine.num_rollouts=2"], {"refine.seed1", "sft_only.seed1", "judged.seed1"}),
        (["judged.evaluate.split=validation", "baselines.split=validation"], {"judged.seed1", "baselines"}),
    ],
)
def test_a_changed_setting_runs_that_stage_and_its_readers_again(
    finished_run: Path, tmp_path: Path, overrides: list[str], again: set[str]
) -> None:
    output = copy_without(finished_run, tmp_path / "run", [])
    before = contents(output)
    assert run_here(output, *overrides) == 0
    after = contents(output)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {name.split("/")[0] for name in changed} == again


@pytest.mark.distributed
def test_the_same_seeds_give_the_same_artefacts_and_table_with_two_workers(finished_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    done = subprocess.run(
        command(output, "workers=2"), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert artefact_hashes(output) == artefact_hashes(finished_run)
    assert table_of(output) == table_of(finished_run)


def test_another_seed_gives_other_artefacts(finished_run: Path, tmp_path: Path) -> None:
    later = [stage for stage in STAGES if stage.endswith(".seed1")]
    output = copy_without(finished_run, tmp_path / "run", later)
    assert run_here(output, "--only", "explore", "seeds=[2]") == 0
    assert manifest(output, "explore.seed2")["seeds"] == [2]
    hashes = artefact_hashes(finished_run)
    assert artefact_hashes(output)["explore.seed2"] not in hashes.values()
