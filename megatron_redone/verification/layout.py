"""The layout proof: losses, every gradient and the weights after some steps, of a layout and of one process.

Gates in fp32: losses 1e-6 relative; each gradient 1e-5 of the tensor's largest entry; weights 1e-4 of how far the
tensor moved. Adam's epsilon is 1e-3: with the usual 1e-8 a first step is the sign of the gradient, which rounding
decides wherever it is near 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.models.weights import RandomWeights
from megatron_redone.objectives.base import Objective
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.objectives.dpo import DPO
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.config import LayoutCase

LEARNING_RATE = 1e-2
OBJECTIVES: dict[str, Objective] = {
    "next_token": NextToken(),
    "dapo": DAPO(),
    "dapo_all": DAPO(
        normalisation="group_mean", entropy_coefficient=0.1, kl_coefficient=0.1, kl_estimator="k2", importance_cap=2.0
    ),
    "dpo": DPO(),
    "dpo_all": DPO(loss="rpo_bwd_kl", preference_logprobs="mean", sft_normalisation="group_token_mean"),
}
SIGNALS: dict[str, tuple[str, ...]] = {
    "next_token": (),
    "dapo": ("advantages", "old_logprobs"),
    "dapo_all": ("advantages", "old_logprobs", "rollout_logprobs", "reference_logprobs", "group_shares"),
    "dpo": ("reference_logprobs",),
    "dpo_all": ("reference_logprobs", "rewards", "sft_shares"),
}
SHARES = (1 / 16, 1 / 17)
"""What a token counts in its group of four documents; the objective takes any numbers."""
LENGTHS = (5, 31, 3, 17, 9, 24, 12, 8)
"""Documents of a step, in pairs; uneven, so that no layout cuts them evenly."""


@dataclass(frozen=True)
class Gates:
    """The largest differences that count as rounding."""

    loss: float = 1e-6
    gradient: float = 1e-5
    weight: float = 1e-4


FP32_GATES = Gates()
FP64_GATES = Gates(loss=1e-12, gradient=1e-11, weight=1e-10)
FP64_EXPERT_GATES = Gates(loss=1e-8, gradient=1e-6, weight=1e-5)
"""Megatron's router takes its softmax in fp32 whatever it is given."""


@dataclass(frozen=True)
class Comparison:
    """How far a layout is from one process."""

    case: str
    passed: bool
    loss_error: float
    """Largest relative difference of a loss."""
    gradient_error: float
    """Largest difference of an entry of a gradient, as a share of the tensor's largest entry."""
    gradient_tensor: str
    """The tensor that has it."""
    weight_error: float
    """Largest difference of a weight at the end, as a share of the tensor's largest movement."""
    weight_tensor: str
    first_difference: str
    """The first tensor, in the order of the model, that is beyond its gate; empty where none is."""


class SpreadWeights(RandomWeights):
    """Random weights with a wider spread, so that logits and gradients are far from degenerate."""

    def __getitem__(self, name: str) -> Tensor:
        tensor = super().__getitem__(name)
        if name.endswith("norm.weight"):
            return tensor + 0.1 * torch.sin(torch.arange(tensor.numel(), dtype=torch.float32))
        if name.endswith(".bias"):
            return tensor + 0.1 * torch.cos(torch.arange(tensor.numel(), dtype=torch.float32))
        return tensor * 5.0


