"""Weights in and out of a running model, tensor by tensor, by the family's parameter table alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.checkpoint.mapping import ParamMapping
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.seeding import derive_seed
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import param_mappings
from megatron_redone.models.parameter_names import under_spec

if TYPE_CHECKING:
    from megatron_redone.models.build import ModelChunks
    from megatron_redone.parallel.context import Axis, ParallelContext

INITIALIZER_STD = 0.02


def hf_shapes(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the Hugging Face checkpoint of a model."""
    h, f, heads, kv = shape.hidden_size, shape.ffn_hidden_size, shape.num_heads, shape.num_kv_heads
    moe = shape.moe_ffn_hidden_size
    by_suffix: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (shape.vocab_size, h),
        "lm_head.weight": (shape.vocab_size, h),
        "q_proj.weight": (heads * shape.head_dim, h),
        "k_proj.weight": (kv * shape.head_dim, h),
        "v_proj.weight": (kv * shape.head_dim, h),
        "q_proj.bias": (heads * shape.head_dim,),
        "k_proj.bias": (kv * shape.head_dim,),
        "v_proj.bias": (kv * shape.head_dim,),
        "o_proj.weight": (h, heads * shape.head_dim),
        "q_norm.weight": (shape.head_dim,),
        "k_norm.weight": (shape.head_dim,),
        "mlp.gate.weight": (shape.num_experts, h),
        "mlp.gate_proj.weight": (f, h),
        "mlp.up_proj.weight": (f, h),
        "mlp.down_proj.weight": (h, f),
        "gate_proj.weight": (moe, h),
        "up_proj.weight": (moe, h),
        "down_proj.weight": (h, moe),
        "norm.weight": (h,),
    }
    names = dict.fromkeys(name for row in param_mappings(shape) for name in row.hf)
    return {
        name: next(
            (size for suffix, size in by_suffix.items() if name.endswith("." + suffix) or name == suffix),
            (h,),
        )
        for name in names
    }


class RandomWeights(Mapping[str, Tensor]):
    """Freshly initialised tensors by Hugging Face name: a function of (seed, name), so of no layout.

    Matrices are normal with deviation 0.02, norms one, biases zero.
    """

    def __init__(self, shape: ModelShape, seed: int) -> None:
        self.shapes, self.seed = hf_shapes(shape), seed

    def __getitem__(self, name: str) -> Tensor:
        size = self.shapes[name]
        if name.endswith("norm.weight"):
            return torch.ones(size)
        if name.endswith(".bias"):
            return torch.zeros(size)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "weights", name))
        return torch.empty(size).normal_(0.0, INITIALIZER_STD, generator=generator)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def load_weights(model: ModelChunks, context: ParallelContext, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fills this rank's parameters from whole Hugging Face tensors (a folder, random weights, a stream's dict).

    Raises:
        CheckpointError: a tensor is missing, left over, or has the wrong shape.
    """
    check_names(model.shape, tensors, source)
    parameters = model.parameters()
    filled = set()
    with torch.no_grad():
        for row in param_mappings(model.shape):
            name = local_name(row, model.shape, context)
            if name is None or name not in parameters:
                continue
            axis = context.tp if row.expert is None else context.etp
            value = row.to_megatron({hf: tensors[hf] for hf in row.hf}, axis.rank, axis.size)
            parameter = parameters[name]
            if value.shape != parameter.shape:
                raise CheckpointError(
                    f"{source}: {', '.join(row.hf)} gives {tuple(value.shape)} for {row.megatron}, "
                    f"which has {tuple(parameter.shape)}; weights and config.json do not belong together"
                )
            parameter.copy_(value)
            filled.add(name)
    unfilled = sorted(parameters.keys() - filled)
    assert not unfilled, f"no row of the table fills {unfilled}"


def check_names(shape: ModelShape, tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises CheckpointError unless the tensors are exactly those of the model.

    Rotary buffers of old checkpoints, and an lm_head beside a tied embedding, carry nothing and may stand by.
    """
    expected = {name for row in param_mappings(shape) for name in row.hf}
    ignorable = {name for name in tensors if name.endswith("rotary_emb.inv_freq")}
    if shape.tie_embeddings:
        ignorable.add("lm_head.weight")
    missing, extra = sorted(expected - set(tensors)), sorted(set(tensors) - expected - ignorable)
    if missing or extra:
        parts = [f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
                 for what, names in (("missing", missing), ("unknown", extra)) if names]  # fmt: skip
        raise CheckpointError(
            f"{source}: tensors do not fit the {shape.family} model: {'; '.join(parts)}; check config.json"
        )


