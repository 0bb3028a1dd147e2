"""The planner's few free figures, fitted to measured speeds. Imports no torch.

Each has a value that one would take without any measurement, and a spread within which it may reasonably be (a factor).
The fit minimises the squared logarithms of expected over measured speed, in units of `MODEL_ERROR`, plus the squared
distances of the figures from their first values, in units of their spreads: a figure that no measurement tells
keeps its first value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from megatron_redone.planning.hardware import Kernels

MODEL_ERROR = 0.1
"""Relative error of the model itself; what is smaller is not chased."""
ATTENTION = 0.40
"""Share of the peak of causal flash attention, forward and backward together; an assumption that is not fitted."""


@dataclass(frozen=True)
class Fitted:
    """The free figures of the time model."""

    dense: float = 0.65
    experts: float = 0.40
    operation_seconds: float = 8e-6
    imbalance: float = 1.5
    """Tokens of the fullest rank of experts over the mean, under natural routing."""

    def kernels(self) -> Kernels:
        """As the profile of an accelerator holds them."""
        return Kernels(self.dense, self.experts, ATTENTION, self.operation_seconds)


SPREADS = {"dense": 1.2, "experts": 1.5, "operation_seconds": 2.0, "imbalance": 1.5}
"""Factors up and down within which a figure is expected before anything was measured."""


def fit(ratio: Callable[[Fitted, int], float], count: int) -> Fitted:
    """The figures at which `ratio`, expected over measured speed of measurement 0, 1, ... count - 1, is nearest to 1.

    Coordinate descent on the figures' logarithms with a step that is halved; deterministic.
    """
    first = Fitted()

    def cost(figures: Fitted) -> float:
        errors = sum((math.log(ratio(figures, place)) / MODEL_ERROR) ** 2 for place in range(count))
        return errors + sum(
            (math.log(getattr(figures, name) / getattr(first, name)) / math.log(spread)) ** 2
            for name, spread in SPREADS.items()
        )

    best, lowest, step = first, cost(first), 0.4
    while step > 1e-3:
        moved = False
        for field in fields(Fitted):
            for factor in (math.exp(step), math.exp(-step)):
                tried = replace(best, **{field.name: getattr(best, field.name) * factor})
                if tried.imbalance < 1 or tried.dense > 1 or tried.experts > 1:
                    continue
                found = cost(tried)
                if found < lowest:
                    best, lowest, moved = tried, found, True
        if not moved:
            step /= 2
    return best


def fit_one(ratio: Callable[[float, int], float], count: int, *, first: float, spread: float) -> float:
    """The same for a single figure, over a grid of one percent steps."""

    def cost(figure: float) -> float:
        errors = sum((math.log(ratio(figure, place)) / MODEL_ERROR) ** 2 for place in range(count))
        return errors + (math.log(figure / first) / math.log(spread)) ** 2

    return min((first * 1.01**step for step in range(-150, 70)), key=cost)