def documents_of_step(case: LayoutCase, step: int) -> list[Document]:
    """The documents of one optimizer step, a function of the step."""
    generator = torch.Generator().manual_seed(step)
    found = []
    for index, length in enumerate(LENGTHS):
        ids = torch.randint(0, case.shape().vocab_size, (length,), generator=generator).tolist()
        labelled = 1 if index == 1 else max(1, length // 2)
        if case.labels == "one":
            labelled = 1 if index == 3 else 0
        noise = torch.randn(3, length, generator=generator)
        values: dict[str, list[float]] = {
            "rollout_logprobs": (noise[2] * 0.3 - 5.0).tolist(),
            "rewards": [float(index % 3)] * length,
            "sft_shares": [SHARES[index // 4]] * length,
            "group_shares": [SHARES[index // 4]] * length,
            "advantages": (noise[0] + 1.0).tolist(),  # not of mean 0: a loss near 0 has no relative error
            "old_logprobs": (noise[1] * 0.3 - 5.0).tolist(),
            "reference_logprobs": (noise[2] * 0.3 - 5.0).tolist(),
        }
        signals = {name: values[name] for name in SIGNALS[case.objective]}
        found.append(Document(ids, [0.0] * (length - labelled) + [1.0] * labelled, f"document-{step}-{index}", signals))
    return found


def microbatches(case: LayoutCase, step: int, count: int, engine: MegatronEngine) -> list[PackedBatch]:
    """This replica's micro-batches of a step: documents (of DPO: pairs) dealt in turn, fillers where they run out.

    With as many micro-batches as documents nothing is packed.
    """
    documents, dp = documents_of_step(case, step), engine.context.dp
    together = 2 if case.objective in ("dpo", "dpo_all") else 1
    units = [documents[i : i + together] for i in range(0, len(documents), together)]
    members = [[document for unit in units[i::count] for document in unit] for i in range(count)]
    mine = members[dp.rank :: dp.size]
    mine += [[]] * (-(-count // dp.size) - len(mine))
    names = list(SIGNALS[case.objective])
    return [PackedBatch.from_documents(m, engine.row_multiple, signal_names=names) for m in mine]


def trajectory(case: LayoutCase, context: ParallelContext, count: int) -> dict[str, Any]:
    """Trains a few steps on the layout of `context`; a collective.

    Returns:
        `losses` of all steps, `gradients` of the first, `weights` at the end, by Hugging Face name.
    """
    clip = 0.0 if context.config.precision == "fp64" else 1.0
    settings = OptimizerConfig(
        lr=LEARNING_RATE,
        weight_decay=0.1,
        epsilon=1e-3,
        clip_grad=clip,
        router_aux_loss=case.aux_loss,
        router_z_loss=case.z_loss,
    )
    engine = MegatronEngine(case.shape(), context, settings)
    engine.load_hf_weights(SpreadWeights(case.shape(), 7), "weights of the proof")
    losses, gradients = [], {}
    for step in range(case.steps):
        batches = microbatches(case, step, count, engine)
        losses.append(engine.accumulate_gradients(batches, OBJECTIVES[case.objective])["loss"])
        if step == 0:
            gradients = {name: tensor.clone() for name, tensor in engine.export_hf_gradients()}
        engine.update(LEARNING_RATE)
    weights = {name: tensor.clone() for name, tensor in engine.export_hf_weights()}
    return {"losses": losses, "gradients": gradients, "weights": weights}


def reference(case: LayoutCase, context: ParallelContext) -> dict[str, Any]:
    """The trajectory of one process: all documents in one packed row, or the case's own micro-batches."""
    return trajectory(case, context, case.microbatches if case.aux_loss else 1)


def compare(case: LayoutCase, found: dict[str, Any], expected: dict[str, Any], gates: Gates) -> Comparison:
    """The differences, and whether all are rounding."""
    start = SpreadWeights(case.shape(), 7)
    loss = max(_relative(a, b) for a, b in zip(found["losses"], expected["losses"], strict=True))
    gradients = {name: _share(found["gradients"].get(name), g, g) for name, g in expected["gradients"].items()}
    weights = {
        name: _share(found["weights"].get(name), w, w - start[name].to(w.dtype))
        for name, w in expected["weights"].items()
    }
    beyond = [f"gradient of {name} {error:.1e}" for name, error in gradients.items() if error > gates.gradient]
    beyond += [f"{name} {error:.1e}" for name, error in weights.items() if error > gates.weight]
    beyond += [f"loss {loss:.1e}"] if loss > gates.loss else []
    worst_gradient, worst_weight = max(gradients, key=_of(gradients)), max(weights, key=_of(weights))
    return Comparison(
        case=case.line,
        passed=not beyond,
        loss_error=loss,
        gradient_error=gradients[worst_gradient],
        gradient_tensor=worst_gradient,
        weight_error=weights[worst_weight],
        weight_tensor=worst_weight,
        first_difference=next(iter(beyond), ""),
    )


def gates_of(case: LayoutCase) -> Gates:
    """The gates of the case's precision."""
    if case.layout.precision != "fp64":
        return FP32_GATES
    return FP64_EXPERT_GATES if case.shape().is_moe else FP64_GATES


def _of(errors: dict[str, float]) -> Any:
    return lambda name: errors[name]


def _relative(found: float, expected: float) -> float:
    return abs(found - expected) / max(abs(expected), 1e-30) if found == found else float("inf")


def _share(found: Tensor | None, expected: Tensor, scale: Tensor) -> float:
    """Largest absolute difference as a share of the largest entry of `scale`; infinite where there is nothing."""
    if found is None or found.shape != expected.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    difference = float((found.double() - expected.double()).abs().max())
    return difference / max(float(scale.double().abs().max()), 1e-30) if difference else 0.0