def load_folder(model: ModelChunks, context: ParallelContext, folder: Path) -> None:
    """`load_weights` from the safetensors of a Hugging Face folder."""
    load_weights(model, context, SafetensorsFolder(folder), str(folder))


def local_name(row: ParamMapping, shape: ModelShape, context: ParallelContext) -> tuple[int, str] | None:
    """(chunk, name) of the parameter on this rank, or None where another pipeline stage or expert rank holds it."""
    (stage, chunk), name = owner_chunk(row, shape, context), row.megatron
    if stage != context.pp.rank:
        return None
    match = re.match(r"decoder\.layers\.(\d+)\.", name)
    if match:
        number = int(match.group(1)) % _layers_per_chunk(shape, context)
        name = name.replace(match.group(0), f"decoder.layers.{number}.", 1)
    if row.expert is not None:
        owner, number = divmod(row.expert, shape.num_experts // context.ep.size)
        if owner != context.ep.rank:
            return None
        name = name.replace(f"local_experts.{row.expert}.", f"local_experts.{number}.")
    return chunk, under_spec(name, context.config.gpu, shape.is_moe)


def owner_chunk(row: ParamMapping, shape: ModelShape, context: ParallelContext) -> tuple[int, int]:
    """The pipeline stage that holds a parameter, and the chunk of that stage: chunks are dealt to stages in turn."""
    return stage_and_chunk(row, shape, context.pp.size, context.config.vpp)


def stage_and_chunk(row: ParamMapping, shape: ModelShape, pp: int, vpp: int) -> tuple[int, int]:
    """`owner_chunk` of a layout by its sizes."""
    match = re.match(r"decoder\.layers\.(\d+)\.", row.megatron)
    if match:
        chunk, stage = divmod(int(match.group(1)) // (shape.num_layers // (pp * vpp)), pp)
        return stage, chunk
    return (0, 0) if row.megatron.startswith("embedding.") else (pp - 1, vpp - 1)


def _layers_per_chunk(shape: ModelShape, context: ParallelContext) -> int:
    return shape.num_layers // (context.pp.size * context.config.vpp)


@torch.no_grad()
def export_weights(
    model: ModelChunks, context: ParallelContext, value_of: Callable[[Tensor], Tensor] = Tensor.detach
) -> Iterator[tuple[str, Tensor]]:
    """Streams (Hugging Face name, whole tensor) on every rank, one parameter gathered at a time.

    A collective: all ranks iterate to the end. Tensors keep the type they are trained in.

    Args:
        value_of: what is exported of a parameter: the parameter itself, or its gradient.
    """
    values = {name: value_of(parameter) for name, parameter in model.parameters().items()}
    for row in param_mappings(model.shape):
        tensors = row.to_hf(_gather_parts(row, model, context, values))
        yield from tensors.items()


def _gather_parts(
    row: ParamMapping, model: ModelChunks, context: ParallelContext, values: Mapping[tuple[int, str], Tensor]
) -> list[Tensor]:
    """The parts of all tensor-parallel ranks of a parameter, on every rank."""
    name = local_name(row, model.shape, context)
    mine = values[name] if name is not None and name in values else None
    if row.expert is not None:
        owner = row.expert // (model.shape.num_experts // context.ep.size)
        mine = _broadcast(mine, context.ep, owner, context) if _stage_here(row, model, context) else None
    mine = _broadcast(mine, context.pp, owner_chunk(row, model.shape, context)[0], context)
    if mine is None:  # the head of a tied model without pipeline stages: the embedding itself
        return []
    axis = context.tp if row.expert is None else context.etp
    if axis.size == 1:
        return [mine.clone()]  # what is exported stays as it is when training goes on
    parts = [torch.empty_like(mine) for _ in range(axis.size)]
    dist.all_gather(parts, mine.contiguous(), group=axis.group)
    return parts


def _stage_here(row: ParamMapping, model: ModelChunks, context: ParallelContext) -> bool:
    return owner_chunk(row, model.shape, context)[0] == context.pp.rank


def _broadcast(tensor: Tensor | None, axis: Axis, owner: int, context: ParallelContext) -> Tensor | None:
    """The tensor of the axis' rank `owner` on all its ranks; None if the owner has none."""
    if axis.size == 1:
        return tensor
    source = dist.get_global_rank(axis.group, owner)
    header = [None if tensor is None else (tuple(tensor.shape), tensor.dtype)]
    dist.broadcast_object_list(header, src=source, group=axis.group)
    if header[0] is None:
        return None
    size, dtype = header[0]
    value = tensor.contiguous() if axis.rank == owner and tensor is not None else None
    if value is None:
        value = torch.empty(size, dtype=dtype, device=context.device)
    dist.broadcast(value, src=source, group=axis.group)
    return value
