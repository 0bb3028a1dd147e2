"""Passes through datatrove's executors: processes of this host, or job arrays of Slurm."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dill
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from loguru import logger as datatrove_logger

from megatron_redone.common.errors import InputError, Interrupted, Preempted
from megatron_redone.common.logging import get_logger
from megatron_redone.curation.filter.config import ExecutorConfig
from megatron_redone.curation.filter.passes import Pass
from megatron_redone.launch.processes import end_with_parent

LOG = get_logger("curation")
SECONDS_BETWEEN_LOOKS = 0.2
Stop = Callable[[], Interrupted | None]
"""What asks whether the run was told to stop: the error to end with."""


class QuietExecutor(LocalPipelineExecutor):  # type: ignore[misc]
    """datatrove's local executor without its log on the terminal, and with a stop between tasks.

    Args:
        stop_file: tasks that find it there do not begin.
    """

    def __init__(self, pipeline: list[Any], stop_file: Path, main_process: int, **options: Any) -> None:
        super().__init__(pipeline, **options)
        self.stop_file, self.main_process = str(stop_file), main_process

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        datatrove_logger.disable("datatrove")
        if os.getpid() != self.main_process:
            end_with_parent(os.getppid())
        if Path(self.stop_file).exists():
            raise Preempted("stopped between tasks; the same command goes on")
        return super()._run_for_rank(rank, local_rank, node_rank)


def run_locally(passes: Sequence[Pass], work: Path, config: ExecutorConfig, stop: Stop) -> dict[str, float]:
    """Runs every task that is not done, pass after pass; returns the seconds of each pass.

    Raises:
        Interrupted: `stop` asked for it; tasks that were running are finished first.
        RedoneError: what a task raised.
    """
    datatrove_logger.disable("datatrove")
    seconds: dict[str, float] = {}
    stop_file = work / "stop"
    stop_file.unlink(missing_ok=True)
    with _Watch(stop, stop_file) as watch:
        for one in passes:
            began = time.monotonic()
            executor = QuietExecutor(
                one.pipeline,
                stop_file,
                os.getpid(),
                tasks=one.num_tasks,
                workers=min(config.workers, one.num_tasks),
                logging_dir=str(work / "passes" / one.name),
            )
            try:
                executor.run()
            except Preempted:
                raise watch.reason or stop() or Preempted("stopped between tasks; the same command goes on") from None
            seconds[one.name] = time.monotonic() - began
            LOG.info("%s: %d tasks, %.1f s", one.name, one.num_tasks, seconds[one.name])
    return seconds


class _Watch:
    """Writes the stop file as soon as this process is asked to stop: the workers look for it."""

    def __init__(self, stop: Stop, stop_file: Path) -> None:
        self.stop, self.stop_file = stop, stop_file
        self.reason: Interrupted | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN_LOOKS):
            self.reason = self.stop()
            if self.reason is not None:
                self.stop_file.touch()
                return

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
