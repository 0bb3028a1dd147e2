"""The local cluster as tests use it: submit, look, break something, wait with a bound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.jsonl import read_jsonl, read_jsonl_lenient
from megatron_redone.launch.slurm.events import Event, read_events

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "examples" / "slurm" / "recipe.yaml"
PROFILE = Path(__file__).with_name("profile.yaml")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
SECONDS = 600
"""Until a test that waits for a job gives up; on a quiet machine nothing takes a tenth of it."""


@dataclass(frozen=True)
class Cluster:
    """A running local cluster."""

    folder: Path
    environ: dict[str, str]

    def control(self, *arguments: str) -> str:
        """`slurm/local_cluster.sh`."""
        return self._said([str(ROOT / "slurm" / "local_cluster.sh"), *arguments])

    def slurm(self, *command: str) -> str:
        """A program of Slurm."""
        return self._said(list(command))

    def redone(self, *arguments: str, code: int = 0) -> str:
        """`redone ARGUMENTS`, which must end with `code`; what it wrote."""
        done = self._run([sys.executable, "-m", "megatron_redone.cli", *arguments])
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def submit(self, run: Path, *arguments: str, recipe: Path = RECIPE, profile: Path = PROFILE, code: int = 0) -> str:
        """`redone submit` of two nodes into a run folder."""
        fixed = (str(recipe), f"output={run}", "--cluster", str(profile), "--nodes", "2")
        return self.redone("submit", *fixed, *arguments, code=code)

    def number(self, run: Path, job: str) -> str:
        """The job's number."""
        jobs = json.loads((run / "slurm" / "jobs.json").read_text())["jobs"]
        return next(str(entry["number"]) for entry in jobs if entry["name"] == job)

    def state(self, run: Path, job: str) -> str:
        """Slurm's word for the job."""
        shown = self.slurm("scontrol", "-o", "show", "job", self.number(run, job))
        return shown.partition("JobState=")[2].split()[0]

    def wait_for(self, what: str, condition: Callable[[], Any], run: Path | None = None) -> Any:
        """Looks until the condition gives something; what it gave."""
        give_up = time.monotonic() + SECONDS
        while not (value := condition()):
            if time.monotonic() > give_up:
                raise AssertionError(f"waited {SECONDS} s for: {what}\n{self._situation(run)}")
            time.sleep(0.2)
        return value

    def wait_state(self, run: Path, job: str, *states: str) -> str:
        """Waits for the job to come to one of the states; an end in any other fails at once."""

        def look() -> str:
            state = self.state(run, job)
            ended = state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
            assert not ended or state in states, f"{job} ended as {state}\n{self._situation(run)}"
            return state if state in states else ""

        return str(self.wait_for(f"{job} to be {states}", look, run))

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    def _said(self, command: list[str]) -> str:
        done = self._run(command)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _situation(self, run: Path | None) -> str:
        parts = [self._run(["squeue", "-a", "--states=all"]).stdout, self._run(["sinfo", "-N"]).stdout]
        for path in sorted((run / "slurm").rglob("*.log")) if run is not None else []:
            parts.append(f"--- {path}\n" + path.read_text(errors="replace")[-3000:])
        return "\n".join(parts)


def events(run: Path, job: str) -> list[Event]:
    return read_events(run / "slurm" / job)


def verdicts(run: Path, job: str) -> list[str]:
    return [event.verdict for event in events(run, job) if event.verdict]


def steps_done(run: Path, stage: str) -> int:
    """Steps that the stage at work has finished."""
    path = run / ".work" / stage / "timing.jsonl"
    rows = [row for _, row, _ in read_jsonl_lenient(path)] if path.is_file() else []
    return max((int(row["step"]) + 1 for row in rows if row is not None), default=0)


def losses(run: Path, stage: str) -> list[dict[str, Any]]:
    """All that every step measured; equal in every bit where two are equal."""
    return [row for _, row in read_jsonl(run / stage / "metrics.jsonl")]


def nodes_by_attempt(run: Path, job: str) -> list[str]:
    return [event.words["nodes"] for event in events(run, job) if "began" in event.words]


def clean_environ() -> dict[str, str]:
    """The environment of a user's shell: nothing of what tests set for themselves."""
    ours = ("REDONE_SETTINGS", "TORCHDYNAMO_DISABLE", "SLURM_CONF")
    return {name: value for name, value in os.environ.items() if name not in ours}
