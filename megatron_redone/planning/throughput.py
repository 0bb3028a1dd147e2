"""Time of an optimizer step from operations, volumes and the profile of an accelerator. Imports no torch.

    compute = operations of the rank's share / (peak * efficiency), more by what is recomputed and by expert imbalance
    bubble  = (pp - 1) / vpp micro-batches' time, in which a stage waits
    exposed = volumes of each axis over its link, as far as nothing hides them
    update  = the optimizer's passes over its states at memory bandwidth

MFU is model operations (`models/flops.py`: causal attention, active experts, logits of labels; recomputation counts
nothing) over the peak of all ranks and the whole time.
"""

from __future__ import annotations

from dataclasses import dataclass

from megatron_redone.models.config import ModelShape
from megatron_redone.models.flops import forward_flops, training_flops
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import Accelerator
from megatron_redone.planning.memory import BYTES, Workload, rank_parameters, uses_sequence_parallel

LINK_SHARE = 0.8
"""What collectives reach of a link's bandwidth, an assumption."""
HIDDEN_BY_OVERLAP = 0.9
"""What `parallel.overlap` hides of the data-parallel traffic, an assumption."""
RECOMPUTED = {"none": 0.0, "selective": 0.0, "full": 1.0}
"""Forward passes of the layers that the backward pass does again; selective: attention, counted apart."""


@dataclass(frozen=True)
class Volumes:
    """Bytes that one rank sends in a step, by axis."""

    tensor: float
    pipeline: float
    context: float
    data: float
    expert: float


@dataclass(frozen=True)
class StepTime:
    """Seconds of an optimizer step by part, and what follows."""

    compute: float
    bubble: float
    communication: float
    """What is exposed, of all axes."""
    update: float
    flops: float
    """Model operations of a step over all ranks."""
    tokens: int
    """Tokens of a step."""
    world_size: int
    peak_flops: float
    """Of one rank."""
    volumes: Volumes

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.compute + self.bubble + self.communication + self.update

    @property
    def tokens_per_second_per_rank(self) -> float:
        """Tokens through the model, over time and ranks."""
        return self.tokens / self.seconds / self.world_size

    @property
    def flops_per_second_per_rank(self) -> float:
        """Model operations, over time and ranks."""
        return self.flops / self.seconds / self.world_size

    @property
    def mfu(self) -> float:
        """Model operations over what the ranks' peak would do in the same time."""
        return self.flops_per_second_per_rank / self.peak_flops

    @property
    def bubble_share(self) -> float:
        """Of the step."""
        return self.bubble / self.seconds


def row_lengths(work: Workload) -> list[int]:
    """Documents of a row: as many of the mean length as fit, and the rest."""
    length = min(work.document_length or work.sequence_length, work.sequence_length)
    whole, rest = divmod(work.sequence_length, length)
    return [length] * whole + ([rest] if rest else [])


def step_volumes(shape: ModelShape, parallel: ParallelConfig, world_size: int, work: Workload) -> Volumes:
    """Bytes that a rank of the first stage sends in a step (rings: each of n ranks sends (n - 1) / n of a tensor)."""
    p, size = parallel, BYTES[parallel.precision]
    rows, layers = work.microbatches(p.data_parallel_size(world_size)), shape.num_layers // p.pp
    tokens = work.sequence_length // p.cp
    hidden = size * tokens * shape.hidden_size
    # two all-reduces a layer and direction; with sequence parallelism as gather and scatter, gathered once more
    passes = (10 if uses_sequence_parallel(shape, p) else 8) * (p.tp - 1) / p.tp
    if shape.is_moe:
        passes /= 2  # experts replace the MLP's half
    tensor = rows * layers * passes * hidden
    split = p.tp if uses_sequence_parallel(shape, p) else 1
    pipeline = rows * 2 * p.vpp * hidden / split if p.pp > 1 else 0.0
    keys = 2 * size * tokens * shape.num_kv_heads * shape.head_dim / p.tp
    context = rows * layers * 2 * (p.cp - 1) * keys
    own = rank_parameters(shape, p, 0)
    replicas, expert_replicas = world_size // (p.tp * p.pp), world_size // (p.etp * p.ep * p.pp)
    both = 4 + (size if p.distributed_optimizer else 4)  # fp32 gradients out, weights (or gradients again) back
    data = both * (own.dense * (replicas - 1) / replicas + own.experts * (expert_replicas - 1) / expert_replicas)
    routed = hidden / split * shape.experts_per_token * work.expert_imbalance
    expert = rows * layers * 4 * routed * (p.ep - 1) / p.ep if shape.is_moe else 0.0
    return Volumes(tensor, pipeline, context, data, expert)


