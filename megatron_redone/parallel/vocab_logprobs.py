"""Log-probabilities over a vocabulary that is split over the tensor-parallel ranks.

Shape legend: N positions, V whole vocabulary, v = V / tp the slice of this rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Group = Any


class _VocabParallelLogProbs(torch.autograd.Function):
    """log softmax(logits)[label]; gradient onehot(label) - softmax, without an N x V tensor on one rank."""

    @staticmethod
    def forward(ctx: Any, logits_Nv: Tensor, labels_N: Tensor, group: Group | None) -> Tensor:
        maximum_N1 = logits_Nv.max(dim=-1, keepdim=True).values
        if group is not None:
            dist.all_reduce(maximum_N1, op=dist.ReduceOp.MAX, group=group)
        exp_Nv = (logits_Nv - maximum_N1).exp_()
        sum_N1 = exp_Nv.sum(dim=-1, keepdim=True)
        first = dist.get_rank(group) * logits_Nv.size(-1) if group is not None else 0
        local_N = labels_N - first
        mine_N = (local_N >= 0) & (local_N < logits_Nv.size(-1))
        local_N = torch.where(mine_N, local_N, torch.zeros_like(local_N))
        target_N = logits_Nv.gather(-1, local_N.unsqueeze(-1)).squeeze(-1) - maximum_N1.squeeze(-1)
        target_N = torch.where(mine_N, target_N, torch.zeros_like(target_N))
        if group is not None:
            dist.all_reduce(sum_N1, group=group)
            dist.all_reduce(target_N, group=group)
        softmax_Nv = exp_Nv.div_(sum_N1)
        ctx.save_for_backward(softmax_Nv, local_N, mine_N)
        return target_N - sum_N1.squeeze(-1).log()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad_N,) = grad_outputs
        softmax_Nv, local_N, mine_N = ctx.saved_tensors
        grad_Nv = softmax_Nv.neg_()
        grad_Nv.scatter_add_(-1, local_N.unsqueeze(-1), mine_N.unsqueeze(-1).to(grad_Nv.dtype))
        return grad_Nv.mul_(grad_N.unsqueeze(-1)), None, None


def vocab_parallel_logprobs(
    logits_Nv: Tensor, labels_N: Tensor, group: Group | None = None, temperature: float = 1.0
) -> Tensor:
    """Log-probability [N] in fp32 (fp64 stays fp64) of each label under softmax(logits / temperature).

    Args:
        logits_Nv: this rank's slice [N, V / tp] of the logits, any float type.
        labels_N: token ids [N] in the whole vocabulary.
        group: the tensor-parallel group; None where the vocabulary is whole.
        temperature: the sampling temperature the log-probabilities belong to.
    """
    logits_Nv = logits_Nv if logits_Nv.dtype == torch.float64 else logits_Nv.float()
    if temperature != 1.0:
        logits_Nv = logits_Nv / temperature
    whole = group is None or dist.get_world_size(group) == 1
    result: Tensor = _VocabParallelLogProbs.apply(  # type: ignore[no-untyped-call]
        logits_Nv, labels_N, None if whole else group
    )
    return result


@torch.no_grad()
def vocab_parallel_entropy(logits_Nv: Tensor, group: Group | None = None, temperature: float = 1.0) -> Tensor:
    """Entropy [N] in nats of softmax(logits / temperature), a metric without gradient."""
    logits_Nv = logits_Nv.float() / temperature
    split = group is not None and dist.get_world_size(group) > 1
    maximum_N1 = logits_Nv.max(dim=-1, keepdim=True).values
    if split:
        dist.all_reduce(maximum_N1, op=dist.ReduceOp.MAX, group=group)
    shifted_Nv = logits_Nv - maximum_N1
    exp_Nv = shifted_Nv.exp()
    sums_2N = torch.stack([exp_Nv.sum(-1), (exp_Nv * shifted_Nv).sum(-1)])
    if split:
        dist.all_reduce(sums_2N, group=group)
    return sums_2N[0].log() - sums_2N[1] / sums_2N[0]


def gather_vocabulary(logits_Nv: Tensor, group: Group | None) -> Tensor:
    """The whole logits [N, V] from the slices of the tensor-parallel ranks, without gradient."""
    if group is None or dist.get_world_size(group) == 1:
        return logits_Nv
    slices = [torch.empty_like(logits_Nv) for _ in range(dist.get_world_size(group))]
    dist.all_gather(slices, logits_Nv.contiguous(), group=group)
    return torch.cat(slices, dim=-1)
