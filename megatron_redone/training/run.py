"""What every training stage shares: metrics to files, checkpoints, resume, and a clean stop."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron_redone.checkpoint.config import DEFAULT_CHECKPOINTS, CheckpointConfig
from megatron_redone.checkpoint.distributed import CheckpointSeries, has_checkpoint
from megatron_redone.common.errors import Interrupted
from megatron_redone.common.files import atomic_write_json, disk_full_reported
from megatron_redone.common.jsonl import read_jsonl_lenient
from megatron_redone.common.logging import Progress, get_logger
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.ledger import DataLedger
from megatron_redone.training.sample_log import SampleLog
from megatron_redone.training.stop import agreed_stop, stopped
from megatron_redone.training.stragglers import RankSpeeds, StragglerProbe
from megatron_redone.training.watchdog import Watchdog

FORWARD_BACKWARD_PASSES = 3
"""Compute of training on a token in units of a forward pass (the backward pass costs twice the forward)."""

LEDGER = "ledger.jsonl"
"""The data ledger after every step: samples read so far, and the chain of their ids."""

TIMING = "timing.jsonl"
"""Wall seconds of every step, those included that were repeated after an interruption; and rank speeds at times."""


def step_seconds(folder: Path) -> float:
    """Wall seconds of the training steps that the work folder's earlier starts took."""
    path = folder / TIMING
    rows = [row for _, row, _ in read_jsonl_lenient(path)] if path.is_file() else []  # the last line may be torn
    return sum(float(row["seconds"]) for row in rows if row is not None)


