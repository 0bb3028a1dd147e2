"""The shell functions of `job.sh`. Programs of Slurm that they call are scripts here; tests/slurm has the real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from megatron_redone.launch.slurm.batch_file import functions

PROGRAMS = {"scontrol": "printf 'n1\\nn2\\n'", "sinfo": 'cat "$RUN_STATE/nodes" 2>/dev/null'}


def shell(folder: Path, script: str) -> str:
    """What a script writes that has sourced the functions, in a job on two nodes of two ranks."""
    (folder / "job.sh").write_text(functions())
    (folder / "attempt-0").mkdir(exist_ok=True)
    for name, body in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    environ = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]",
        "RUN_STATE": str(folder), "STATE": str(folder), "RANKS": "2", "NODE_FAILURES": "2",
    }  # fmt: skip
    command = ["bash", "-c", f"set -uo pipefail; source {folder}/job.sh; {script}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


LOST = "srun: error: n1: tasks 0-1: Exited with exit code 70\n"


@pytest.mark.parametrize(
    ("said", "node"),
    [
        (LOST + "srun: error: n2: task 3: Killed\n", "n2"),
        ("srun: error: n2: task 2: Segmentation fault\n" + LOST, "n2"),
        ("srun: First task exited 20s ago\nsrun: StepId=6.0 task 3: running\n" + LOST, "n2"),
        ("srun: StepId=6.0 task 0: running\n", "n1"),
        (LOST, ""),
        ("", ""),
    ],
)  # fmt: skip
def test_a_failure_is_laid_on_the_node_that_caused_it(tmp_path: Path, said: str, node: str) -> None:
    (tmp_path / "attempt-0").mkdir()
    (tmp_path / "attempt-0" / "srun.log").write_text(said)
    assert shell(tmp_path, "culprit") == node


def test_a_node_that_slurm_calls_down_is_the_cause(tmp_path: Path) -> None:
    (tmp_path / "attempt-0").mkdir()
    (tmp_path / "attempt-0" / "srun.log").write_text("srun: error: n1: task 0: Killed\n")
    for state in ("down", "down*", "idle*", "fail"):
        (tmp_path / "nodes").write_text(f"n1 allocated\nn2 {state}\n")
        assert shell(tmp_path, "culprit") == "n2"
    (tmp_path / "nodes").write_text("n1 allocated\nn2 draining\n")
    assert shell(tmp_path, "culprit") == "n1"


def test_a_node_is_excluded_after_its_second_failure(tmp_path: Path) -> None:
    assert shell(tmp_path, "excluded") == ""
    assert shell(tmp_path, "blame n2 lost; excluded") == ""
    assert shell(tmp_path, "blame n2 code=137; blame n1 lost; blame '' lost; excluded") == "n2"
    assert shell(tmp_path, "blame n1 lost; excluded") == "n1,n2"


def test_verdicts_are_counted_by_job(tmp_path: Path) -> None:
    lines = [
        "t job=7 attempt=0 ended code=75 verdict=requeued",
        "t job=7 attempt=1 ended code=70 verdict=crashed node=n1",
        "t job=77 attempt=0 ended code=75 verdict=requeued",
    ]
    (tmp_path / "events.log").write_text("\n".join(lines) + "\n")
    assert shell(tmp_path, "times requeued; times crashed; times lost; true").split() == ["1", "1", "0"]


def test_too_many_failures_end_the_job(tmp_path: Path) -> None:
    (tmp_path / "events.log").write_text("t job=7 attempt=0 verdict=lost\nt job=7 attempt=1 verdict=crashed\n")
    assert shell(tmp_path, "MAX_FAILURES=2; after_failure crashed; echo on") == "on"
    assert "verdict=failed why=crashed-more-than-1-times" in shell(
        tmp_path, "MAX_FAILURES=1; (after_failure crashed; echo on) || true"
    )


def test_logs_of_an_earlier_submission_are_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("6\n")
    (tmp_path / "attempt-0").mkdir()
    (tmp_path / "attempt-0" / "rank-0.log").write_text("old")
    assert "began nodes=n[1-2]" in shell(tmp_path, "begin; begin")
    assert (tmp_path / "before" / "6" / "attempt-0" / "rank-0.log").read_text() == "old"
    assert list((tmp_path / "attempt-0").iterdir()) == []
    assert (tmp_path / "job").read_text() == "7\n"
