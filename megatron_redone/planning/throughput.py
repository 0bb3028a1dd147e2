"""Time of an optimizer step from operations, bytes, volumes and the profile of an accelerator. Imports no torch.

    device  = for dense products, experts and attention: operations of the rank's share / (peak x what kernels reach)
              + bytes of what is no matrix product / memory bandwidth, more by what is recomputed and by imbalance
    bubble  = (pp - 1) / vpp micro-batches' time, in which a stage waits
    exposed = volumes of each axis over its link, as far as nothing hides them
    host    = what device and exposed traffic of a micro-batch take less than starting its operations one by one
    update  = the optimizer's passes over its states at memory bandwidth

MFU is model operations (`models/flops.py`: causal attention, active experts, logits of labels; recomputation counts
nothing) over the peak of all ranks and the whole time. docs/planning.md derives the figures below.
"""

from __future__ import annotations

from dataclasses import dataclass

from megatron_redone.models.config import ModelShape
from megatron_redone.models.flops import PASSES, training_flops
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import Accelerator
from megatron_redone.planning.memory import BYTES, LayerMemory, Workload, rank_parameters, uses_sequence_parallel

LINK_SHARE = 0.8
"""What collectives reach of a link's bandwidth, and streams of memory's; an assumption."""
HIDDEN_BY_OVERLAP = 0.9
"""What `parallel.overlap` hides of the data-parallel traffic, an assumption."""
PASSES_OVER_KEPT = 4
"""A kept tensor is written and read by the forward pass, read by the backward pass, and its gradient is written."""
PERMUTATIONS = 12
"""Reads and writes of an expert's input: two permutations, forward twice and backward once over, each both ways."""
RECOMPUTED = {"none": 0.0, "selective": 0.0, "full": 1.0}
"""Forward passes of the layers that the backward pass does again; selective: attention, counted apart."""
OPERATIONS = {"dense": 780, "experts": 1560}
"""That the host starts for one layer, forward and backward. Dense: counted in our code (`memory_trace`). Experts: an
assumption for grouped matrix products and fused permutations, twice the dense layer; our code without them starts
4,530 with eight experts on a rank."""


@dataclass(frozen=True)
class Practice:
    """What the software of a run does that a layout does not say. The default is this project's engine."""

    tensor_hidden: float = 0.0
    """Share of the tensor-parallel traffic that goes on beside matrix products."""
    expert_hidden: float = 0.0
    """The same of the experts' traffic."""
    once_per_node: bool = False
    """A token goes to a node once, however many of its experts are there (DeepEP, HybridEP)."""
    captured: bool = False
    """CUDA graphs take most of the starting of operations from the host."""


OURS = Practice()


@dataclass(frozen=True)
class Volumes:
    """Bytes that one rank sends in a step, by axis."""

    tensor: float
    pipeline: float
    context: float
    data: float
    expert: float
    """As if every choice of an expert were sent."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of an optimizer step by part, and what follows."""

    compute: float
    bubble: float
    communication: float
    """What is exposed, of all axes."""
    host: float
    """In which the device waits for the host to start operations."""
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
        return self.compute + self.bubble + self.communication + self.host + self.update

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
    shape: ModelShape,
    parallel: ParallelConfig,
    world_size: int,
    work: Workload,
    gpu: Accelerator,
    practice: Practice = OURS,
) -> StepTime:
    """Expected time of an optimizer step.

    Raises:
        KeyError: the profile has no peak of this precision.
    """
    p = parallel
    lengths = row_lengths(work)
    replicas = p.data_parallel_size(world_size)
    rows = work.microbatches(replicas)
    flops = training_flops(shape, lengths, round(work.sequence_length * work.labelled))
    row_seconds = device_seconds(shape, p, work, gpu)
    volumes = step_volumes(shape, p, world_size, work)
    sent = _exposed(shape, volumes, p, world_size, gpu, practice)
    waiting = max(0.0, _host_seconds(shape, p, gpu, practice) - row_seconds - sent / rows)
    in_pipeline = rows + (p.pp - 1) / p.vpp
    return StepTime(
        compute=rows * row_seconds,
        bubble=(p.pp - 1) / p.vpp * row_seconds,
        communication=sent + _reduction_seconds(volumes, p, world_size, gpu),
        host=in_pipeline * waiting,
        update=_update_seconds(shape, p, world_size, gpu),
        flops=flops * rows * replicas,
        tokens=rows * replicas * work.sequence_length,
        world_size=world_size,
        peak_flops=gpu.flops[p.precision],
        volumes=volumes,
    )


