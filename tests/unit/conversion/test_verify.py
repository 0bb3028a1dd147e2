"""A certificate is given to a right conversion only: each way to do it wrong is planted, found and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from megatron_redone.checkpoint import mapping
from megatron_redone.checkpoint.manifest import MANIFEST
from megatron_redone.checkpoint.torch_dist import TorchDistFolder
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import sha256_file
from megatron_redone.conversion import placement, to_hf as to_hf_module, to_megatron as to_megatron_module
from megatron_redone.conversion.logits import compare_logits
from megatron_redone.conversion.placement import Place
from megatron_redone.conversion.to_megatron import ToMegatron
from megatron_redone.conversion.verify import Verification
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import param_mappings
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from tests.unit.conversion.conftest import small

HubFolder = Callable[..., Path]
Patch = pytest.MonkeyPatch
Pieces = Iterator[tuple[tuple[int, ...], Tensor]]
DENSE, MIXTURE, UNTIED = small("qwen3-tiny"), small("qwen3-moe-tiny"), small("llama-tiny")


def converted(hub: Path, **options: Any) -> Path:
    out = hub.parent / "megatron"
    ToMegatron(hub, out, **options).run()
    return out


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (DENSE, ParallelConfig(tp=2, pp=2)),
        (MIXTURE, ParallelConfig(tp=2, ep=2)),
        (UNTIED, ParallelConfig()),
        (small("qwen2.5-tiny"), ParallelConfig(tp=2)),
    ],
    ids=lambda value: getattr(value, "family", ""),
)
def test_a_right_conversion_is_certified(
    hub_folder: HubFolder, parallel_context: ParallelContext, shape: ModelShape, layout: ParallelConfig
) -> None:
    hub = hub_folder(shape)
    megatron = converted(hub, layout=layout)
    certificate = Verification(hub, megatron).certificate()
    assert certificate["passed"] and certificate["problems"] == []
    original = load_file(hub / "model.safetensors")
    assert {tensor["name"] for tensor in certificate["tensors"]} == set(original)
    assert all(tensor["shape"] == list(original[tensor["name"]].shape) for tensor in certificate["tensors"])
    logits = compare_logits(hub, megatron, parallel_context)
    assert logits["passed"] and logits["max_abs_difference"] < 1e-5 and logits["top1_agreement"] == 1.0


def test_a_part_of_the_layers_and_another_type_are_certified(
    hub_folder: HubFolder, parallel_context: ParallelContext
) -> None:
    hub = hub_folder(small("qwen3-tiny", num_layers=4))
    megatron = converted(hub, layers=(1, 3), dtype="bf16")
    certificate = Verification(hub, megatron).certificate(processes=2)
    assert certificate["passed"], certificate["problems"]
    assert {tensor["dtype"] for tensor in certificate["tensors"]} == {"bfloat16"}
    logits = compare_logits(hub, megatron, parallel_context, (1, 3))
    assert 1e-4 < logits["share_of_largest_logit"] < 0.3 and logits["min_cosine"] > 0.9  # the weights were rounded


def swapped_gate_and_up(patch: Patch) -> None:
    def to_megatron(self: mapping.GatedMLP, tensors: Mapping[str, Tensor], rank: int, size: int) -> Tensor:
        return torch.cat([tensors[name].chunk(size, 0)[rank] for name in (self.up, self.gate)])

    patch.setattr(mapping.GatedMLP, "to_megatron", to_megatron)


def heads_in_their_old_order(patch: Patch) -> None:
    def to_megatron(self: mapping.QKV, tensors: Mapping[str, Tensor], rank: int, size: int) -> Tensor:
        return torch.cat([tensors[name] for name in self.hf]).chunk(size, 0)[rank]

    patch.setattr(mapping.QKV, "to_megatron", to_megatron)


def head_taken_for_tied(patch: Patch) -> None:
    def tied(shape: ModelShape) -> list[mapping.ParamMapping]:
        return param_mappings(shape.model_copy(update={"tie_embeddings": True}))

    patch.setattr(to_megatron_module, "param_mappings", tied)


def experts_off_by_one(patch: Patch) -> None:
    def shifted(row: mapping.ParamMapping, shape: ModelShape) -> Place:
        place = placement.place_of(row, shape)
        if row.expert is None:
            return place
        return Place(place.key, (place.index[0], (place.index[1] + 1) % shape.num_experts), place.sizes)

    patch.setattr(to_megatron_module, "place_of", shifted)


def layer_left_out(patch: Patch) -> None:
    def rows(shape: ModelShape) -> list[mapping.ParamMapping]:
        return [
            row for row in param_mappings(shape) if row.megatron != "decoder.layers.1.self_attention.linear_proj.weight"
        ]

    patch.setattr(to_megatron_module, "param_mappings", rows)


def padding_not_taken_off(patch: Patch) -> None:
    def to_hf(self: mapping.PaddedVocabulary, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        return {self.hf_name: torch.cat(list(parts))}

    patch.setattr(mapping.PaddedVocabulary, "to_hf", to_hf)


def parts_of_ranks_swapped(patch: Patch) -> None:
    def pieces(
        row: mapping.ParamMapping, part: Tensor, rank: int, size: int
    ) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        return placement.pieces(row, part, size - 1 - rank, size)

    patch.setattr(to_megatron_module, "pieces", pieces)


def two_parts_in_one_place(patch: Patch) -> None:
    def pieces(
        row: mapping.ParamMapping, part: Tensor, rank: int, size: int
    ) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        return placement.pieces(row, part, 0, size)

    patch.setattr(to_megatron_module, "pieces", pieces)


FAULTS = [
    (swapped_gate_and_up, DENSE, 1, "model.layers.0.mlp.gate_proj.weight: "),
    (heads_in_their_old_order, DENSE, 1, "model.layers.0.self_attn.k_proj.weight: "),
    (head_taken_for_tied, UNTIED, 1, "output_layer.weight: not in the checkpoint"),
    (experts_off_by_one, MIXTURE, 1, "model.layers.0.mlp.experts.0.gate_proj.weight: "),
    (layer_left_out, DENSE, 1, "model.layers.1.self_attn.o_proj.weight: "),
    (padding_not_taken_off, DENSE, 2, "model.embed_tokens.weight: (52, 64) in the checkpoint, (51, 64) in the folder"),
    (parts_of_ranks_swapped, DENSE, 2, "model.layers.0.self_attn.o_proj.weight: "),
    (two_parts_in_one_place, DENSE, 2, "decoder.layers.self_attention.linear_proj.weight: "),
]


@pytest.mark.parametrize(("plant", "shape", "tp", "named"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_planted_fault_is_named(
    hub_folder: HubFolder, monkeypatch: Patch, plant: Callable[[Patch], None], shape: ModelShape, tp: int, named: str
) -> None:
    hub = hub_folder(shape)
    with monkeypatch.context() as patched:
        plant(patched)
        megatron = converted(hub, layout=ParallelConfig(tp=tp))
        if plant is padding_not_taken_off:  # a fault of the way back
            certificate = Verification(hub, megatron).certificate()
    if plant is not padding_not_taken_off:
        certificate = Verification(hub, megatron).certificate()
    assert not certificate["passed"]
    assert any(problem.startswith(named) for problem in certificate["problems"]), certificate["problems"][:3]


@contextmanager
def right_manifest(megatron: Path) -> Iterator[None]:
    """Makes the manifest fit what its files have become, as a careless tool would."""
    yield
    manifest = json.loads((megatron / MANIFEST).read_text())
    manifest["files"] = {name: sha256_file(megatron / name) for name in manifest["files"]}
    (megatron / MANIFEST).write_text(json.dumps(manifest))


def flip_a_bit_of(megatron: Path, key: str) -> None:
    """In the middle of the data of a tensor's first part."""
    part = TorchDistFolder(megatron).parts[key][0]
    path = megatron / part.file
    content = bytearray(path.read_bytes())
    weights = 4 * part.shape[-1]
    place = content.index(TorchDistFolder(megatron).read(key, (0,)).view(-1)[: part.shape[-1]].numpy().tobytes())
    content[place + weights // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_found_by_the_checksum_and_by_the_tensor(hub_folder: HubFolder) -> None:
    hub = hub_folder(DENSE)
    megatron = converted(hub)
    flip_a_bit_of(megatron, "decoder.layers.self_attention.linear_proj.weight")
    with pytest.raises(CheckpointError, match=r"__0_0\.distcp: the checksum differs"):
        Verification(hub, megatron).certificate()
    with right_manifest(megatron):
        pass
    problems = Verification(hub, megatron).certificate()["problems"]
    assert problems == ["model.layers.0.self_attn.o_proj.weight: 1 of 32768 bytes differ"]


def test_a_table_that_is_wrong_in_both_directions_is_found_by_the_logits(
    hub_folder: HubFolder, parallel_context: ParallelContext, monkeypatch: Patch
) -> None:
    def to_hf(self: mapping.GatedMLP, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        halves = [part.chunk(2, 0) for part in parts]
        return {self.up: torch.cat([h[0] for h in halves]), self.gate: torch.cat([h[1] for h in halves])}

    hub = hub_folder(DENSE)
    swapped_gate_and_up(monkeypatch)
    monkeypatch.setattr(mapping.GatedMLP, "to_hf", to_hf)
    megatron = converted(hub)
    assert Verification(hub, megatron).certificate()["passed"]  # every byte comes back
    assert not compare_logits(hub, megatron, parallel_context)["passed"]


def test_keys_that_belong_to_nothing_are_left_over(hub_folder: HubFolder, monkeypatch: Patch) -> None:
    hub = hub_folder(DENSE)
    megatron = converted(hub)
    monkeypatch.setattr(
        "megatron_redone.conversion.verify.param_mappings",
        lambda shape: [row for row in param_mappings(shape) if "q_layernorm" not in row.megatron],
    )
    problems = Verification(hub, megatron).certificate()["problems"]
    assert problems == ["decoder.layers.self_attention.q_layernorm.weight: in the checkpoint, and of no tensor"]
    assert to_hf_module.ToHF(megatron, hub.parent / "back").run() == DENSE
