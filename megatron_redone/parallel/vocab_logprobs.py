"""Log-probabilities over a vocabulary that is split over the tensor-parallel ranks.

Shape legend: N positions, V whole vocabulary, v = V / tp the slice of this rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Group = Any


CPU_CHUNK, CUDA_CHUNK = 2**20, 2**26
"""Logits that are worked on at a time: in fp32 they fit a processor's cache, or cost a GPU 256 MiB."""


class _VocabParallelLogProbs(torch.autograd.Function):
    """log softmax(logits / temperature)[label]; gradient (onehot(label) - softmax) / temperature.

    Works on some rows at a time, in fp32, and keeps nothing but the logits: the gradient is written over them.
    """

    @staticmethod
    def forward(ctx: Any, logits_Nv: Tensor, labels_N: Tensor, group: Group | None, temperature: float) -> Tensor:
        maximum_N = _maximum(logits_Nv, group, temperature)
        first = dist.get_rank(group) * logits_Nv.size(-1) if group is not None else 0
        local_N = labels_N - first
        mine_N = (local_N >= 0) & (local_N < logits_Nv.size(-1))
        local_N = torch.where(mine_N, local_N, torch.zeros_like(local_N))
        target_N = _in_fp32(logits_Nv.gather(-1, local_N.unsqueeze(-1)).squeeze(-1)) / temperature - maximum_N
        sum_N = torch.empty_like(maximum_N)
        for rows in _chunks(logits_Nv):
            sum_N[rows] = _shifted(logits_Nv[rows], maximum_N[rows], temperature).exp_().sum(-1)
        target_N = torch.where(mine_N, target_N, torch.zeros_like(target_N))
        if group is not None:
            dist.all_reduce(sum_N, group=group)
            dist.all_reduce(target_N, group=group)
        log_sum_N = sum_N.log()
        ctx.temperature = temperature
        ctx.save_for_backward(logits_Nv, maximum_N + log_sum_N, local_N, mine_N)
        return target_N - log_sum_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        logits_Nv, normaliser_N, local_N, mine_N = ctx.saved_tensors
        grad_N = grad_outputs[0] / ctx.temperature
        grad_of_target_N = torch.where(mine_N, grad_N, torch.zeros_like(grad_N))
        for rows in _chunks(logits_Nv):
            softmax = _shifted(logits_Nv[rows], normaliser_N[rows], ctx.temperature).exp_()
            gradient = softmax.mul_(-grad_N[rows, None])
            logits_Nv[rows] = gradient.scatter_add_(-1, local_N[rows, None], grad_of_target_N[rows, None])
        return logits_Nv, None, None, None


def vocab_parallel_logprobs(
    logits_Nv: Tensor, labels_N: Tensor, group: Group | None = None, temperature: float = 1.0
) -> Tensor:
    """Log-probability [N] in fp32 (fp64 stays fp64) of each label under softmax(logits / temperature).

    The backward pass overwrites the logits with their gradient, so that no second tensor of their size is needed.

    Args:
        logits_Nv: this rank's slice [N, V / tp] of the logits, any float type.
        labels_N: token ids [N] in the whole vocabulary.
        group: the tensor-parallel group; None where the vocabulary is whole.
        temperature: the sampling temperature the log-probabilities belong to.
    """
    whole = group is None or dist.get_world_size(group) == 1
    result: Tensor = _VocabParallelLogProbs.apply(  # type: ignore[no-untyped-call]
        logits_Nv, labels_N, None if whole else group, temperature
    )
    return result


@torch.no_grad()
def vocab_parallel_entropy(logits_Nv: Tensor, group: Group | None = None, temperature: float = 1.0) -> Tensor:
    """Entropy [N] in nats of softmax(logits / temperature), a metric without gradient."""
    split = group is not None and dist.get_world_size(group) > 1
    return _entropy(logits_Nv, group if split else None, temperature)[0]


