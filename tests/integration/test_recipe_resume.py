"""A run that was killed or stopped ends with the artefacts of a run that was not.

A process is stopped as soon as its stage has named a first checkpoint; the stage has many more steps to go.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.integration.mini_recipe import (
    SECONDS,
    artefact_hashes,
    checkpoint_of,
    copy_without,
    manifest,
    run_here,
    start,
    table_of,
    wait_until,
)

LEFT = ["refine.seed1", "sft_only.seed1", "judged.seed1"]
"""Stages that are not done when the interrupted run begins."""
LONG = [
    "refine.num_rollouts=10", "refine.checkpoint.every=2",
    "sft_only.match_compute_of=[]", "sft_only.steps=40", "sft_only.checkpoint.every=10",
]  # fmt: skip

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def whole(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an interrupted run has to come to: the same stages without an interruption."""
    output = copy_without(finished_run, tmp_path_factory.mktemp("whole") / "run", LEFT)
    assert run_here(output, *LONG) == 0
    return output


@pytest.fixture
def begun(finished_run: Path, tmp_path: Path) -> Path:
    return copy_without(finished_run, tmp_path / "run", LEFT)


def status_of(output: Path) -> dict[str, str]:
    return {stage["folder"]: stage["status"] for stage in json.loads((output / "run.json").read_text())["stages"]}


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what was said, in one line."""
    said = process.communicate(timeout=SECONDS)[1]
    return process.returncode, " ".join(said.split())


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=SECONDS)[1]


def assert_equal_after_resume(output: Path, whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert run_here(output, *LONG) == 0
    assert "refine.seed1: going on from step" in capfd.readouterr().err
    assert artefact_hashes(output) == artefact_hashes(whole)
    assert table_of(output) == table_of(whole)
    assert set(status_of(output).values()) == {"done"}


def test_a_killed_run_goes_on_from_its_checkpoint(begun: Path, whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process = start(begun, *LONG)
    wait_until(checkpoint_of(begun, "refine.seed1").exists, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert end_of(process)[0] == -signal.SIGKILL and gone(children)
    assert not (begun / "refine.seed1").exists()
    assert_equal_after_resume(begun, whole, capfd)
    assert manifest(begun, "refine.seed1")["counts"] == manifest(whole, "refine.seed1")["counts"]


@pytest.mark.parametrize(
    ("number", "code", "error"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGUSR1, 75, "Preempted")]
)
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(
    begun: Path, whole: Path, capfd: pytest.CaptureFixture[str], number: int, code: int, error: str
) -> None:
    process = start(begun, *LONG)
    wait_until(checkpoint_of(begun, "refine.seed1").exists, process)
    process.send_signal(number)
    ended, said = end_of(process)
    assert ended == code
    assert f"{error}: refine.seed1: stopped after step" in said and "the same command goes on from there" in said
    assert "Traceback" not in said
    assert status_of(begun)["refine.seed1"] == "interrupted" and not (begun / "refine.seed1").exists()
    assert_equal_after_resume(begun, whole, capfd)


def test_a_time_limit_stops_after_a_step(begun: Path, whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_here(begun, "--exit-after-minutes", "0", *LONG) == 75
    said = " ".join(capfd.readouterr().err.split())
    assert "Preempted: refine.seed1: stopped after step 1 of 10" in said
    assert_equal_after_resume(begun, whole, capfd)


def test_workers_end_with_their_run_and_stop_with_it(
    begun: Path, whole: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = start(begun, "workers=2", *LONG)
    wait_until(checkpoint_of(begun, "refine.seed1").exists, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert end_of(process)[0] == -signal.SIGKILL and gone(workers)
    killed_at = checkpoint_of(begun, "refine.seed1").read_text()

    process = start(begun, "workers=2", *LONG)
    wait_until(lambda: checkpoint_of(begun, "refine.seed1").read_text() != killed_at, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)  # to the run alone, which has to tell its workers
    code, said = end_of(process)
    assert code == 75 and "the same command goes on" in said and "Traceback" not in said
    assert gone(workers)
    status = status_of(begun)
    assert status["refine.seed1"] == "interrupted" and status["judged.seed1"] == "pending"
    assert_equal_after_resume(begun, whole, capfd)


def test_ctrl_c_on_two_tensor_parallel_ranks_and_going_on_with_one(
    begun: Path, whole: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = start(begun, "--nproc", "2", "parallel.tp=2", *LONG)
    wait_until(checkpoint_of(begun, "refine.seed1").exists, process)
    ranks = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    code, said = end_of(process)
    assert code == 130 and "the same command goes on from there" in said and "Traceback" not in said
    assert gone(ranks)
    capfd.readouterr()
    assert run_here(begun, "--only", "refine", *LONG) == 0
    assert "refine.seed1: going on from step" in capfd.readouterr().err
    assert manifest(begun, "refine.seed1")["counts"]["steps"] == manifest(whole, "refine.seed1")["counts"]["steps"]
