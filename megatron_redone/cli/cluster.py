"""`redone status`, `logs` and `cancel`: a submitted run as its operator sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from megatron_redone.common.errors import InputError
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.slurm import commands
from megatron_redone.launch.slurm.events import Event, failed_nodes, nodes_of, read_events, srun_said, state_of
from megatron_redone.launch.slurm.logs import attempts, merged
from megatron_redone.launch.slurm.submission import SubmittedJob, read_jobs
from megatron_redone.reporting.progress import Hang, StageProgress, stage_progress

STATE = "slurm"
SECONDS_BETWEEN_LOOKS = 2.0


def status(run: Path, in_json: bool) -> None:
    """Prints every job of a run: its state, attempts, last step, slow rank, and what stopped it.

    Raises:
        typer.Exit: with 1 when a job failed or was cancelled.
    """
    jobs = read_jobs(run / STATE)
    try:
        queue = commands.queued([job.number for job in jobs])
    except InputError as error:
        queue = {}
        CONSOLE.print(f"the queue is not known: {error}", markup=False, highlight=False, soft_wrap=True)
    found = [_job_status(run, job, queue.get(job.number, [])) for job in jobs]
    if in_json:
        typer.echo(json.dumps({"jobs": found, "failed_nodes": failed_nodes(run / STATE)}, indent=2))
    else:
        _print_status(found)
        for node, count in failed_nodes(run / STATE).items():
            _say(f"node {node}: {count} attempt(s) of this run failed on it")
    if any(job["state"] in ("failed", "cancelled") for job in found):
        raise typer.Exit(1)


def _job_status(run: Path, job: SubmittedJob, queue: Sequence[commands.QueuedJob]) -> dict[str, Any]:
    folder = run / STATE / job.name
    tasks = [folder / f"task-{task}" for task in range(job.array)] if job.array else [folder]
    events = [event for task in tasks for event in read_events(task, None if job.array else job.number)]
    last = max((event.attempt for event in events), default=0)
    began = next((event for event in events if "began" in event.words), None)
    since = datetime.fromisoformat(began.time).timestamp() if began else 0.0
    progress = stage_progress(run, job.stage, since, job.num_ranks) if job.stage is not None else []
    state = _state(queue, events, progress)
    return {
        "job": job.name,
        "number": job.number,
        "state": state,
        "reason": next((entry.reason for entry in queue if entry.reason not in ("None", "")), ""),
        "nodes": nodes_of(events),
        "attempts": last + 1 if events else 0,
        "events": [f"{event.time} attempt {event.attempt}: {event}" for event in events],
        "srun": srun_said(folder, last) if state not in ("done", "waiting") else [],
        "stages": [_stage_status(stage) for stage in progress],
    }


def _state(queue: Sequence[commands.QueuedJob], events: Sequence[Event], progress: Sequence[StageProgress]) -> str:
    """One word for a job; Slurm's own where it says more than ours."""
    states = [entry.state for entry in queue]
    if any(state in ("RUNNING", "COMPLETING", "CONFIGURING") for state in states):
        return "running"
    if any(state in ("PENDING", "REQUEUED", "SUSPENDED", "REQUEUE_HOLD") for state in states):
        return "waiting"
    if progress and all(stage.done for stage in progress):
        return "done"
    if states and all(state == "COMPLETED" for state in states):
        return "done"
    if any(state == "CANCELLED" for state in states):
        return "cancelled"
    if states:
        return "failed"
    last = state_of(list(events))
    return {"waiting": "cancelled", "running": "gone", "told": "cancelled"}.get(last, last)


def _stage_status(stage: StageProgress) -> dict[str, Any]:
    shown: dict[str, Any] = {"stage": stage.folder.name, "done": stage.done, "last_step": stage.last_step}
    if stage.seconds_per_step is not None:
        shown["seconds_per_step"] = round(stage.seconds_per_step, 4)
    if stage.slow is not None:
        shown["slow_rank"] = {"rank": stage.slow.rank, "times_the_median": round(stage.slow.slowdown, 2)}
    if stage.hang is not None:
        shown["stopped"] = _hang(stage.hang)
    return shown


