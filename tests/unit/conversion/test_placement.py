"""What the converter writes is what Megatron writes: the same keys, shapes and values, for any cut of the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from megatron_redone.checkpoint.distributed import read_state
from megatron_redone.checkpoint.manifest import verify_checkpoint
from megatron_redone.checkpoint.torch_dist import TorchDistFolder
from megatron_redone.checkpoint.write import write_checkpoint
from megatron_redone.conversion.to_hf import ToHF
from megatron_redone.conversion.to_megatron import ToMegatron
from megatron_redone.models.build import build_model
from megatron_redone.models.config import ModelShape
from megatron_redone.models.weights import load_folder
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from tests.unit.conversion.conftest import small

HubFolder = Callable[..., Path]
LAYOUTS = [
    (small("llama-tiny"), ParallelConfig(tp=2, pp=2)),
    (small("qwen2.5-tiny"), ParallelConfig(pp=2)),  # tied: the head of the last stage is the embedding's copy
    (small("qwen2.5-tiny", tie_embeddings=False), ParallelConfig(tp=2)),
    (small("qwen3-tiny", num_layers=4), ParallelConfig(tp=2, pp=2, vpp=2)),
    (small("qwen3-moe-tiny"), ParallelConfig(tp=2, ep=2, pp=2)),
    (small("qwen3-moe-tiny"), ParallelConfig(tp=2, etp=2, ep=2)),
    (small("qwen3-moe-tiny"), ParallelConfig(ep=4)),
]


@pytest.mark.parametrize(("shape", "layout"), LAYOUTS, ids=[f"{s.family}-{n}" for n, (s, _) in enumerate(LAYOUTS)])
def test_megatron_reads_it(
    hub_folder: HubFolder, parallel_context: ParallelContext, shape: ModelShape, layout: ParallelConfig
) -> None:
    hub = hub_folder(shape)
    megatron, reference = hub.parent / "megatron", hub.parent / "reference"
    ToMegatron(hub, megatron, layout).run()
    expected = build_model(shape, parallel_context)
    load_folder(expected, parallel_context, hub)
    found = build_model(shape, parallel_context)
    verify_checkpoint(megatron)
    found.load_state_dict(read_state(megatron, {"model": found.sharded_state_dict()})["model"])
    for name, parameter in expected.parameters().items():
        assert torch.equal(found.parameters()[name], parameter), name

    write_checkpoint(reference, {"model": expected.sharded_state_dict()}, {}, parallel_context)
    ours, theirs = TorchDistFolder(megatron).parts, TorchDistFolder(reference).parts
    assert ours.keys() == theirs.keys()
    for key, parts in theirs.items():
        vocabulary = key in ("embedding.word_embeddings.weight", "output_layer.weight")  # padded to a multiple of tp
        first = 1 if vocabulary else 0
        assert {part.global_shape[first:] for part in ours[key]} == {part.global_shape[first:] for part in parts}, key


def test_the_files_are_cut_as_the_layout_reads_them(hub_folder: HubFolder) -> None:
    hub = hub_folder(small("qwen3-moe-tiny"))
    out = hub.parent / "megatron"
    ToMegatron(hub, out, ParallelConfig(tp=2, ep=2, pp=2)).run()
    parts = [part for parts in TorchDistFolder(out).parts.values() for part in parts]
    ranks_of = {key: {part.file.split("_")[2] for part in parts if part.key == key} for key in {p.key for p in parts}}
    assert ranks_of["embedding.word_embeddings.weight"] == {"0", "1"}  # both tensor-parallel ranks of stage 0
    assert ranks_of["output_layer.weight"] == {"2", "3"}
    assert ranks_of["decoder.layers.self_attention.linear_qkv.weight"] == {"0", "1", "2", "3"}
    assert ranks_of["decoder.final_layernorm.weight"] == {"2"}  # every rank has the whole; one file holds it
    experts = [part for part in parts if part.key == "decoder.layers.mlp.experts.experts.linear_fc2.weight"]
    assert {(part.offset[0], part.offset[1] // 4, part.file.split("_")[2]) for part in experts} == {
        (0, 0, "0"), (0, 1, "1"), (1, 0, "2"), (1, 1, "3"),
    }  # fmt: skip


def test_layers_can_be_chosen(hub_folder: HubFolder, parallel_context: ParallelContext) -> None:
    hub = hub_folder(small("llama-tiny", num_layers=5))
    out, back = hub.parent / "megatron", hub.parent / "back"
    model = ToMegatron(hub, out, layers=(2, 4)).run()
    assert model.shape.num_layers == 2
    ToHF(out, back).run()
    cut = build_model(model.shape, parallel_context)
    load_folder(cut, parallel_context, back)
    whole = build_model(small("llama-tiny", num_layers=5), parallel_context)
    load_folder(whole, parallel_context, hub)
    for (chunk, name), parameter in cut.parameters().items():
        source = name.replace("layers.0.", "layers.2.").replace("layers.1.", "layers.3.")
        assert torch.equal(parameter, whole.parameters()[chunk, source]), name
