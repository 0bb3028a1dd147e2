"""A bad batch is left out with its samples named, the weights stay as they were, and too many end the run."""

from __future__ import annotations

import math

import pytest
import torch

from megatron_redone.common.errors import TrainingError
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import OptimizerConfig, StepGuardConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.step_guard import StepGuard

SHAPE = get_preset("qwen3-tiny")


def engine_with(context: ParallelContext, guard: StepGuardConfig) -> MegatronEngine:
    engine = MegatronEngine(SHAPE, context, OptimizerConfig(lr=1e-3, guard=guard))
    engine.load_hf_weights(RandomWeights(SHAPE, 1), "test")
    return engine


def batch(advantage: float, name: str = "row") -> PackedBatch:
    ids = list(range(3, 15))
    return PackedBatch.from_documents([Document(ids, [1.0] * 12, name, {"advantages": [advantage] * 12})])


def weights(engine: MegatronEngine) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in engine.export_hf_weights()}


def test_a_step_that_is_not_finite_leaves_everything_as_it_was(
    parallel_context: ParallelContext, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_with(parallel_context, StepGuardConfig())
    undisturbed = engine_with(parallel_context, StepGuardConfig())
    for advantage in (1.0, -0.5):
        good = engine.train_step([batch(advantage)], DAPO(), 1e-3)
        assert good["updated"] == 1.0
        undisturbed.train_step([batch(advantage)], DAPO(), 1e-3)
        bad = engine.train_step([batch(math.nan, "the broken row")], DAPO(), 1e-3)
        assert bad["updated"] == 0.0
    assert bad["steps_skipped"] == 2.0 and engine.num_updates == 2
    assert engine.train_step([batch(2.0)], DAPO(), 1e-3) == {
        **undisturbed.train_step([batch(2.0)], DAPO(), 1e-3),
        "steps_skipped": 2.0,
    }
    for name, tensor in weights(undisturbed).items():
        assert torch.equal(weights(engine)[name], tensor)


def test_an_infinite_gradient_of_a_finite_loss_is_bad(parallel_context: ParallelContext) -> None:
    engine = engine_with(parallel_context, StepGuardConfig())
    engine.accumulate_gradients([batch(1.0)], DAPO())
    next(iter(engine.model.parameters().values())).main_grad[0, 0] = math.inf  # type: ignore[attr-defined]
    assert engine.guard.problem(0.5, engine._grad_norm()) == "the norm of the gradient is inf"


def test_the_policy_to_stop_names_the_samples(parallel_context: ParallelContext) -> None:
    engine = engine_with(parallel_context, StepGuardConfig(on_bad_step="stop"))
    before = weights(engine)
    with pytest.raises(TrainingError, match=r"the loss is nan; samples of the step: row-7\. The weights"):
        engine.train_step([batch(math.nan, "row-7")], DAPO(), 1e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(engine).items())


def test_too_many_bad_steps_in_a_row_end_the_run() -> None:
    guard = StepGuard(StepGuardConfig(max_in_a_row=2))
    for loss in (math.nan, math.inf, 1.0, math.nan, math.nan):
        problem = guard.problem(loss, 1.0)
        if problem is not None:
            assert guard.refuse(problem, ["a"]).startswith("step skipped: the loss is")
    problem = guard.problem(math.nan, 1.0)
    assert problem is not None
    with pytest.raises(TrainingError, match="so it was in 3 steps in a row"):
        guard.refuse(problem, ["a"])


def test_a_jump_of_the_gradient_is_bad_once_there_is_a_median() -> None:
    guard = StepGuard(StepGuardConfig(spike_factor=4.0, spike_window=3))
    assert [guard.problem(1.0, norm) is None for norm in (1.0, 50.0, 2.0, 7.9, 9.0, 8.5)] == [
        True, True, True, True, True, True,
    ]  # fmt: skip
    assert guard.problem(1.0, 40.0) == "the norm of the gradient is 40, 4.7 times its median"


def test_a_guard_goes_on_from_its_state() -> None:
    config = StepGuardConfig(spike_factor=2.0, spike_window=2)
    guard, other = StepGuard(config), StepGuard(config)
    for norm in (1.0, 1.5, 9.0):
        guard.problem(1.0, norm)
    other.restore(guard.state())
    assert other.state() == guard.state() and other.skipped == 1
    assert other.problem(1.0, 9.0) == guard.problem(1.0, 9.0) != None  # noqa: E711