def device_seconds(shape: ModelShape, p: ParallelConfig, work: Workload, gpu: Accelerator) -> float:
    """Of the slowest stage's rank for its share of one row, forward and backward."""
    lengths = row_lengths(work)
    tokens, pairs = sum(lengths), sum(length * (length + 1) / 2 for length in lengths)
    h, q, kv = shape.hidden_size, shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    dense = h * (q + 2 * kv) + q * h
    dense += h * shape.num_experts if shape.is_moe else 3 * h * shape.ffn_hidden_size
    experts = shape.experts_per_token * 3 * h * shape.moe_ffn_hidden_size * work.expert_imbalance
    vocabulary = PASSES * 2 * h * shape.vocab_size * round(tokens * work.labelled)
    passes = PASSES + RECOMPUTED[p.recompute]
    attended = passes + (1 if p.recompute == "selective" else 0)
    kernels, layers = gpu.kernels, shape.num_layers / p.pp
    peak = gpu.flops[p.precision] * p.tp * p.cp
    products = (
        (passes * layers * 2 * tokens * dense + vocabulary) / kernels.dense  # the last stage has it, and all wait
        + passes * layers * 2 * tokens * experts / kernels.experts
        + attended * layers * 4 * q * pairs / kernels.attention
    ) / peak
    return products + passes / PASSES * _streamed_bytes(shape, p, work) / (gpu.memory_bandwidth * LINK_SHARE)


def _streamed_bytes(shape: ModelShape, p: ParallelConfig, work: Workload) -> float:
    """Bytes that norms, activations, rotations and permutations of a rank's share of a row move."""
    layer = LayerMemory(shape, p, work)
    moved = PASSES_OVER_KEPT * layer.kept
    if shape.is_moe:
        moved += PERMUTATIONS * layer.size * layer.routed * shape.hidden_size
    return moved * shape.num_layers / p.pp


def _host_seconds(shape: ModelShape, p: ParallelConfig, gpu: Accelerator, practice: Practice) -> float:
    """To start the operations of one micro-batch on one rank."""
    if practice.captured:
        return 0.0
    operations = OPERATIONS["experts" if shape.is_moe else "dense"] * shape.num_layers / p.pp
    return operations * (1 + RECOMPUTED[p.recompute] / PASSES) * gpu.kernels.operation_seconds


def _exposed(
    shape: ModelShape, volumes: Volumes, p: ParallelConfig, world_size: int, gpu: Accelerator, practice: Practice
) -> float:
    """Seconds of all micro-batches' traffic that nothing hides. Order of ranks: tp, cp, dp (ep inside), pp."""
    return (
        _link_seconds(volumes.tensor, p.tp, gpu) * (1 - practice.tensor_hidden)
        + _link_seconds(volumes.context, p.tp * p.cp, gpu)
        + _expert_seconds(shape, volumes.expert, p, gpu, practice) * (1 - practice.expert_hidden)
        + _link_seconds(volumes.pipeline, world_size, gpu)
    )


def _link_seconds(volume: float, span: int, gpu: Accelerator) -> float:
    """Over the links of a node, or where the ranks span nodes over the network."""
    link = gpu.node_bandwidth if span <= gpu.ranks_per_node else gpu.network_bandwidth
    return volume / (link * LINK_SHARE)


def _reduction_seconds(volumes: Volumes, p: ParallelConfig, world_size: int, gpu: Accelerator) -> float:
    """Of the data-parallel traffic once a step, as far as `overlap` does not hide it."""
    shown = 1 - HIDDEN_BY_OVERLAP if p.overlap else 1.0
    return shown * _link_seconds(volumes.data, world_size // p.pp, gpu)


def _expert_seconds(shape: ModelShape, volume: float, p: ParallelConfig, gpu: Accelerator, practice: Practice) -> float:
    """All-to-alls: the choices inside the node over its links, the others over the network, once a node if it is so."""
    span = p.etp * p.ep
    nodes = -(-span // gpu.ranks_per_node)
    away = (nodes - 1) / nodes
    network = volume * away
    if practice.once_per_node and nodes > 1:
        chosen = (nodes - 1) * (1 - (1 - 1 / nodes) ** shape.experts_per_token)  # other nodes with an expert of a token
        network = volume * chosen / shape.experts_per_token
    return (volume * (1 - away) / gpu.node_bandwidth + network / gpu.network_bandwidth) / LINK_SHARE


def _update_seconds(shape: ModelShape, p: ParallelConfig, world_size: int, gpu: Accelerator) -> float:
    """Reads gradient, weight and both moments and writes the last three, all in fp32: 28 bytes a parameter."""
    own = rank_parameters(shape, p, 0)
    count: float = own.dense + own.experts
    if p.distributed_optimizer:
        count = own.dense / (world_size // (p.tp * p.pp)) + own.experts / (world_size // (p.etp * p.ep * p.pp))
    return 28 * count / (gpu.memory_bandwidth * LINK_SHARE)