class _VocabParallelEntropy(torch.autograd.Function):
    """-sum p log p with p = softmax(logits / temperature); gradient -p (log p + entropy) / temperature.

    Keeps a copy of the logits, since the backward pass of the log-probabilities writes over them.
    """

    @staticmethod
    def forward(ctx: Any, logits_Nv: Tensor, group: Group | None, temperature: float) -> Tensor:
        entropy_N, normaliser_N = _entropy(logits_Nv, group, temperature)
        ctx.temperature = temperature
        ctx.save_for_backward(logits_Nv.clone(), entropy_N, normaliser_N)
        return entropy_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        logits_Nv, entropy_N, normaliser_N = ctx.saved_tensors
        grad_N = grad_outputs[0] / ctx.temperature
        for rows in _chunks(logits_Nv):
            log_p = _shifted(logits_Nv[rows], normaliser_N[rows], ctx.temperature)
            logits_Nv[rows] = log_p.exp().mul_(log_p.add_(entropy_N[rows, None])).mul_(-grad_N[rows, None])
        return logits_Nv, None, None


def differentiable_entropy(logits_Nv: Tensor, group: Group | None = None, temperature: float = 1.0) -> Tensor:
    """`vocab_parallel_entropy` with its gradient, for an entropy bonus; costs a second tensor of the logits' size."""
    split = group is not None and dist.get_world_size(group) > 1
    result: Tensor = _VocabParallelEntropy.apply(logits_Nv, group if split else None, temperature)  # type: ignore[no-untyped-call]
    return result


def _entropy(logits_Nv: Tensor, group: Group | None, temperature: float) -> tuple[Tensor, Tensor]:
    """Entropy [N], and log of the sum of exp(logits / temperature) [N]."""
    maximum_N = _maximum(logits_Nv, group, temperature)
    sums_2N = maximum_N.new_empty(2, logits_Nv.size(0))
    for rows in _chunks(logits_Nv):
        shifted = _shifted(logits_Nv[rows], maximum_N[rows], temperature)
        exponentials = shifted.exp()
        sums_2N[0, rows], sums_2N[1, rows] = exponentials.sum(-1), shifted.mul_(exponentials).sum(-1)
    if group is not None:
        dist.all_reduce(sums_2N, group=group)
    return sums_2N[0].log() - sums_2N[1] / sums_2N[0], maximum_N + sums_2N[0].log()


def _chunks(logits_Nv: Tensor) -> Iterator[slice]:
    """Rows to be worked on together."""
    entries = CPU_CHUNK if logits_Nv.device.type == "cpu" else CUDA_CHUNK
    size = max(1, entries // max(1, logits_Nv.size(1)))
    return (slice(start, start + size) for start in range(0, logits_Nv.size(0), size))


def _in_fp32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _maximum(logits_Nv: Tensor, group: Group | None, temperature: float) -> Tensor:
    """Largest logit / temperature [N] of the whole vocabulary."""
    maximum_N = _in_fp32(logits_Nv.amax(-1)) / temperature
    if group is not None:
        dist.all_reduce(maximum_N, op=dist.ReduceOp.MAX, group=group)
    return maximum_N


def _shifted(logits: Tensor, shift: Tensor, temperature: float) -> Tensor:
    """A new tensor logits / temperature - shift, in fp32."""
    scaled = logits.to(shift.dtype, copy=True)
    if temperature != 1.0:
        scaled.div_(temperature)
    return scaled.sub_(shift.unsqueeze(-1))


def gather_vocabulary(logits_Nv: Tensor, group: Group | None) -> Tensor:
    """The whole logits [N, V] from the slices of the tensor-parallel ranks, without gradient."""
    if group is None or dist.get_world_size(group) == 1:
        return logits_Nv
    slices = [torch.empty_like(logits_Nv) for _ in range(dist.get_world_size(group))]
    dist.all_gather(slices, logits_Nv.contiguous(), group=group)
    return torch.cat(slices, dim=-1)
