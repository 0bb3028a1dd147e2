"""Memory of one rank by part, from the shape of the model and the layout. Imports no torch.

The formulas count the tensors that the local layer spec (`models/build.py`, no Transformer Engine) keeps; their error
against a trace of the real code stands in docs/measurements/planner.md, their derivation in docs/planning.md.

Legend: T tokens of a context-parallel rank, t = tp, Ts = T / t under sequence parallelism and else T, h hidden size,
Q and K widths of all query and of all key heads, f width of the MLP. All sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig

BYTES = {"fp32": 4, "bf16": 2, "fp64": 8}
LOGIT_CHUNK = 4 * 2**26
"""fp32 logits that the log-probabilities work on at a time (`parallel/vocab_logprobs.py`)."""
FRAGMENTATION = 0.04
"""Allowance for memory that CUDA's caching allocator holds and cannot use, as a share of what is not static."""


@dataclass(frozen=True)
class Workload:
    """What a step computes."""

    sequence_length: int
    """Tokens of a packed row, which is one micro-batch."""
    global_batch: int
    """Rows of an optimizer step over all replicas."""
    document_length: int | None = None
    """Mean tokens of a document; by default a row is one."""
    labelled: float = 1.0
    """Share of tokens whose logits are computed."""
    expert_imbalance: float = 1.0
    """Tokens of the fullest rank of experts over the mean."""

    def microbatches(self, replicas: int) -> int:
        """Rows of one replica in a step."""
        return -(-self.global_batch // replicas)


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank by part."""

    parameters: int
    """Number of parameters."""
    weights: int
    gradients: int
    optimizer: int
    activations: int
    """What forward passes keep for the backward pass: layers, of all micro-batches in flight."""
    logits: int
    """Logits and what is made from them, where they are what is largest."""
    workspace: int
    """What the backward pass of a layer (or of the embedding) needs beside the above, where that is largest."""
    communication: int
    """Pipeline buffers."""
    fragmentation: int
    reserved: int

    @property
    def static(self) -> int:
        """Weights, gradients, optimizer."""
        return self.weights + self.gradients + self.optimizer

    @property
    def tensors(self) -> int:
        """All that tensors take: what a trace, or torch.cuda.max_memory_allocated, sees."""
        return self.static + self.activations + self.logits + self.workspace + self.communication

    @property
    def total(self) -> int:
        """With the allowances."""
        return self.tensors + self.fragmentation + self.reserved


@dataclass(frozen=True)
class RankParameters:
    """Parameters of one rank: those that all data-parallel ranks share, and its experts."""

    dense: int
    experts: int


def uses_sequence_parallel(shape: ModelShape, parallel: ParallelConfig) -> bool:
    """As `models/build.py` decides it."""
    wanted = parallel.sequence_parallel
    return (shape.is_moe if wanted is None else wanted) and parallel.tp > 1


def rank_parameters(shape: ModelShape, parallel: ParallelConfig, pipeline_rank: int) -> RankParameters:
    """Parameters on the ranks of a pipeline stage."""
    h, tp, layers = shape.hidden_size, parallel.tp, shape.num_layers // parallel.pp
    q, k = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    attention = h * (q + 2 * k) // tp + q * h // tp
    attention += (q + 2 * k) // tp if shape.qkv_bias else 0
    attention += 2 * shape.head_dim if shape.qk_norm else 0
    mlp = h * shape.num_experts if shape.is_moe else 3 * h * shape.ffn_hidden_size // tp
    dense = layers * (attention + mlp + 2 * h)
    table = padded_vocabulary(shape, tp) // tp * h
    first, last = pipeline_rank == 0, pipeline_rank == parallel.pp - 1
    dense += table if first else 0
    dense += h if last else 0
    dense += table if last and not (shape.tie_embeddings and first) else 0
    experts = 0
    if shape.is_moe:
        experts = layers * (shape.num_experts // parallel.ep) * 3 * h * shape.moe_ffn_hidden_size // parallel.etp
    return RankParameters(dense, experts)


def padded_vocabulary(shape: ModelShape, tp: int) -> int:
    """Rows of the embedding, rounded up to a multiple of tp."""
    return -(-shape.vocab_size // tp) * tp


def in_flight(parallel: ParallelConfig, pipeline_rank: int, microbatches: int) -> float:
    """Micro-batches whose activations a stage holds at most, in units of all its layers.

    1F1B holds as many as there are stages from here on; the interleaved schedule 2 (pp - rank - 1) + (vpp - 1) pp + 1
    chunks, each of 1 / vpp of the layers.
    """
    if parallel.vpp == 1:
        return min(microbatches, parallel.pp - pipeline_rank)
    chunks = 2 * (parallel.pp - pipeline_rank - 1) + (parallel.vpp - 1) * parallel.pp + 1
    return min(chunks, microbatches * parallel.vpp) / parallel.vpp


def rank_memory(
    shape: ModelShape,
    parallel: ParallelConfig,
    world_size: int,
    work: Workload,
    pipeline_rank: int = 0,
    *,
    reserved: float = 0.0,
) -> RankMemory:
    """Memory of the ranks of one pipeline stage at the peak of a step."""
    own = rank_parameters(shape, parallel, pipeline_rank)
    replicas = world_size // (parallel.tp * parallel.pp)
    expert_replicas = world_size // (parallel.etp * parallel.ep * parallel.pp)
    parameters = own.dense + own.experts
    size = BYTES[parallel.precision]
    state = {"bf16": 12, "fp32": 8, "fp64": 16}[parallel.precision]
    optimizer = state * parameters
    if parallel.distributed_optimizer:
        optimizer = state * own.dense // replicas + state * own.experts // expert_replicas

    layer = LayerMemory(shape, parallel, work)
    layers = shape.num_layers // parallel.pp
    rows = in_flight(parallel, pipeline_rank, work.microbatches(parallel.data_parallel_size(world_size)))
    kept = layer.kept * layers if parallel.recompute != "full" else layer.hidden * layers
    activations = rows * kept
    first, last = pipeline_rank == 0, pipeline_rank == parallel.pp - 1
    head = layer.head if last else 0
    again = layer.kept if parallel.recompute == "full" else 0
    table = padded_vocabulary(shape, parallel.tp) // parallel.tp * shape.hidden_size * size
    work_of_layer = again + layer.workspace
    # At its end the backward pass has freed a micro-batch and makes the embedding's gradient.
    work_of_embedding = table - kept if first and not (shape.tie_embeddings and last) else 0
    beside = max(work_of_layer, work_of_embedding)
    logits, workspace = (head, 0) if head >= beside else (0, beside)
    pipe = layer.hidden * (2 if parallel.pp > 1 else 0) * rows
    moving = activations + logits + workspace + pipe
    return RankMemory(
        parameters=parameters,
        weights=size * parameters,
        gradients=max(4, size) * parameters,
        optimizer=int(optimizer),
        activations=int(activations),
        logits=int(logits),
        workspace=int(workspace),
        communication=int(pipe),
        fragmentation=int(FRAGMENTATION * moving),
        reserved=int(reserved),
    )


class LayerMemory:
    """Bytes of one micro-batch: what a layer keeps, its workspace, and the output layer."""

    def __init__(self, shape: ModelShape, parallel: ParallelConfig, work: Workload) -> None:
        self.shape, self.parallel, self.work = shape, parallel, work
        self.size = BYTES[parallel.precision]
        self.tokens = work.sequence_length // parallel.cp
        self.split = parallel.tp if uses_sequence_parallel(shape, parallel) else 1
        self.hidden = self.size * self.tokens / self.split * shape.hidden_size
        self.kept = 2 * self._norm(self.tokens / self.split * shape.hidden_size) + self._attention() + self._mlp()
        self.workspace = self._workspace()
        self.head = self._head()

    def _norm(self, entries: float) -> float:
        """RMSNorm: in bf16 the fp32 copy of its input, the normalised tensor and its product with the weight."""
        return entries * (8 if self.parallel.precision == "bf16" else 2 * self.size)

    def _attention(self) -> float:
        s, tp, T, size = self.shape, self.parallel.tp, self.tokens, self.size
        q, k = s.num_heads * s.head_dim / tp, s.num_kv_heads * s.head_dim / tp
        kept = size * T * (q + 2 * k)  # one tensor; the values are a view of it
        per_entry = size  # rotated queries and keys
        if s.qk_norm:
            per_entry += 6 if self.parallel.precision == "bf16" else size
        kept += per_entry * T * (q + k) + size * T * q  # and the output
        if self.parallel.recompute != "selective":
            kept += 4 * T * s.num_heads / tp  # log-sum of the softmax
        if self.parallel.cp > 1 and (self.work.document_length or self.work.sequence_length) > self._chunk():
            kept += self._gathered(k)
        return kept

    def _chunk(self) -> int:
        return self.work.sequence_length // (2 * self.parallel.cp)

    def _gathered(self, k: float) -> float:
        """Keys and values of the whole row, and the masks of the two cut chunks, boolean and as numbers."""
        chunk, cp = self._chunk(), self.parallel.cp
        return self.size * self.work.sequence_length * 2 * k + (1 + self.size) * chunk**2 * (2 * cp + 1)

    def _mlp(self) -> float:
        s, p, T, size = self.shape, self.parallel, self.tokens, self.size
        if not s.is_moe:
            return size * T * 3 * s.ffn_hidden_size / p.tp
        h, routed = s.hidden_size, self.routed
        local = T / self.split
        # both halves, their product, and that times the router's probability
        experts = size * routed * (h + 4 * s.moe_ffn_hidden_size / p.etp)
        return experts + local * s.num_experts * 10  # two tables in fp32, choices

    @property
    def routed(self) -> float:
        """Tokens that arrive at the experts of a rank."""
        p = self.parallel
        return self.tokens / self.split * self.shape.experts_per_token * p.etp * self.work.expert_imbalance

    def _workspace(self) -> float:
        s, p, T, size = self.shape, self.parallel, self.tokens, self.size
        h = s.hidden_size
        if s.is_moe:
            return size * self.routed * 3 * h
        f = s.ffn_hidden_size / p.tp
        return size * (T * (h + 4 * f) + 2 * h * f)

    def _head(self) -> float:
        """Final norm, logits (twice where sequence parallelism selects them), fp32 chunks, gradients."""
        s, p, T, size = self.shape, self.parallel, self.tokens, self.size
        V = padded_vocabulary(s, p.tp) / p.tp
        logits = size * T * self.work.labelled * V
        if self.split > 1:
            logits += size * T * V
        norm = self._norm(T / self.split * s.hidden_size)
        backward = size * (V * s.hidden_size + 2 * T * s.hidden_size)
        return norm + logits + max(2 * LOGIT_CHUNK, backward)
