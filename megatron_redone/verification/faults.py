"""Faults to plant in the ranks of a layout proof, to see that it notices: each was met in some training system.

A proof that has never failed proves little. Every fault stands beside the case that shows it; the same case without
it is the control.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fault:
    """A way to break training without an error message."""

    what: str
    case: str
    """A case that shows it, as `verification/cases.py` reads it."""
    plant: Callable[[], AbstractContextManager[Any]]


def planted(name: str | None) -> AbstractContextManager[Any]:
    """The fault of that name for as long as the context lasts; nothing for None."""
    return contextlib.nullcontext() if name is None else (FAULTS | RESUME_FAULTS)[name].plant()


def _leaking_packing() -> AbstractContextManager[Any]:
    from megatron_redone.models.attention import pack_sequence

    def one_document(cu_seqlens: Tensor, positions_T: Tensor, *rest: Any, **named: Any) -> Any:
        return pack_sequence(cu_seqlens[[0, -1]], positions_T, *rest[:4], **named)  # without the parents

    return mock.patch("megatron_redone.models.build.pack_sequence", one_document)


def _local_mean() -> AbstractContextManager[Any]:
    from megatron_redone.training.engine import MegatronEngine

    def local(self: MegatronEngine, value: Tensor) -> Tensor:
        return value * self.context.dp.size

    return mock.patch.object(MegatronEngine, "_over_data_parallel", local)


def _unmarked_split_parameters() -> AbstractContextManager[Any]:
    from megatron_redone.models import build

    return mock.patch.object(build, "_mark_split_parameters", lambda model: None)


def _norms_of_part_of_the_sequence() -> AbstractContextManager[Any]:
    from megatron_redone.models.norm import RMSNorm

    start = RMSNorm.__init__

    def unmarked(self: RMSNorm, *arguments: Any, **named: Any) -> None:
        start(self, *arguments, **named)
        self.weight.sequence_parallel = False  # type: ignore[attr-defined]

    return mock.patch.object(RMSNorm, "__init__", unmarked)


def _keys_without_foreign_gradients() -> AbstractContextManager[Any]:
    from megatron_redone.parallel.context_parallel import _GatherRow

    def own_only(ctx: Any, grad_row: Tensor) -> tuple[Tensor, None, None]:
        (order_T,) = ctx.saved_tensors
        by_rank = torch.empty_like(grad_row)
        by_rank[order_T] = grad_row
        return by_rank.chunk(ctx.axis.size)[ctx.axis.rank], None, None

    return mock.patch.object(_GatherRow, "backward", staticmethod(own_only))


def _halved_by_context_parallelism() -> AbstractContextManager[Any]:
    from megatron_redone.training.rows import Rows

    whole = Rows.label_logprobs

    def halved(self: Rows, *arguments: Any) -> Tensor:
        values = whole(self, *arguments)
        return values.detach() + (values - values.detach()) / self.context.cp.size

    return mock.patch.object(Rows, "label_logprobs", halved)


def _default_flags_of_interleaving() -> AbstractContextManager[Any]:
    from megatron_redone.models import build

    right = build.transformer_config

    def default(*arguments: Any) -> Any:
        return replace(right(*arguments), overlap_p2p_comm=False, batch_p2p_comm=True)

    return mock.patch.object(build, "transformer_config", default)


def _megatrons_router() -> AbstractContextManager[Any]:
    from megatron.core.transformer.moe.router import TopKRouter

    from megatron_redone.models.router import Router

    return mock.patch.multiple(Router, _apply_aux_loss=TopKRouter._apply_aux_loss, apply_z_loss=TopKRouter.apply_z_loss)


def _weights_left_in_shards() -> AbstractContextManager[Any]:
    from megatron_redone.training.engine import MegatronEngine

    return mock.patch.object(MegatronEngine, "_gather_updated_weights", lambda self: None)


def _experts_scaled_by_their_ranks() -> AbstractContextManager[Any]:
    from megatron_redone.training.optimizer import wrap_chunks

    def scaled(*arguments: Any) -> Any:
        wrapped = wrap_chunks(*arguments)
        for ddp in wrapped:
            for buffer in ddp.expert_parallel_buffers:
                buffer.gradient_scaling_factor = 0.5
                for bucket in buffer.buckets:
                    bucket.gradient_scaling_factor = 0.5
        return wrapped

    return mock.patch("megatron_redone.training.engine.wrap_chunks", scaled)


def _at_loading(break_it: Callable[[Any], None]) -> AbstractContextManager[Any]:
    """Loads the optimizer's state, then breaks it."""
    from megatron_redone.training.optimizer_state import load_optimizer_state

    def load(optimizer: Any, *rest: Any) -> None:
        load_optimizer_state(optimizer, *rest)
        for inner in getattr(optimizer, "chained_optimizers", [optimizer]):
            break_it(inner.optimizer.state)

    return mock.patch("megatron_redone.training.engine.load_optimizer_state", load)


