"""The parameter tables at full size, without weights: names, shapes, totals of the real models, every usual layout."""

from __future__ import annotations

import math

import pytest
import torch
import transformers
from torch import Tensor

from megatron_redone.conversion.placement import num_parts, pieces, place_of, rank_of, ranks_per_stage, whole_shape
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import param_mappings, shape_from_hf, shape_to_hf
from megatron_redone.models.presets import PRESETS, get_preset
from megatron_redone.models.weights import hf_shapes
from megatron_redone.parallel.config import ParallelConfig

BILLIONS = {
    "qwen2.5-0.5b": 0.494, "qwen2.5-1.5b": 1.544, "qwen2.5-3b": 3.086, "qwen2.5-7b": 7.616, "qwen2.5-14b": 14.770,
    "qwen2.5-32b": 32.764, "qwen2.5-72b": 72.706, "qwen3-0.6b": 0.596, "qwen3-1.7b": 1.721, "qwen3-4b": 4.022,
    "qwen3-8b": 8.191, "qwen3-14b": 14.768, "qwen3-32b": 32.762, "qwen3-30b-a3b": 30.532, "qwen3-235b-a22b": 235.094,
    "llama-3-8b": 8.030, "llama-3-70b": 70.554, "smollm2-135m": 0.1345,
}  # fmt: skip
"""Parameters of the published models, a tied embedding once."""
DENSE_LAYOUTS = [(1, 1, 1), (2, 1, 1), (4, 1, 1), (8, 1, 1), (2, 2, 1), (4, 2, 1), (8, 4, 1)]
MIXTURE_LAYOUTS = [(1, 1, 1), (1, 1, 8), (2, 1, 8), (4, 1, 4), (1, 2, 16), (2, 2, 8)]
LARGE = [name for name in BILLIONS if name not in ("qwen2.5-0.5b", "qwen3-0.6b", "smollm2-135m")]


def test_every_large_preset_is_checked_here() -> None:
    assert set(BILLIONS) == {name for name in PRESETS if get_preset(name).num_parameters() > 1e8}


@pytest.mark.parametrize("name", BILLIONS)
def test_names_shapes_and_totals_are_those_of_transformers(name: str) -> None:
    shape = get_preset(name)
    config = shape_to_hf(shape, "bfloat16")
    assert shape_from_hf(config, name) == shape
    with torch.device("meta"):
        model = getattr(transformers, config["architectures"][0])(transformers.AutoConfig.for_model(**config))
    expected = {n: tuple(tensor.shape) for n, tensor in model.state_dict().items()}
    if shape.tie_embeddings:
        del expected["lm_head.weight"]
    assert apart(expected, shape) == hf_shapes(shape)
    total = sum(math.prod(size) for size in hf_shapes(shape).values())
    assert total == shape.num_parameters() == model.num_parameters()
    assert total / 1e9 == pytest.approx(BILLIONS[name], abs=6e-4)


def apart(shapes: dict[str, tuple[int, ...]], shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Experts, which transformers keeps in one tensor, one by one."""
    found: dict[str, tuple[int, ...]] = {}
    for name, size in shapes.items():
        prefix, _, kind = name.rpartition(".")
        for expert in range(shape.num_experts if prefix.endswith(".mlp.experts") else 0):
            if kind == "gate_up_proj":
                for half in ("gate_proj", "up_proj"):
                    found[f"{prefix}.{expert}.{half}.weight"] = (size[1] // 2, size[2])
            else:
                found[f"{prefix}.{expert}.down_proj.weight"] = size[1:]
        if not prefix.endswith(".mlp.experts"):
            found[name] = size
    return found


@pytest.mark.parametrize("name", LARGE)
def test_the_parts_of_every_usual_layout_make_the_whole(name: str) -> None:
    shape = get_preset(name)
    layouts = MIXTURE_LAYOUTS if shape.is_moe else DENSE_LAYOUTS
    for tp, pp, ep in layouts:
        layout = ParallelConfig(tp=tp, pp=pp, ep=ep)
        if shape.layout_problems(layout):
            continue
        check_layout(shape, layout)


def check_layout(shape: ModelShape, layout: ParallelConfig) -> None:
    """Every entry of every parameter goes to exactly one place, and the ranks of a stage have equally many experts."""
    sizes = hf_shapes(shape)
    seen: dict[tuple[object, ...], set[tuple[int, ...]]] = {}
    checked: set[tuple[str, tuple[int, ...]]] = set()
    owners: dict[int, int] = {}
    for row in param_mappings(shape):
        if not row.is_exported:
            continue
        place, size = place_of(row, shape), num_parts(row, layout)
        assert (place.key, place.index) not in checked, "two rows for one place"
        checked.add((place.key, place.index))
        ranks = [rank_of(row, part, shape, layout) for part in range(size)]
        assert len(set(ranks)) == size and max(ranks) < layout.pp * ranks_per_stage(layout)
        if row.expert is not None:
            for rank in ranks:
                owners[rank] = owners.get(rank, 0) + 1
        kind = (place.key, size)
        if kind in seen:  # the same parameter of another layer or expert
            continue
        tensors: dict[str, Tensor] = {name: torch.empty(sizes[name], device="meta") for name in row.hf}
        covered: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        for part in range(size):
            value = row.to_megatron(tensors, part, size)
            whole = whole_shape(row, value, size)
            covered += [(offset, tuple(piece.shape)) for offset, piece in pieces(row, value, part, size)]
        padding = whole[0] * whole[-1] - sum(math.prod(sizes[name]) for name in row.hf) if len(whole) == 2 else 0
        assert 0 <= padding < size * shape.hidden_size
        assert sum(math.prod(piece) for _, piece in covered) == math.prod(whole)
        assert len({offset for offset, _ in covered}) == len(covered)
        seen[kind] = {whole}
    assert len(set(owners.values())) <= 1, "experts are dealt unevenly"