class TrainingRun:
    """One training stage on its way: `folder` keeps metrics and checkpoints until the stage is done.

    Args:
        folder: work folder of the stage; what it holds of an earlier, interrupted run is continued.
        name: what progress and logs call the stage.
        seed: seed of everything random in the stage.
        checkpoint: how often, and which stay.
        fingerprints: of what the stage is made from; a checkpoint of others is refused.
        watchdog_minutes: when no step is finished in so long, the run is ended with the stacks of all ranks.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        seed: int,
        context: ParallelContext,
        checkpoint: CheckpointConfig = DEFAULT_CHECKPOINTS,
        watchdog_minutes: float | None = None,
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.name, self.seed, self.context = folder, name, seed, context
        self.checkpoint = checkpoint
        self.checkpoints = CheckpointSeries(folder / "checkpoints", context, checkpoint, fingerprints)
        self.watchdog_seconds = None if watchdog_minutes is None else watchdog_minutes * 60
        self.trained_tokens = self.forward_tokens = 0
        self.ledger = DataLedger()
        """Chain of the ids of what was read (`note_samples`); `ledger.jsonl` has it after every step."""
        self._samples = SampleLog(folder, context.is_main)
        self._read: list[str] = []
        self._learnt: list[str] | None = None
        self._ledger_rows: list[dict[str, Any]] = []
        self._rows: list[dict[str, float]] = []
        self._log = get_logger(name)
        self._tensorboard: Any = None

    @property
    def compute_tokens(self) -> int:
        """Compute so far in forward-pass tokens: 3 for each trained token, 1 for each generated or scored one."""
        return FORWARD_BACKWARD_PASSES * self.trained_tokens + self.forward_tokens

    def note_samples(self, read: Sequence[str], learnt: Sequence[str] | None = None) -> None:
        """The stage calls it in every step with the ids of the global batch: what it reads, and what of it makes the
        update where that is not all."""
        self.ledger.add(read)
        self._read += read
        if learnt is not None:
            self._learnt = [*(self._learnt or []), *learnt]

    def steps(
        self,
        engine: MegatronEngine,
        num_steps: int,
        step_function: Callable[[int], Mapping[str, float]],
        *,
        state: Callable[[], Mapping[str, Any]] = dict,
        restore: Callable[[Mapping[str, Any]], None] = lambda state: None,
        unit: str = "steps",
    ) -> None:
        """Runs `step_function(step)` for every step not yet done, with metrics, checkpoints and a clean stop.

        Args:
            state, restore: what the stage itself keeps between steps, as JSON.
        Raises:
            Interrupted: a stop was asked for (Preempted: not by Ctrl-C); a checkpoint was written. A step that is long
                may look for a stop itself and raise it, as long as it has changed neither engine nor ledger.
        """
        start = self._resume(engine, restore)
        if not self._samples.start(start):
            self._log.warning("%s: the list of samples lacks steps before %d; lineage will say so", self.name, start)
        progress = Progress(self.name, num_steps, unit, enabled=self.context.is_main)
        watchdog = Watchdog(self.watchdog_seconds, self.folder / "stacks", self.context.rank, self.context.world_size)
        stragglers = StragglerProbe(self.context)
        with progress, contextlib.closing(self), watchdog:
            progress.start_at(start)
            for step in range(start, num_steps):
                began, tokens_before = time.monotonic(), self.trained_tokens
                before = dict(state())
                try:
                    metrics = dict(step_function(step))
                except Interrupted as error:
                    raise self._stopped_within(engine, step, before, error) from error
                seconds = time.monotonic() - began
                self._record(step, metrics, seconds, stragglers.after_step())
                rate = (self.trained_tokens - tokens_before) / max(seconds, 1e-9)
                shown = {name: value for name, value in metrics.items() if name in ("loss", "reward")}
                progress.advance(1, shown | {"tokens/s": rate})
                watchdog.beat()
                self.checkpoints.poll()
                stop = agreed_stop(self.context)
                if stop or ((step + 1) % self.checkpoint.every == 0 and step + 1 < num_steps):
                    self._save(engine, step + 1, state())
                if stop:
                    self.checkpoints.finish()
                    raise stopped(
                        f"{self.name}: stopped after step {step + 1} of {num_steps}, which is checkpointed; "
                        "the same command goes on from there",
                        stop,
                    )
            self.checkpoints.finish()
            self._samples.pack()
        self._write_metrics()

    def _stopped_within(
        self, engine: MegatronEngine, step: int, before: Mapping[str, Any], error: Interrupted
    ) -> Interrupted:
        """Checkpoints the state from before a step that ended in its middle; the error that ends the run."""
        if step and not (self.checkpoints.root / f"step-{step:06d}").exists():
            self._save(engine, step, before)
        self.checkpoints.finish()
        done = f"stopped after step {step}" if step else "stopped within the first step"
        return type(error)(f"{self.name}: {done}; {error}; the same command goes on from there")

    def close(self) -> None:
        """Writes out what TensorBoard and the list of samples have not yet."""
        self._samples.close()
        if self._tensorboard is not None:
            with disk_full_reported(self.folder):
                self._tensorboard.close()

    def summary(self) -> dict[str, int]:
        """Counts for the manifest."""
        return {
            "steps": len(self._rows),
            "trained_tokens": self.trained_tokens,
            "forward_tokens": self.forward_tokens,
            "compute_tokens": self.compute_tokens,
        }

    def _resume(self, engine: MegatronEngine, restore: Callable[[Mapping[str, Any]], None]) -> int:
        if not self.context.on_main(lambda: has_checkpoint(self.checkpoints.root)):
            return 0
        loaded, extra = self.checkpoints.load(engine.sharded_state)
        engine.load_sharded_state(loaded, extra["optimizer_steps"])
        engine.guard.restore(extra["guard"])
        self._rows, self._ledger_rows = list(extra["metrics"]), list(extra["ledger"])
        self.ledger.restore(self._ledger_rows[-1])
        self.trained_tokens, self.forward_tokens = extra["trained_tokens"], extra["forward_tokens"]
        restore(extra["stage"])
        step = int(extra["step"])
        if self.context.is_main:
            self._log.info("%s: going on from step %d", self.name, step)
        return step

    def _save(self, engine: MegatronEngine, step: int, stage_state: Mapping[str, Any]) -> None:
        extra = {
            "step": step,
            "optimizer_steps": engine.num_updates,
            "guard": engine.guard.state(),
            "ledger": self._ledger_rows,
            "metrics": self._rows,
            "trained_tokens": self.trained_tokens,
            "forward_tokens": self.forward_tokens,
            "stage": dict(stage_state),
        }
        self._samples.sync()
        self.checkpoints.save(step, engine.sharded_state(), extra)

    def _record(self, step: int, metrics: dict[str, float], seconds: float, speeds: RankSpeeds | None) -> None:
        self._rows.append({"step": step, **metrics})
        self._ledger_rows.append({"step": step, **self.ledger.state()})
        self._samples.add(step, self._read, self._learnt)
        self._read, self._learnt = [], None
        if self.context.is_main:
            with disk_full_reported(self.folder):
                self._write_curves(step, metrics, seconds, speeds)

    def _write_curves(self, step: int, metrics: Mapping[str, float], seconds: float, speeds: RankSpeeds | None) -> None:
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name, value in metrics.items():
            self._tensorboard.add_scalar(name, value, step)
        with (self.folder / TIMING).open("a", encoding="utf-8") as file:
            timing: dict[str, Any] = {"step": step, "seconds": round(seconds, 4)}
            if speeds is not None:
                timing |= {"probe_ms_by_rank": [round(s * 1e3, 4) for s in speeds.seconds]}
            file.write(json.dumps(timing) + "\n")

    def _write_metrics(self) -> None:
        if not self.context.is_main:
            return
        for name, rows in (("metrics.jsonl", self._rows), (LEDGER, self._ledger_rows)):
            with disk_full_reported(self.folder / name), (self.folder / name).open("w", encoding="utf-8") as file:
                # sorted as those that a checkpoint gave back are: a resume changes no byte
                file.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        atomic_write_json(self.folder / "training.json", self.summary())
