"""Keeps one bad batch from spoiling the weights: steps that are not finite, or jump, are skipped or end the run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from megatron_redone.common.errors import TrainingError
from megatron_redone.training.config import StepGuardConfig


class StepGuard:
    """Judges each step by its loss and the norm of its gradient, which are equal on all ranks, so that all agree."""

    def __init__(self, config: StepGuardConfig) -> None:
        self.config = config
        self.skipped = 0
        """Steps skipped so far."""
        self.in_a_row = 0
        self._norms: list[float] = []

    def problem(self, loss: float, grad_norm: float) -> str | None:
        """What is wrong with a step, or None; a good one is remembered."""
        found = None
        if not math.isfinite(loss):
            found = f"the loss is {loss}"
        elif not math.isfinite(grad_norm):
            found = f"the norm of the gradient is {grad_norm}"
        elif self.config.spike_factor is not None and len(self._norms) == self.config.spike_window:
            usual = statistics.median(self._norms)
            if grad_norm > self.config.spike_factor * usual:
                found = f"the norm of the gradient is {grad_norm:.3g}, {grad_norm / usual:.1f} times its median"
        if found is None:
            self.in_a_row = 0
            self._norms = [*self._norms, grad_norm][-self.config.spike_window :]
        else:
            self.skipped += 1
            self.in_a_row += 1
        return found

    def refuse(self, problem: str, samples: list[str]) -> str:
        """A sentence about a step that is skipped.

        Raises:
            TrainingError: the policy is to stop, or too many steps in a row were bad.
        """
        shown = ", ".join(samples[:8]) + (f", ... ({len(samples)} in all)" if len(samples) > 8 else "")
        if self.config.on_bad_step == "stop":
            raise TrainingError(
                f"{problem}; samples of the step: {shown}. The weights are those before it. Lower the learning rate, "
                "look at the samples, or set optimizer.guard.on_bad_step=skip"
            )
        if self.in_a_row > self.config.max_in_a_row:
            raise TrainingError(
                f"{problem}, and so it was in {self.in_a_row} steps in a row (optimizer.guard.max_in_a_row="
                f"{self.config.max_in_a_row}); samples of the last: {shown}. The weights are those before them. Go "
                "back to an older checkpoint with a lower learning rate"
            )
        return f"step skipped: {problem}; its samples: {shown}"

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "norms": self._norms}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes what a checkpoint kept."""
        self.skipped, self.in_a_row, self._norms = state["skipped"], state["in_a_row"], list(state["norms"])
