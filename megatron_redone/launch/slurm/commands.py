"""Slurm's programs, and what they answer. Imports no torch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.common.errors import InputError

SECONDS = 60
"""Until a program that does not answer is given up: the controller may be restarting."""


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue."""

    number: str
    """Number of the job, of an array's task with `_` and its place."""
    state: str
    nodes: str
    reason: str
    restarts: int


def call(program: str, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """What the program wrote.

    Raises:
        InputError: there is no such program, or it refused; the error holds its own message.
    """
    if shutil.which(program) is None:
        raise InputError(f"{program}: no such program; Slurm's commands are found on a login node of the cluster")
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=SECONDS, env=environ, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{program} did not answer in {SECONDS} s; look whether slurmctld runs (scontrol ping)"
        ) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").replace("\n", "; ")
        raise InputError(f"{program} refused: {said}")
    return done.stdout


def submit(batch_file: Path, after: Sequence[str], environ: Mapping[str, str]) -> str:
    """Hands a batch file to Slurm, to start when the jobs `after` have ended well; the new job's number."""
    dependency = [f"--dependency=afterok:{':'.join(after)}"] if after else []
    answer = call("sbatch", "--parsable", *dependency, str(batch_file), environ=environ)
    return answer.strip().splitlines()[-1].partition(";")[0]


def would_take(batch_file: Path, environ: Mapping[str, str]) -> None:
    """Asks Slurm whether it would take the job, without handing it over.

    Raises:
        InputError: it would not; the message is sbatch's own.
    """
    call("sbatch", "--test-only", str(batch_file), environ=environ)


def queued(numbers: Sequence[str]) -> dict[str, list[QueuedJob]]:
    """Of these jobs those that Slurm still knows, by number; an array has a line for each task."""
    if not numbers:
        return {}
    found: dict[str, list[QueuedJob]] = {}
    for number in numbers:
        try:
            text = call("squeue", "--noheader", "--states=all", "--jobs", number, "--Format", FORMAT)
        except InputError as error:
            if "Invalid job id" in str(error):
                continue
            raise
        for line in text.splitlines():
            array, task, state, nodes, restarts, reason = (part.strip() for part in line.split("|")[:6])
            label = f"{array}_{task}" if task != "N/A" else array
            entry = QueuedJob(label, state, nodes, reason, int(restarts) if restarts.isdecimal() else 0)
            found.setdefault(number, []).append(entry)
    return found


FORMAT = ",".join(f"{field}:|" for field in ("ArrayJobID", "ArrayTaskID", "State", "NodeList", "RestartCnt", "Reason"))


def partitions() -> dict[str, tuple[int, int, str]]:
    """Partition -> (nodes, GPUs of a node, longest time)."""
    found: dict[str, tuple[int, int, str]] = {}
    for line in call("sinfo", "--noheader", "--format", "%R|%D|%G|%l").splitlines():
        name, nodes, gres, limit = (part.strip() for part in line.split("|"))
        before = found.get(name, (0, 0, limit))
        found[name] = (before[0] + int(nodes), max(before[1], gpus_of(gres)), limit)
    return found


def gpus_of(gres: str) -> int:
    """GPUs of a node by its generic resources: `gpu:h100:8(S:0-1)` has 8."""
    total = 0
    for entry in gres.split(","):
        parts = entry.partition("(")[0].split(":")
        if parts[0] == "gpu" and parts[-1].isdecimal():
            total += int(parts[-1])
    return total


def cancel(numbers: Sequence[str]) -> None:
    """Ends the jobs, running or waiting; those that have ended already stay as they are."""
    if numbers:
        call("scancel", *numbers)
