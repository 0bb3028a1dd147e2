"""Where a parameter goes in a distributed checkpoint: the key, the part of each rank, the file.

Megatron keeps a parameter of all layers as one tensor [layers, ...], and of all experts as [layers, experts, ...]. Its
keys are those of the Transformer Engine layer spec, in which norms belong to the matrix that follows them; the local
spec writes and reads the same keys, so one checkpoint loads into both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from megatron_redone.checkpoint.mapping import ParamMapping
from megatron_redone.models.config import ModelShape
from megatron_redone.models.weights import stage_and_chunk
from megatron_redone.parallel.config import ParallelConfig

_LAYER = re.compile(r"decoder\.layers\.(\d+)\.")
_EXPERT = re.compile(r"mlp\.experts\.local_experts\.(\d+)\.")


@dataclass(frozen=True)
class Place:
    """A parameter's place among the global tensors."""

    key: str
    index: tuple[int, ...]
    """(layer,), (layer, expert), or nothing outside the layers."""
    sizes: tuple[int, ...]
    """Numbers of layers and experts."""


def place_of(row: ParamMapping, shape: ModelShape) -> Place:
    """The place of a row of the parameter table."""
    key, index, sizes = row.megatron, [], []
    if match := _LAYER.match(key):
        key = key.replace(match.group(), "decoder.layers.")
        index.append(int(match.group(1)))
        sizes.append(shape.num_layers)
    if match := _EXPERT.search(key):
        key = key.replace(match.group(), "mlp.experts.experts.")
        index.append(int(match.group(1)))
        sizes.append(shape.num_experts)
    key = key.replace(".input_layernorm.", ".self_attention.linear_qkv.layer_norm_")
    if not shape.is_moe:
        key = key.replace(".pre_mlp_layernorm.", ".mlp.linear_fc1.layer_norm_")
    return Place(key, tuple(index), tuple(sizes))


def pieces(row: ParamMapping, part: Tensor, rank: int, size: int) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """(offset in the whole parameter, tensor) of what tensor-parallel rank `rank` of `size` holds of it."""
    if row.split_dim is None:
        yield (0,) * part.dim(), part
        return
    for number, piece in enumerate(part.chunk(row.stacked, row.split_dim)):
        offset = [0] * part.dim()
        offset[row.split_dim] = (number * size + rank) * piece.size(row.split_dim)
        yield tuple(offset), piece


def whole_shape(row: ParamMapping, part: Tensor, size: int) -> tuple[int, ...]:
    """Shape of the whole parameter, of which `part` is one of `size`."""
    shape = list(part.shape)
    if row.split_dim is not None:
        shape[row.split_dim] *= size
    return tuple(shape)


def num_parts(row: ParamMapping, layout: ParallelConfig) -> int:
    """Ranks that hold a part of a parameter each."""
    if row.split_dim is None:
        return 1
    return layout.tp if row.expert is None else layout.etp


def ranks_per_stage(layout: ParallelConfig) -> int:
    """Ranks that hold different parts of one pipeline stage."""
    return max(layout.tp, layout.ep * layout.etp)


def stage_of(row: ParamMapping, shape: ModelShape, layout: ParallelConfig) -> int:
    """The pipeline stage that holds a parameter."""
    return stage_and_chunk(row, shape, layout.pp, layout.vpp)[0]


def rank_of(row: ParamMapping, part: int, shape: ModelShape, layout: ParallelConfig) -> int:
    """The rank of the layout that reads part `part` of a parameter first; its file holds the part."""
    expert_rank = 0 if row.expert is None else row.expert // (shape.num_experts // layout.ep)
    return stage_of(row, shape, layout) * ranks_per_stage(layout) + expert_rank * layout.etp + part
