"""Passes through datatrove's executors: processes of this host, or job arrays of Slurm."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import dill
import multiprocess
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.utils.stats import PipelineStats
from loguru import logger as datatrove_logger

from megatron_redone.common.errors import InputError, Interrupted, Preempted
from megatron_redone.common.logging import get_logger
from megatron_redone.curation.filter.config import ExecutorConfig
from megatron_redone.curation.filter.passes import Pass
from megatron_redone.launch.processes import end_with_parent

LOG = get_logger("curation")
SECONDS_BETWEEN_LOOKS = 0.2
STOPPED = "stopped between tasks; the same command goes on with those that are left"
Stop = Callable[[], Interrupted | None]
"""What asks whether the run was told to stop: the error to end with."""


class HostExecutor(LocalPipelineExecutor):
    """datatrove's local executor: its ranks, folders, completions and statistics, with a loop of our own around a task.

    datatrove's own starts a manager process for each pass that outlives a kill, leaves Ctrl-C to break its workers, and
    opens three logs for each task; what goes wrong in a task comes out here as an error.

    Args:
        stop_file: tasks that find it there do not begin.
    """

    def __init__(self, pipeline: list[Any], stop_file: Path, **options: Any) -> None:
        super().__init__(pipeline, **options)
        self.stop_file = str(stop_file)

    def run_with(self, pool: _Workers) -> None:
        """Runs the tasks that are not done; a finished one is never run again.

        Raises:
            Preempted: the stop file is there.
        """
        ranks = self.get_incomplete_ranks()
        for _ in pool.map(self.run_task, ranks):
            pass

    def run_task(self, rank: int) -> None:
        """Runs one task with a fresh copy of the pipeline, and marks it as done."""
        if Path(self.stop_file).exists():
            raise Preempted(STOPPED)
        pipeline = deepcopy(self.pipeline)
        data = None
        for step in pipeline:
            data = step(data, rank, self.world_size)
        deque(data or (), maxlen=0)
        with self.logging_dir.open(f"stats/{rank:05d}.json", "w") as file:
            PipelineStats(pipeline).save_to_disk(file)
        self.mark_rank_as_completed(rank)


class _Workers:
    """The processes that run tasks; this one alone where there is one worker. Started once for all passes."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._pool: Any = None

    def map(self, work: Callable[[int], None], ranks: Sequence[int]) -> Iterable[None]:
        """Runs `work` on every rank, in any order."""
        if self.num_workers == 1 or not ranks:
            return map(work, ranks)
        if self._pool is None:
            self._pool = multiprocess.get_context("forkserver").Pool(self.num_workers, _start_worker)
        found: Iterable[None] = self._pool.imap_unordered(work, ranks)
        return found

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()


def _start_worker() -> None:
    """First call in each process of the pool: it ends with its parent, leaves Ctrl-C to it, and is silent."""
    end_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    datatrove_logger.disable("datatrove")


def run_locally(
    passes: Sequence[Pass],
    work: Path,
    config: ExecutorConfig,
    stop: Stop,
    after: Callable[[Pass], None] = lambda _: None,
) -> dict[str, float]:
    """Runs every task that is not done, pass after pass; returns the seconds of each pass.

    Args:
        after: called after each pass; what it raises ends the run.

    Raises:
        Interrupted: `stop` asked for it; tasks that were running are finished first.
        RedoneError: what a task raised.
    """
    datatrove_logger.disable("datatrove")
    seconds: dict[str, float] = {}
    stop_file = work / "stop"
    stop_file.unlink(missing_ok=True)
    with _Watch(stop, stop_file) as watch, _Workers(config.workers) as pool:
        for one in passes:
            if (reason := watch.look()) is not None:
                raise reason
            began = time.monotonic()
            folder = str(work / "passes" / one.name)
            executor = HostExecutor(one.pipeline, stop_file, tasks=one.num_tasks, logging_dir=folder)
            try:
                executor.run_with(pool)
            except Preempted:
                raise watch.reason or stop() or Preempted(STOPPED) from None
            seconds[one.name] = time.monotonic() - began
            LOG.info("%s: %d tasks, %.1f s", one.name, one.num_tasks, seconds[one.name])
            after(one)
    return seconds


