"""The resume certificate: a continuation from a checkpoint beside the run that was not interrupted.

On the same layout the losses have to agree in every bit. On another one the weights, both moments of Adam and the
number of steps have to agree exactly right after loading, and the losses to 1e-6 from there on: a sum in another
order is another rounding, the state is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from megatron_redone.checkpoint.distributed import CheckpointSeries
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.config import LayoutCase, ResumeCase
from megatron_redone.verification.faults import planted
from megatron_redone.verification.layout import OBJECTIVES, SpreadWeights, microbatches
from megatron_redone.verification.ranks import prepare_rank

LEARNING_RATE = 1e-3
LOSS_GATES = {"fp32": 1e-6, "fp64": 1e-12, "bf16": 2e-2}
"""Largest relative difference of a loss on another layout; bf16 rounds activations to 3 digits."""


@dataclass(frozen=True)
class Certificate:
    """What a continuation has in common with the run that was not interrupted."""

    case: str
    passed: bool
    same_layout: bool
    num_tensors: int
    """Tensors compared after loading: weights and two moments each."""
    first_difference: str
    """The first tensor or step that differs by more than it may; empty where none does."""
    loss_error: float
    """Largest relative difference of a loss."""


def run_on_this_rank(
    cases: Sequence[ResumeCase],
    side: Literal["save", "load"],
    folder: Path,
    context_of: Callable[[ParallelConfig], ParallelContext],
    faults: Sequence[str | None] = (),
) -> None:
    """One side of every case in turn: `save` trains, writes a checkpoint and goes on; `load` goes on from it.

    Args:
        faults: what is to be broken in each continuation, by its name in `faults.py`; by default nothing.
    """
    prepare_rank()
    for index, case in enumerate(cases):
        with planted(faults[index] if faults and side == "load" else None):
            _run_side(case, side, folder, index, context_of)


def _run_side(
    case: ResumeCase,
    side: Literal["save", "load"],
    folder: Path,
    index: int,
    context_of: Callable[[ParallelConfig], ParallelContext],
) -> None:
    layout = case.layout_case(side)
    context = context_of(layout.layout)
    engine = _engine(layout, context, seed=7 if side == "save" else 8)
    series = CheckpointSeries(folder / f"{index}.checkpoints", context)
    if side == "save":
        for step in range(case.steps_before):
            _step(layout, step, engine)
        series.save(case.steps_before, engine.sharded_state(), {"updates": engine.num_updates})
    else:
        state, extra = series.load(engine.sharded_state)
        engine.load_sharded_state(state, extra["updates"])
    found = {
        "tensors": _snapshot(engine),
        "updates": engine.num_updates,
        "losses": [
            _step(layout, step, engine) for step in range(case.steps_before, case.steps_before + case.steps_after)
        ],
    }
    series.finish()  # written while the steps went on
    if context.is_main:
        torch.save(found, folder / f"{index}.{side}.pt")
        if side == "load":
            shutil.rmtree(series.root)


def certificates(cases: Sequence[ResumeCase], folder: Path) -> Iterator[Certificate]:
    """Compares what both sides of each case saved."""
    for index, case in enumerate(cases):
        saved, loaded = (torch.load(folder / f"{index}.{side}.pt", weights_only=True) for side in ("save", "load"))
        yield _certify(case, saved, loaded)


def _certify(case: ResumeCase, saved: dict[str, Any], loaded: dict[str, Any]) -> Certificate:
    beyond = [
        f"{name} after loading"
        for name, tensor in saved["tensors"].items()
        if not _equal(loaded["tensors"].get(name), tensor)
    ]
    if saved["updates"] != loaded["updates"]:
        beyond.append(f"optimizer steps {loaded['updates']}, not {saved['updates']}")
    gate = 0.0 if case.same_layout else LOSS_GATES[case.save.precision]
    errors = [abs(a - b) / max(abs(b), 1e-30) for a, b in zip(loaded["losses"], saved["losses"], strict=True)]
    beyond += [
        f"loss of step {step} {error:.1e}"
        for step, error in enumerate(errors, case.steps_before)
        if not error <= gate  # not a number is beyond every gate
    ]
    return Certificate(
        case.line, not beyond, case.same_layout, len(saved["tensors"]), next(iter(beyond), ""), max(errors)
    )


def _equal(found: Tensor | None, expected: Tensor) -> bool:
    return found is not None and found.dtype == expected.dtype and torch.equal(found, expected)


def _engine(case: LayoutCase, context: ParallelContext, seed: int) -> MegatronEngine:
    settings = OptimizerConfig(
        lr=LEARNING_RATE,
        epsilon=1e-3,
        clip_grad=0.0 if context.config.precision == "fp64" else 1.0,
        router_aux_loss=0.0,
    )
    engine = MegatronEngine(case.shape(), context, settings)
    engine.load_hf_weights(SpreadWeights(case.shape(), seed), "weights of the proof")
    return engine


def _step(case: LayoutCase, step: int, engine: MegatronEngine) -> float:
    batches = microbatches(case, step, case.microbatches, engine)
    return engine.train_step(batches, OBJECTIVES[case.objective], LEARNING_RATE)["loss"]


def _snapshot(engine: MegatronEngine) -> dict[str, Tensor]:
    """Weights and both moments of Adam by Hugging Face name."""
    found = {name: tensor.clone() for name, tensor in engine.export_hf_weights()}
    for moment in ("exp_avg", "exp_avg_sq"):
        found |= {f"{moment} of {name}": tensor.clone() for name, tensor in engine.export_hf_moments(moment)}
    return found
