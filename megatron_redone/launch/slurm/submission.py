"""A run's jobs: checked, written down, handed to Slurm, remembered. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.files import atomic_write_json, atomic_write_text
from megatron_redone.launch.slurm import commands
from megatron_redone.launch.slurm.batch_file import BATCH_FILE, FUNCTIONS, Job, Place, batch_file, functions
from megatron_redone.launch.slurm.config import ClusterConfig, NodesConfig, seconds_of
from megatron_redone.launch.threads import MARKER

RECORD = "jobs.json"
"""In the folder of the jobs: which they are, and their numbers in Slurm."""

OF_A_JOB = ("SLURM_", "SBATCH_", "SRUN_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_")
"""Variables that a job must not inherit from the shell of an interactive job."""


@dataclass(frozen=True)
class SubmittedJob:
    """What is remembered of a job."""

    name: str
    number: str
    after: tuple[str, ...]
    num_nodes: int
    num_ranks: int
    array: int | None
    stage: str | None
    """Stage of the recipe whose work folder shows its progress; None: a part of one, or none."""


def write_batch_files(jobs: Sequence[Job], cluster: ClusterConfig, place: Place) -> list[Path]:
    """Writes the batch file of every job and what they share; the paths, in order."""
    atomic_write_text(place.state / FUNCTIONS, functions())
    paths = []
    for job in jobs:
        path = place.folder(job.name) / BATCH_FILE
        atomic_write_text(path, batch_file(job, cluster, place))
        paths.append(path)
    return paths


def cluster_problems(jobs: Sequence[Job], cluster: ClusterConfig) -> list[str]:
    """What this cluster does not have of what the profile says; asks Slurm."""
    known = commands.partitions()
    problems: list[str] = []
    kinds: dict[str, tuple[NodesConfig, int]] = {}
    for job in jobs:
        kinds[job.name] = (job.nodes, job.num_nodes)
        if job.servers is not None:
            kinds[f"{job.name} (servers)"] = (job.servers.nodes, job.servers.num_nodes)
    for name, (nodes, num_nodes) in kinds.items():
        if nodes.partition is None:
            continue
        if nodes.partition not in known:
            problems.append(
                f"{name}: partition={nodes.partition!r} does not exist on this cluster; "
                f"it has: {', '.join(sorted(known))}"
            )
            continue
        count, gpus, limit = known[nodes.partition]
        if num_nodes > count:
            problems.append(f"{name}: {num_nodes} nodes, but partition {nodes.partition} has {count}; ask for fewer")
        if nodes.gpus_per_node > gpus:
            problems.append(
                f"{name}: gpus_per_node={nodes.gpus_per_node}, but nodes of partition {nodes.partition} have {gpus}; "
                "correct the profile"
            )
        if limit not in ("infinite", "n/a") and seconds_of(_with_hours(limit)) < seconds_of(nodes.time):
            problems.append(
                f"{name}: time={nodes.time} is over the limit {limit} of partition {nodes.partition}; lower it"
            )
    return list(dict.fromkeys(problems))


def _with_hours(limit: str) -> str:
    """sinfo leaves out hours that are 0: `30:00`."""
    return f"0:{limit}" if limit.count(":") == 1 else limit


def submit(
    jobs: Sequence[Job], stages: Mapping[str, str], cluster: ClusterConfig, place: Place, environ: Mapping[str, str]
) -> list[SubmittedJob]:
    """Hands all jobs to Slurm, each behind those that it waits for, and remembers them.

    Args:
        stages: job -> stage whose progress is its own.
        environ: of the shell that submits; what belongs to a job or to this process alone is left out.

    Raises:
        ConfigError: the cluster lacks something; nothing was submitted.
        InputError: sbatch refused; what was submitted before is cancelled.
    """
    problems = cluster_problems(jobs, cluster)
    if problems:
        raise ConfigError(problems)
    standing = still_queued(place.state)
    if standing:
        raise InputError(
            f"{place.run}: jobs of this run are still in the queue ({', '.join(standing)}); wait for them, or end them "
            f"with `redone cancel {place.run}`"
        )
    paths = write_batch_files(jobs, cluster, place)
    environ = clean_environment(environ)
    for path in paths:
        commands.would_take(path, environ)
    numbers: dict[str, str] = {}
    try:
        for job, path in zip(jobs, paths, strict=True):
            numbers[job.name] = commands.submit(path, [numbers[name] for name in job.after], environ)
    except InputError as error:
        commands.cancel(list(numbers.values()))
        raise InputError(f"{job.name}: {error}; jobs submitted before it are cancelled") from error
    submitted = [
        SubmittedJob(
            job.name, numbers[job.name], job.after, job.num_nodes, job.num_ranks, job.array, stages.get(job.name)
        )
        for job in jobs
    ]
    record = {"cluster": cluster.model_dump(mode="json"), "jobs": [vars(job) for job in submitted]}
    atomic_write_json(place.state / RECORD, record)
    return submitted


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what describes this process or an interactive job around it."""
    ours = {MARKER, *environ.get(MARKER, "").split(",")}
    return {
        name: value
        for name, value in environ.items()
        if name == "SLURM_CONF" or (name not in ours and not name.startswith(OF_A_JOB))
    }


def still_queued(state: Path) -> list[str]:
    """Jobs of an earlier submission of the run that have not ended."""
    if not (state / RECORD).is_file():
        return []
    jobs = read_jobs(state)
    queue = commands.queued([job.number for job in jobs])
    ended = (
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "DEADLINE",
        "BOOT_FAIL",
        "PREEMPTED",
        "REVOKED",
    )
    return [job.name for job in jobs if any(entry.state not in ended for entry in queue.get(job.number, []))]


def read_jobs(state: Path) -> list[SubmittedJob]:
    """The jobs that were submitted for a run.

    Raises:
        InputError: none were, or the record cannot be read.
    """
    path = state / RECORD
    if not path.is_file():
        raise InputError(f"{path}: no such file; this run was not submitted with `redone submit`")
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["jobs"]
        return [SubmittedJob(**{**entry, "after": tuple(entry["after"])}) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); submit the run again") from error
