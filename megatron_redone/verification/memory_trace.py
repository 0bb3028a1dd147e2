"""Memory of one rank of a training step of any layout, traced on a CPU without the memory or the ranks.

The real model, its DDP buffers, its optimizer and its log-probabilities run under torch's fake tensors, which have
shapes and storages but no data, in a fake process group of any size, whose collectives do nothing. Every storage
that an operation makes is counted while it lives, in units of 512 bytes as CUDA's caching allocator gives them.

What is put in place of the real thing, since fake tensors hold no numbers: the counts of tokens by expert are
balanced; the pipeline's transport is left out and its order kept (`schedule_to_peak`); the norm of the gradient is
not formed. What a trace cannot know: fragmentation, the CUDA context, NCCL's and cuBLAS's own buffers.

One trace changes global state of its process (process group, Megatron's parallel state): run each in a new one.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from megatron_redone.common.errors import ConfigError
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig

ALLOCATION = 512
"""CUDA's caching allocator gives multiples of so many bytes."""


@dataclass
class TracedMemory:
    """Bytes of one rank, by the end of what made them."""

    parameters: int
    """Number of parameters of this rank."""
    static: int
    """Weights, gradient buffers and optimizer states after the first step."""
    activations: int
    """What the forward passes before the peak leave for their backward passes."""
    peak: int
    """The most of a whole step."""
    operations: float = 0.0
    """That the host starts for one micro-batch, forward and backward."""
    at_peak: dict[str, int] = field(default_factory=dict)
    """The largest kinds of tensor within half a percent of the peak, by shape and type."""

    def as_json(self) -> dict[str, Any]:
        """For a file or another process."""
        return asdict(self)


class StorageCount(TorchDispatchMode):
    """Counts the bytes of living storages that operations under it return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.operations = 0
        self._alive: dict[int, tuple[Any, int, str]] = {}
        self.at_peak: dict[str, int] = {}
        self.keep_kinds = False
        self._looked_at = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        for value in tree_flatten(result)[0]:
            if isinstance(value, FakeTensor):
                self.count(value)
        return result

    def count(self, tensor: torch.Tensor) -> None:
        """Takes a tensor's storage into the count until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        size = -(-storage.nbytes() // ALLOCATION) * ALLOCATION
        if key in self._alive:
            return
        kind = f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        self._alive[key] = (weakref.ref(storage, functools.partial(self._freed, key)), size, kind)
        self.now += size
        if self.now > self.peak:
            self.peak = self.now
            if self.keep_kinds and self.now > self._looked_at * 1.005:
                self._looked_at, self.at_peak = self.now, self.kinds()

    def _freed(self, key: int, _: Any) -> None:
        _, size, _ = self._alive.pop(key)
        self.now -= size

    def kinds(self) -> dict[str, int]:
        """Living bytes by shape and type, largest first."""
        found: dict[str, int] = {}
        for _, size, kind in self._alive.values():
            found[kind] = found.get(kind, 0) + size
        return dict(sorted(found.items(), key=lambda item: -item[1])[:40])


