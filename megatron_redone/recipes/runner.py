"""Runs a recipe: what is done stays done, what was interrupted goes on, independent chains run side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from megatron_redone.common.errors import ConfigError, Interrupted, RedoneError
from megatron_redone.common.files import atomic_write_text, disk_full_reported
from megatron_redone.common.logging import configure_logging, get_logger
from megatron_redone.launch.environment import LaunchEnvironment
from megatron_redone.launch.processes import end_with_parent
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.graph import Recipe, StageRun
from megatron_redone.recipes.provenance import utc_now
from megatron_redone.recipes.stage_config import ModelStage
from megatron_redone.recipes.stages import EXECUTORS, ON_ONE_RANK
from megatron_redone.recipes.standing import disagreements, missing_inputs
from megatron_redone.recipes.worker_pool import WorkerPool
from megatron_redone.recipes.workspace import Workspace
from megatron_redone.reporting.schema import Status
from megatron_redone.training.run import step_seconds
from megatron_redone.training.stop import agreed_stop, install_stop_signals, stop_signal, stopped

LOG = get_logger("recipe")
SECONDS_FOR_LOST_NODE = 180.0
"""How long a run that a launcher started again waits for its forerunner's lock: a lost node may still hold it."""


class RecipeRunner:
    """One run of a recipe in one folder.

    Args:
        command: what the user typed, for the report.
        environment: place of this process among those that run the recipe together (`--nproc`, torchrun).
    """

    def __init__(self, recipe: Recipe, command: str, environment: LaunchEnvironment) -> None:
        self.recipe, self.command, self.environment = recipe, command, environment
        self.workspace = Workspace(recipe, recipe.config.output)
        self.status: dict[str, Status] = {run.id: "pending" for run in recipe.runs}
        self._alone = False
        """Only some stages are run; others may be at work in other processes."""

    def run(
        self, from_stage: str | None = None, only_stage: str | None = None, rerun_on_new_code: bool = False
    ) -> Workspace:
        """Runs every stage that is not done.

        Args:
            from_stage: the runs of this stage (or one, by its id), and all that read them, are run again. They are
                marked before the first one begins, so that after an interruption the plain command goes on with those
                that are left.
            only_stage: only the runs of this stage (or one, by its id) are run; other processes may run other stages at
                the same time.
            rerun_on_new_code: what other code made does not count as done.

        Raises:
            ConfigError: what `only_stage` reads does not stand. (That it does not agree with the recipe is a warning.)
            Interrupted: Ctrl-C, a signal or the time limit; what was running is checkpointed.
            RedoneError: a stage failed; what was done before stays.
        """
        self.workspace = dataclasses.replace(self.workspace, rerun_on_new_code=rerun_on_new_code)
        wanted = [run for run in self.recipe.runs if only_stage in (None, run.name, run.id)]
        self._alone = only_stage is not None
        if self._alone:
            if problems := missing_inputs(self.workspace, wanted):
                raise ConfigError(problems)
            for difference in disagreements(self.workspace, wanted) if self.environment.is_main else ():
                LOG.warning("%s", difference)
        began = time.monotonic()
        seconds = SECONDS_FOR_LOST_NODE if self.environment.restart_count else 0.0
        alone = wanted if self._alone else None
        with self.workspace.locked_for(alone, seconds) if self.environment.is_main else nullcontext():
            again = self._prepare(from_stage, wanted)
            if self.environment.world_size == 1 and self.recipe.config.workers > 1:
                self._run_side_by_side(wanted, again)
            else:
                self._run_in_order(wanted, again)
        if self.environment.is_main:
            LOG.info("all stages done in %.0f s", time.monotonic() - began)
        return self.workspace

    def _prepare(self, from_stage: str | None, wanted: Sequence[StageRun]) -> set[str]:
        """Ends what was killed while it was published; marks what `--from` asks for and returns its ids."""
        again = self._again(from_stage) & {run.id for run in wanted}
        if self.environment.is_main:
            for run in wanted:
                self.workspace.finish_publishing(run)
            for run_id in again:
                atomic_write_text(self.workspace.again_marker(run_id), "")
        return again

    def _again(self, from_stage: str | None) -> set[str]:
        """Ids of the runs of `from_stage` and of everything that reads them, directly or not."""
        again: set[str] = set()
        for run in self.recipe.runs:
            if from_stage in (run.name, run.id) or again & set(run.dependencies):
                again.add(run.id)
        return again

    def _run_in_order(self, wanted: Sequence[StageRun], again: set[str]) -> None:
        executor = StageExecutor(self.workspace, self.environment)
        for run in wanted:
            if executor.is_done(run, again):
                self._note(run, "done")
                continue
            self._note(run, "running")
            try:
                executor.execute(run)
            except (RedoneError, KeyboardInterrupt) as error:
                self._note(run, _status_after(error))
                raise
            self._note(run, "done")
            stop = executor.agreed_stop()
            if stop and run is not wanted[-1]:
                raise _stopped_after(run, stop)

    def _run_side_by_side(self, wanted: Sequence[StageRun], again: set[str]) -> None:
        """Hands stages whose inputs are done to a pool of processes, in the order of the recipe."""
        waiting = list(wanted)
        done = {run.id for run in self.recipe.runs} - {run.id for run in wanted}
        failure: BaseException | None = None
        arguments = (self.workspace, self.environment, os.getpid())
        with WorkerPool[StageRun](self.recipe.config.workers, _start_worker, arguments) as pool:
            self._hand_out(waiting, done, again, pool)
            while pool.running:
                for run, error in pool.finished():
                    self._note(run, _status_after(error))
                    if error is None:
                        done.add(run.id)
                    elif pool.running:
                        rest = ", ".join(running.id for running in pool.running.values())
                        LOG.info("%s: %s\nwaiting for %s", run.id, error, rest)
                    if isinstance(error, Interrupted) and stop_signal():
                        error = stopped(str(error), stop_signal())  # the signal that came here, not the one sent on
                    failure = failure or error
                if failure is None and waiting and stop_signal():
                    failure = _stopped_after(run, stop_signal())
                if failure is None:
                    self._hand_out(waiting, done, again, pool)
        if failure is not None:
            raise failure

    def _hand_out(self, waiting: list[StageRun], done: set[str], again: set[str], pool: WorkerPool[StageRun]) -> None:
        """Submits the first runs whose inputs are done, as many as there is room for; notes those that stand."""
        for run in list(waiting):
            if not done.issuperset(run.dependencies) or not pool.has_room:
                continue
            waiting.remove(run)
            if run.id not in again and self.workspace.is_done(run):
                done.add(run.id)
                self._note(run, "done")
            else:
                self._note(run, "running")
                pool.submit(_execute_in_worker, run)

    def _note(self, run: StageRun, status: Status) -> None:
        self.status[run.id] = status
        if not self.environment.is_main:
            return
        others = self.workspace.recorded_status() if self._alone else {}
        told = {
            one.id: others.get(one.id, "done" if self.workspace.stands(one) else "pending")
            for one in self.recipe.runs
            if self._alone and self.status[one.id] == "pending"
        }
        self.workspace.write_run(self.status | told, self.command)


