"""The mini recipe with a changed input, stage by stage in processes of its own, and killed at random moments."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from megatron_redone.recipes.graph import load_recipe
from megatron_redone.recipes.workspace import MANIFEST
from tests.integration.mini_recipe import (
    RECIPE,
    SECONDS,
    STAGES,
    artefact_hashes,
    command,
    copy_without,
    manifest,
    run_here,
    start,
    table_of,
)

LATE = ["refine.seed1", "sft_only.seed1", "judged.seed1"]


def made_at(output: Path) -> dict[str, int]:
    """When each artefact was published."""
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob(f"*/{MANIFEST}")}


def readers_of(inputs: set[str], recipe: Path) -> set[str]:
    """Stage runs that read one of these paths, directly or through other stages."""
    found: set[str] = set()
    for run in load_recipe(recipe).runs:
        if (inputs | found) & set(run.inputs.values()):
            found.add(run.id)
    return found


@pytest.fixture
def with_files(finished_run: Path, tmp_path: Path) -> Path:
    """A recipe whose last stages read files from outside, and its run."""
    for name in ("data", "warmup_set"):
        shutil.copytree(finished_run / name, tmp_path / name, ignore=shutil.ignore_patterns(MANIFEST))
    text = RECIPE.read_text(encoding="utf-8")
    head, _, tail = text.rpartition("    conversations: warmup_set\n")
    text = head + "    conversations: ./warmup_set\n" + tail
    text = text.replace("model: refine}", "model: refine, evaluate: {data: ./data}}")
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    copy_without(finished_run, tmp_path / "run", ["sft_only.seed1", "judged.seed1"])
    assert run_here(tmp_path / "run", recipe=tmp_path / "recipe.yaml") == 0
    return tmp_path


def test_changing_one_input_file_runs_exactly_the_stages_that_depend_on_it(with_files: Path) -> None:
    recipe, output = with_files / "recipe.yaml", with_files / "run"
    for path, file, expected in (
        ("./data", "data/test.jsonl", {"judged.seed1"}),
        ("./warmup_set", "warmup_set/conversations.jsonl", {"sft_only.seed1"}),
    ):
        assert readers_of({path}, recipe) == expected
        lines = (with_files / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (with_files / file).write_text("".join(lines[1:]), encoding="utf-8")
        before = made_at(output)
        assert run_here(output, recipe=recipe) == 0
        after = made_at(output)
        assert {stage for stage in after if after[stage] != before.get(stage)} == expected
    assert manifest(output, "judged.seed1")["inputs"]["evaluate.data"]["path"] == "./data"


@pytest.mark.distributed
def test_a_stage_in_a_process_of_its_own_gives_what_a_whole_run_gives(finished_run: Path, tmp_path: Path) -> None:
    output = copy_without(finished_run, tmp_path / "run", LATE)
    done = subprocess.run(
        command(output, "--only", "refine"), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert run_here(output, "--only", "judged") == run_here(output, "--only", "sft_only.seed1") == 0
    assert artefact_hashes(output) == artefact_hashes(finished_run)
    assert table_of(output) == table_of(finished_run)
    assert {one["status"] for one in json.loads((output / "run.json").read_text())["stages"]} == {"done"}


def killed_at(output: Path, stage: str, seconds: float, arguments: Sequence[str]) -> bool:
    """Starts the run and kills it so long after a stage began; False when the run was done before that."""
    process = start(output, *arguments)
    give_up = time.monotonic() + SECONDS
    while process.poll() is None and not ((output / ".work" / stage).exists() or (output / stage / MANIFEST).exists()):
        assert time.monotonic() < give_up, f"{stage} did not begin"
        time.sleep(0.01)
    moment = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < moment:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    said = process.communicate(timeout=SECONDS)[1]
    assert not psutil.wait_procs(children, timeout=SECONDS)[1]
    assert process.returncode in (0, -signal.SIGKILL), said
    return process.returncode != 0


def kill_and_finish(
    output: Path, whole: Path, stages: Sequence[str], kills: int, arguments: Sequence[str] = ()
) -> None:
    """Kills the run at random moments of random stages, in their order, then lets it end."""
    draw = random.Random(kills)
    chosen = sorted(draw.choices(stages, k=kills), key=stages.index)
    times = [draw.uniform(0.0, 1.5) * max(0.2, manifest(whole, stage)["seconds"]) for stage in chosen]
    num_killed = sum(killed_at(output, stage, wait, arguments) for stage, wait in zip(chosen, times, strict=True))
    assert num_killed > 0
    assert run_here(output, *arguments) == 0
    assert artefact_hashes(output) == artefact_hashes(whole)
    assert table_of(output) == table_of(whole)
    assert not list((output / ".work").iterdir())


@pytest.mark.distributed
def test_a_recipe_killed_at_two_random_moments_ends_with_the_same_artefacts(finished_run: Path, tmp_path: Path) -> None:
    kill_and_finish(copy_without(finished_run, tmp_path / "run", LATE), finished_run, LATE, kills=2)


@pytest.mark.slow
@pytest.mark.distributed
def test_a_recipe_killed_at_ten_random_moments_ends_with_the_same_artefacts(finished_run: Path, tmp_path: Path) -> None:
    kill_and_finish(tmp_path / "run", finished_run, STAGES, kills=10)