def schedule_to_peak(pp: int, vpp: int, rank: int, microbatches: int) -> list[int]:
    """The chunks whose forward passes a pipeline rank runs before its first backward pass, in Megatron's order.

    One after the other up to the depth below the rank (1F1B); interleaved, pp micro-batches to each chunk in turn, and
    2 (pp - rank - 1) + (vpp - 1) pp of them before the first of the steady state.
    """
    if vpp == 1:
        return [0] * min(microbatches, pp - rank)
    warm = min(2 * (pp - rank - 1) + (vpp - 1) * pp + 1, microbatches * vpp)
    return [(step // pp) % vpp for step in range(warm)]


def trace_memory(
    shape: ModelShape,
    parallel: ParallelConfig,
    world_size: int,
    sequence_length: int,
    *,
    microbatches: int | None = None,
    pipeline_rank: int = 0,
    kinds: bool = False,
) -> TracedMemory:
    """Traces a step of one rank, with one document a row and every token a label.

    Args:
        microbatches: of a replica in one step; by default enough to fill the pipeline.
        pipeline_rank: the pipeline stage whose first rank is traced.
        kinds: also tell what lives at the peak (slower).
    Raises:
        ConfigError: the layout does not fit the model or the number of ranks.
    """
    problems = [*parallel.problems(world_size), *shape.layout_problems(parallel)]
    if shape.is_moe and parallel.moe_dispatcher != "alltoall":
        problems.append(f"parallel.moe_dispatcher={parallel.moe_dispatcher}: only alltoall can be traced; leave it out")
    if problems:
        raise ConfigError(problems)
    rank = pipeline_rank * (world_size // parallel.pp)
    with _fake_ranks(rank, world_size, parallel) as context:
        from megatron_redone.training.config import OptimizerConfig
        from megatron_redone.training.engine import MegatronEngine

        counter = StorageCount()
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, counter, balanced_experts():
            with _not_moved():
                engine = MegatronEngine(shape, context, OptimizerConfig())
            engine._begin_training()
            for ddp in engine.ddp:  # gathers weights in place: nothing to count
                ddp.start_param_sync = lambda *arguments, **options: None
            count = sum(p.numel() for p in engine.model.parameters().values())
            inputs = _inputs(engine, sequence_length, mode)
            order = schedule_to_peak(parallel.pp, parallel.vpp, pipeline_rank, microbatches or 2 * parallel.pp)
            engine.optimizer.zero_grad()
            _optimizer_step(engine)  # makes Adam's moments
            gc.collect()
            static = counter.now
            counter.peak, counter.keep_kinds = counter.now, kinds
            before = counter.operations
            outputs = [_forward(engine, chunk, inputs) for chunk in order]
            gc.collect()
            activations, forward = counter.now - static, counter.operations - before
            _backward(engine, order[-1] if parallel.vpp > 1 else 0, outputs, last=parallel.vpp > 1)
            operations = forward / len(order) + counter.operations - before - forward
            _optimizer_step(engine)
    return TracedMemory(count, static, activations, counter.peak, operations, counter.at_peak)


@contextlib.contextmanager
def _fake_ranks(rank: int, world_size: int, parallel: ParallelConfig) -> Iterator[Any]:
    """A context of the layout on a process group whose collectives do nothing."""
    from megatron_redone.parallel.context import _lay_axes
    from megatron_redone.parallel.platform import install_cpu_platform

    install_cpu_platform()
    import megatron.core.tensor_parallel.random as random_states
    from megatron.core import parallel_state

    import megatron_redone.models.attention as attention
    import megatron_redone.parallel.vocab_logprobs as vocabulary

    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    real = parallel_state.initialize_model_parallel
    parallel_state.initialize_model_parallel = lambda *a, **k: real(*a, create_gloo_process_groups=False, **k)
    context = _lay_axes(parallel, 0)
    parallel_state.initialize_model_parallel = real
    parallel_state.get_data_parallel_group_gloo = parallel_state.get_data_parallel_group  # checkpoints alone use them
    parallel_state.get_expert_data_parallel_group_gloo = parallel_state.get_expert_data_parallel_group
    random_states.CudaRNGStatesTracker.fork = lambda self, name="": contextlib.nullcontext()  # compares random states
    vocabulary.CPU_CHUNK = vocabulary.CUDA_CHUNK  # the GPU path is traced
    attention.SHORT_DOCUMENT_TOKENS = {torch.bfloat16: 0}
    attention.OTHERWISE_SHORT = 0

    def gather_alike(values: list[Any], value: Any, group: Any = None) -> None:
        values[:] = [value] * len(values)  # all ranks have the same kinds of parameters

    dist.all_gather_object = gather_alike  # type: ignore[assignment]
    try:
        yield context
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


@contextlib.contextmanager
def _not_moved() -> Iterator[None]:
    """Models stay on their device: fake parameters cannot be exchanged for moved ones."""
    real = torch.nn.Module.to
    torch.nn.Module.to = lambda self, *a, **k: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.to = real  # type: ignore[method-assign]


class _Inputs:
    """What a row of one document gives every chunk."""

    def __init__(self, tokens: Any, packed: Any, padding: Any, labels: Any, hidden: tuple[int, ...]) -> None:
        self.tokens, self.packed, self.padding, self.labels, self.hidden = tokens, packed, padding, labels, hidden


def _inputs(engine: Any, sequence_length: int, mode: FakeTensorMode) -> _Inputs:
    context, config = engine.context, engine.model.config
    with unset_fake_temporarily():
        borders = torch.tensor([0, sequence_length], dtype=torch.int32)
        packed = engine.model.packed(borders, torch.arange(sequence_length))
        packed.logit_positions_N = torch.arange(sequence_length // context.cp.size)
    packed.cos_T1D, packed.sin_T1D = mode.from_tensor(packed.cos_T1D), mode.from_tensor(packed.sin_T1D)
    packed.logit_positions_N = mode.from_tensor(packed.logit_positions_N)
    here = sequence_length // context.cp.size
    tokens = torch.zeros(1, here, dtype=torch.long)
    split = here // context.tp.size if config.sequence_parallel else here
    padding = torch.zeros(1, here, dtype=torch.bool) if engine.shape.is_moe else None
    return _Inputs(tokens, packed, padding, torch.zeros(here, dtype=torch.long), (split, 1, config.hidden_size))


def _forward(engine: Any, number: int, inputs: _Inputs) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Output of one micro-batch on a chunk, and what was received for it."""
    from megatron_redone.parallel.vocab_logprobs import vocab_parallel_logprobs

    chunk, ddp = engine.model[number], engine.ddp[number]
    received = None
    padding = inputs.padding
    if not chunk.pre_process:
        received = torch.zeros(inputs.hidden, dtype=engine.context.dtype, requires_grad=True)
        chunk.set_input_tensor(received)
        if padding is not None and engine.model.config.sequence_parallel:
            padding = padding[:, : inputs.hidden[0]]
    output = ddp(inputs.tokens, None, None, packed_seq_params=inputs.packed, padding_mask=padding)
    if chunk.post_process:
        output = -vocab_parallel_logprobs(output, inputs.labels, engine.context.tp.group).sum()
    return output, received


def _backward(engine: Any, number: int, outputs: list[tuple[Any, Any]], *, last: bool) -> None:
    output, _ = outputs.pop(-1 if last else 0)
    if output.dim():
        torch.autograd.backward(output, torch.zeros_like(output))
    else:
        output.backward()


def _optimizer_step(engine: Any) -> None:
    engine.optimizer.prepare_grads()
    engine.optimizer.step_with_ready_grads()


@contextlib.contextmanager
def balanced_experts() -> Iterator[None]:
    """Every expert gets the same number of tokens, as real numbers, where Megatron would count fake ones."""
    import megatron.core.transformer.moe.moe_utils as moe_utils
    import megatron.core.transformer.moe.token_dispatcher as dispatcher

    real = dispatcher.MoEAlltoAllTokenDispatcher.preprocess

    def balanced(self: Any, routing_map: torch.Tensor) -> Any:
        real(self, routing_map)
        choices = routing_map.size(0) * self.config.moe_router_topk
        each = _dealt(choices, self.num_experts)
        here = each.reshape(self.ep_size, -1)[0]
        if self.ep_size > 1 or self.tp_size > 1:
            self.input_splits = each.reshape(self.ep_size, -1).sum(1)
            self.output_splits = np.full(self.ep_size, here.sum())
            self.output_splits_tp = np.full(self.tp_size, here.sum() * self.ep_size)
        if self.num_local_experts > 1:
            ranks = self.tp_size * self.ep_size
            self.num_global_tokens_per_local_expert = np.tile(here, (ranks, 1))
            chunks = np.arange(ranks * self.num_local_experts)
            self.sort_input_by_local_experts = chunks.reshape(-1, self.num_local_experts).T.ravel()
            self.restore_output_by_local_experts = chunks.reshape(self.num_local_experts, -1).T.ravel()
        return here * self.ep_size * self.tp_size

    class Selecting(torch.overrides.TorchFunctionMode):
        """Gives `masked_select` its size: each token is selected top-k times."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.Tensor.masked_select:
                return args[0].new_empty(selected[0]) + 0 * args[0].sum().to(args[0].dtype)
            return func(*args, **(kwargs or {}))

    selected = [0]
    real_permute = moe_utils.permute

    def permute(tokens: Any, routing_map: Any, *args: Any, num_out_tokens: Any = None, **options: Any) -> Any:
        selected[0] = num_out_tokens
        with Selecting():
            return real_permute(tokens, routing_map, *args, num_out_tokens=num_out_tokens, **options)

    dispatcher.MoEAlltoAllTokenDispatcher.preprocess = balanced
    dispatcher.permute = permute
    try:
        yield
    finally:
        dispatcher.MoEAlltoAllTokenDispatcher.preprocess = real
        dispatcher.permute = real_permute


def _dealt(total: int, parts: int) -> Any:
    """`total` over `parts` as evenly as whole numbers go."""
    return np.array([total // parts + (place < total % parts) for place in range(parts)])