def _hang(hang: Hang) -> dict[str, Any]:
    return {
        "ranks": list(hang.suspects),
        "when": datetime.fromtimestamp(hang.when).isoformat(timespec="seconds"),
        "said": [hang.said[rank] for rank in sorted(hang.said)],
        "stacks": {str(rank): str(path) for rank, path in hang.stacks.items()},
    }


def _print_status(jobs: Sequence[dict[str, Any]]) -> None:
    table = Table("job", "number", "state", "nodes", "attempts", "last step", "s/step")
    for job in jobs:
        steps = [str(stage["last_step"]) for stage in job["stages"] if stage["last_step"] is not None]
        speeds = [f"{stage['seconds_per_step']:.2f}" for stage in job["stages"] if "seconds_per_step" in stage]
        row = (job["number"], job["state"], job["nodes"], str(job["attempts"]), " ".join(steps), " ".join(speeds))
        table.add_row(job["job"], *row)
    CONSOLE.print(table)
    for job in jobs:
        for line in _remarks(job):
            _say(f"{job['job']}: {line}")


def _remarks(job: dict[str, Any]) -> list[str]:
    """What an operator should look at."""
    lines = []
    if job["state"] == "waiting" and job["reason"]:
        lines.append(f"waits: {job['reason']}")
    lines += [event for event in job["events"] if "verdict=" in event and "verdict=done" not in event]
    lines += [f"srun: {line}" for line in job["srun"]]
    for stage in job["stages"]:
        if "slow_rank" in stage:
            slow = stage["slow_rank"]
            lines.append(f"rank {slow['rank']} is slow: {slow['times_the_median']} times the median of all ranks")
        if "stopped" in stage:
            stopped = stage["stopped"]
            ranks = ", ".join(map(str, stopped["ranks"])) or "unknown"
            lines.append(f"{stopped['when']} no step was finished for too long; the others wait for rank {ranks}")
            lines += [f"  {sentence}" for sentence in stopped["said"]]
            silent = [rank for rank in stopped["ranks"] if str(rank) not in stopped["stacks"]]
            lines += [f"  rank {rank} left no stack: it is stopped or gone" for rank in silent]
            lines.append(f"  stacks: {Path(next(iter(stopped['stacks'].values()))).parent}")
    return lines


def logs(run: Path, job: str | None, attempt: int | None, rank: int | None, follow: bool) -> None:
    """Prints the logs of a job's ranks as one, in the order of time.

    Raises:
        InputError: no such job or attempt.
    """
    known = {entry.name: entry for entry in read_jobs(run / STATE)}
    if job is None:
        begun = [name for name in known if attempts(run / STATE / name)]
        if not begun:
            raise InputError(f"{run}: no job has begun; see `redone status {run}`")
        job = begun[-1]
    if job not in known:
        raise InputError(f"--job {job}: no such job; jobs: {', '.join(known)}")
    number, printed = attempt, 0
    while True:
        folder = _attempt(run / STATE / job, number)
        lines = list(merged(folder, rank))
        if printed == 0:
            typer.echo(f"{job}, {folder.name}")
        for line in lines[printed:]:
            typer.echo(line)
        printed = len(lines)
        if not follow or not any(
            entry.state in ("RUNNING", "COMPLETING")
            for entries in commands.queued([known[job].number]).values()
            for entry in entries
        ):
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _attempt(folder: Path, number: int | None) -> Path:
    found = attempts(folder) or [path for task in sorted(folder.glob("task-*")) for path in attempts(task)]
    if not found:
        raise InputError(f"{folder}: no attempt has begun; see `redone status`")
    chosen = found[-1] if number is None else next((p for p in found if p.name == f"attempt-{number}"), None)
    if chosen is None:
        raise InputError(f"--attempt {number}: this job had attempts 0 to {len(found) - 1}")
    return chosen


def cancel(run: Path) -> None:
    """Ends all jobs of a run; what is running gets SIGTERM first, and so writes a checkpoint."""
    jobs = read_jobs(run / STATE)
    commands.cancel([job.number for job in jobs])
    _say(f"{run}: {len(jobs)} job(s) cancelled; `redone submit` goes on from the last checkpoints")


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