def step_time(
    shape: ModelShape, parallel: ParallelConfig, world_size: int, work: Workload, gpu: Accelerator
) -> StepTime:
    """Expected time of an optimizer step.

    Raises:
        KeyError: the profile has no peak of this precision.
    """
    p = parallel
    peak = gpu.flops[p.precision]
    lengths = row_lengths(work)
    labels = round(work.sequence_length * work.labelled)
    rows = work.microbatches(p.data_parallel_size(world_size))
    replicas = p.data_parallel_size(world_size)
    flops = training_flops(shape, lengths, labels)
    done = flops + RECOMPUTED[p.recompute] * forward_flops(shape, lengths, 0)
    if p.recompute == "selective":
        pairs = sum(length * (length + 1) / 2 for length in lengths)
        done += shape.num_layers * 4.0 * shape.num_heads * shape.head_dim * pairs
    if shape.is_moe:
        done += (work.expert_imbalance - 1) * _expert_flops(shape, work.sequence_length)
    row_seconds = done / (p.tp * p.pp * p.cp) / (peak * gpu.efficiency)
    compute = rows * row_seconds
    bubble = (p.pp - 1) / p.vpp * row_seconds
    volumes = step_volumes(shape, p, world_size, work)
    return StepTime(
        compute=compute,
        bubble=bubble,
        communication=_exposed(volumes, p, world_size, gpu),
        update=_update_seconds(shape, p, world_size, gpu),
        flops=flops * rows * replicas,
        tokens=rows * replicas * work.sequence_length,
        world_size=world_size,
        peak_flops=peak,
        volumes=volumes,
    )


def _expert_flops(shape: ModelShape, tokens: int) -> float:
    return (
        3
        * 2.0
        * 3
        * shape.hidden_size
        * shape.moe_ffn_hidden_size
        * shape.experts_per_token
        * (tokens * shape.num_layers)
    )


def _exposed(volumes: Volumes, p: ParallelConfig, world_size: int, gpu: Accelerator) -> float:
    """Seconds; an axis whose ranks span nodes goes over the network. Order of ranks: tp, cp, dp (ep inside), pp."""

    def seconds(volume: float, span: int) -> float:
        link = gpu.node_bandwidth if span <= gpu.ranks_per_node else gpu.network_bandwidth
        return volume / (link * LINK_SHARE)

    data = seconds(volumes.data, world_size // p.pp)
    if p.overlap:
        data *= 1 - HIDDEN_BY_OVERLAP
    return (
        seconds(volumes.tensor, p.tp)
        + seconds(volumes.context, p.tp * p.cp)
        + seconds(volumes.expert, p.etp * p.ep)
        + seconds(volumes.pipeline, world_size)
        + data
    )


def _update_seconds(shape: ModelShape, p: ParallelConfig, world_size: int, gpu: Accelerator) -> float:
    """Reads gradient, weight and both moments and writes the last three, all in fp32: 28 bytes a parameter."""
    own = rank_parameters(shape, p, 0)
    count: float = own.dense + own.experts
    if p.distributed_optimizer:
        count = own.dense / (world_size // (p.tp * p.pp)) + own.experts / (world_size // (p.etp * p.ep * p.pp))
    return 28 * count / (gpu.memory_bandwidth * LINK_SHARE)