class _Watch:
    """Writes the stop file as soon as this process is asked to stop: the workers look for it."""

    def __init__(self, stop: Stop, stop_file: Path) -> None:
        self.stop, self.stop_file = stop, stop_file
        self.reason: Interrupted | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN_LOOKS) and self.look() is None:
            pass

    def look(self) -> Interrupted | None:
        """Asks once; why to stop, if at all."""
        self.reason = self.reason or self.stop()
        if self.reason is not None:
            self.stop_file.touch()
        return self.reason

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.stop_file.unlink(missing_ok=True)


def submit_to_slurm(passes: Sequence[Pass], work: Path, config: ExecutorConfig) -> None:
    """Submits the passes that are not done, each after the one before; returns when all were done already.

    Raises:
        Preempted: the jobs are submitted; the same command, when they are done, puts the result together.
        InputError: there is no `sbatch` here; the batch scripts are written nevertheless.
    """
    executors: list[SlurmPipelineExecutor] = []
    for one in passes:
        executors.append(_slurm_executor(one, work, config, executors[-1] if executors else None))
    missing = [executor for executor in executors if executor.get_incomplete_ranks()]
    if not missing:
        return
    if shutil.which("sbatch") is None:
        scripts = [str(_write_script(executor)) for executor in missing]
        raise InputError(
            "executor.kind=slurm, but there is no `sbatch` on this host; run the same command on a login node, or set "
            "executor.kind=local. The batch scripts are written:\n  " + "\n  ".join(scripts)
        )
    executors[-1].run()
    raise Preempted(
        f"{len(missing)} passes are submitted to Slurm; run the same command again when they are done "
        f"(logs: {work / 'passes'}/*/slurm_logs)"
    )


def _slurm_executor(
    one: Pass, work: Path, config: ExecutorConfig, depends: SlurmPipelineExecutor | None
) -> SlurmPipelineExecutor:
    slurm = config.slurm
    assert slurm is not None
    partition = slurm.model_partition if one.uses_model and slurm.model_partition else slurm.partition
    return SlurmPipelineExecutor(
        one.pipeline,
        tasks=one.num_tasks,
        time=slurm.time,
        partition=partition,
        cpus_per_task=slurm.cpus_per_task,
        mem_per_cpu_gb=slurm.memory_gib_per_cpu,
        gpus_per_task=slurm.model_gpus if one.uses_model else 0,
        workers=config.workers if config.workers < one.num_tasks else -1,
        job_name=f"filter-{one.name}",
        qos=slurm.qos,
        env_command=slurm.environment,
        sbatch_args={"account": slurm.account} if slurm.account else None,
        max_array_size=slurm.max_array_size,
        tasks_per_job=slurm.tasks_per_job,
        depends=depends,
        logging_dir=str((work / "passes" / one.name).resolve()),
    )


def _write_script(executor: SlurmPipelineExecutor) -> Path:
    """The batch script and the pickled pipeline of a pass, as datatrove writes them before it calls `sbatch`."""
    depends, executor.depends = executor.depends, None
    ranks = executor.get_incomplete_ranks()
    folder = Path(executor.logging_dir.path)
    folder.mkdir(parents=True, exist_ok=True)
    pickled, script = folder / "executor.pik", folder / "launch_script.slurm"
    with pickled.open("wb") as file:
        dill.dump(executor, file, fmode=dill.CONTENTS_FMODE)
    (folder / "ranks_to_run.json").write_text(json.dumps(ranks), encoding="utf-8")
    jobs = min(-(-len(ranks) // executor.tasks_per_job), executor.max_array_size)
    command = f"srun -l -n 1 launch_pickled_pipeline {pickled}"
    script.write_text(executor.get_launch_file_contents(executor.get_sbatch_args(jobs), command), encoding="utf-8")
    executor.depends = depends
    return script