def _lost_moments() -> AbstractContextManager[Any]:
    def forget(states: Any) -> None:
        for state in states.values():
            state["exp_avg_sq"].zero_()

    return _at_loading(forget)


def _counter_from_zero() -> AbstractContextManager[Any]:
    def start_again(states: Any) -> None:
        for state in states.values():
            state["step"].zero_()

    return _at_loading(start_again)


def _shared_counter() -> AbstractContextManager[Any]:
    def share(states: Any) -> None:
        one = next(iter(states.values()))["step"]
        for state in states.values():
            state["step"] = one

    return _at_loading(share)


def _skipped_batch() -> AbstractContextManager[Any]:
    from megatron_redone.verification.layout import microbatches

    def next_one(case: Any, step: int, *rest: Any) -> Any:
        return microbatches(case, step + 1, *rest)

    return mock.patch("megatron_redone.verification.resume.microbatches", next_one)


FAULTS = {
    "leaking-packing": Fault(
        "attention sees the other documents of a packed row", "qwen3 dp=2 microbatches=3", _leaking_packing
    ),
    "local-mean": Fault(
        "each replica divides by its own tokens, and replicas are averaged", "llama dp=2 microbatches=3", _local_mean
    ),
    "unmarked-split": Fault(
        "the gradient's norm counts the parts of one tensor-parallel rank", "llama tp=2", _unmarked_split_parameters
    ),
    "norm-of-a-part": Fault(
        "gradients of norms are not summed over the parts of the sequence",
        "qwen3 tp=2,sequence_parallel=true",
        _norms_of_part_of_the_sequence,
    ),
    "lost-key-gradients": Fault(
        "gathered keys and values send no gradient back to other ranks", "qwen3 cp=2", _keys_without_foreign_gradients
    ),
    "halved-context": Fault(
        "context-parallel ranks average gradients that are parts of a sum",
        "qwen2_5 cp=2 labels=one",
        _halved_by_context_parallelism,
    ),
    "interleaving-flags": Fault(
        "interleaved stages communicate as Megatron does by default (rows of one length: others fail loudly)",
        "qwen3_moe pp=2,vpp=2,moe_dispatcher=allgather microbatches=4",
        _default_flags_of_interleaving,
    ),
    "shrunk-router-losses": Fault(
        "the routers' losses count the tokens of one rank (Megatron 0.16.1)",
        "qwen3_moe cp=2,ep=2 aux_loss=0.1 z_loss=0.1",
        _megatrons_router,
    ),
    "weights-in-shards": Fault(
        "weights are read before the distributed optimizer has gathered them",
        "qwen2_5 dp=2,distributed_optimizer=true,overlap=true",
        _weights_left_in_shards,
    ),
    "scaled-experts": Fault(
        "gradients of experts are divided by a number of replicas",
        "qwen3_moe dp=2,ep=2",
        _experts_scaled_by_their_ranks,
    ),
}

RESUME_FAULTS = {
    "lost-moments": Fault("Adam's second moments start at 0", "qwen3 tp=2 pp=2", _lost_moments),
    "counter-from-zero": Fault("Adam's bias correction starts again", "llama dp=2 dp=2", _counter_from_zero),
    "shared-counter": Fault(
        "all parameters share one step counter, which then counts each of them",
        "qwen2_5 dp=2,distributed_optimizer=true tp=2",
        _shared_counter,
    ),
    "skipped-batch": Fault(
        "the first batch after the checkpoint is skipped", "qwen3_moe dp=2,ep=2 pp=2", _skipped_batch
    ),
}
"""Faults of a continuation; the cases are those of `parse_resume`."""