def _status_after(error: BaseException | None) -> Status:
    if error is None:
        return "done"
    return "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"


def _stopped_after(run: StageRun, number: int) -> Interrupted:
    return stopped(f"stopped after {run.id}, which is done; the same command goes on with the next stage", number)


class StageExecutor:
    """Executes stage runs in this process (one rank of possibly several)."""

    def __init__(self, workspace: Workspace, environment: LaunchEnvironment) -> None:
        self.workspace, self.environment = workspace, environment
        self._context: ParallelContext | None = None

    def context(self, config: ParallelConfig) -> ParallelContext:
        """The context of a layout; the process group is kept over stages."""
        if self._context is None or self._context.config != config:
            self._context = build_context(config, **self.environment.rendezvous())
        return self._context

    def is_done(self, run: StageRun, again: set[str]) -> bool:
        """Whether nothing is to do (decided by rank 0)."""
        context = self.context(self._parallel(run))
        return context.on_main(lambda: run.id not in again and self.workspace.is_done(run))

    def _parallel(self, run: StageRun) -> ParallelConfig:
        return run.config.parallel if isinstance(run.config, ModelStage) else ParallelConfig()

    def execute(self, run: StageRun) -> dict[str, int | float]:
        """Runs one stage and publishes its artefact; returns its counts."""
        torch.set_num_threads(run.config.threads or self._share_of_threads())
        context = self.context(self._parallel(run))
        work, identity = context.on_main(lambda: self.workspace.open_work(run))
        if context.is_main:
            LOG.info("%s: %s", run.id, run.config.kind)
        started, began, earlier = utc_now(), time.monotonic(), step_seconds(work)
        execution = Execution(
            run,
            work,
            context,
            lambda field: self.workspace.input_path(run.inputs[field]),
            self.workspace.recipe.config.max_refused_share,
            identity,
        )
        execute = EXECUTORS[run.config.kind]
        with disk_full_reported(work), contextlib.closing(execution):
            if run.config.kind in ON_ONE_RANK:
                context.on_main(lambda: execute(execution))
            else:
                execute(execution)
        seconds = earlier + time.monotonic() - began
        context.barrier()
        context.on_main(
            lambda: self.workspace.publish(
                run,
                started=started,
                seconds=seconds - execution.evaluation_seconds,
                evaluation_seconds=execution.evaluation_seconds,
                counts=execution.counts,
                refused=execution.refused,
            )
        )
        if context.is_main:
            LOG.info("%s: done in %.1f s", run.id, seconds)
        return execution.counts

    def agreed_stop(self) -> int:
        """The signal for which any rank was asked to stop, or 0."""
        return 0 if self._context is None else agreed_stop(self._context)

    def _share_of_threads(self) -> int:
        workers = self.workspace.recipe.config.workers if self.environment.world_size == 1 else 1
        return max(1, self.environment.threads // workers)


_worker: StageExecutor | None = None


def _start_worker(workspace: Workspace, environment: LaunchEnvironment, parent: int) -> None:
    """First call in each process of the pool; it ends with its parent, so that nobody else writes into the run."""
    global _worker
    end_with_parent(parent)
    configure_logging()
    install_stop_signals()
    _worker = StageExecutor(workspace, environment)


def _execute_in_worker(run: StageRun) -> None:
    """Executes a stage run in a process of the pool."""
    assert _worker is not None
    _worker.execute(run)
