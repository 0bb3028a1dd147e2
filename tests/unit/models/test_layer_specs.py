"""Both layer specs hold the same model: names by the table, weights, gradients, updates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from megatron.core.models.gpt import gpt_layer_specs

from megatron_redone.models.families import param_mappings
from megatron_redone.models.gpu_fields import AttnBackend
from megatron_redone.models.layer_specs import layer_spec
from megatron_redone.models.parameter_names import of_tables, under_spec
from megatron_redone.models.presets import PRESETS
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.parallel.gpu_config import GPUConfig
from megatron_redone.training.batches import pack
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import EPSILON, SIGNALS, documents, shape_of
from tests.unit.models.te_stand_in import StandInProvider

FUSED = GPUConfig(layer_spec="transformer_engine")
GROUPED = GPUConfig(layer_spec="transformer_engine", grouped_gemm=True)


@pytest.mark.parametrize("gpu", [GPUConfig(), FUSED, GROUPED], ids=["local", "fused", "grouped"])
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_names_go_there_and_back_and_stay_apart(preset: str, gpu: GPUConfig) -> None:
    shape = PRESETS[preset]
    shape = shape.model_copy(update={"num_layers": 2})
    names = [row.megatron for row in param_mappings(shape)]
    renamed = [under_spec(name, gpu, shape.is_moe) for name in names]
    assert [of_tables(name, gpu, shape.is_moe) for name in renamed] == names
    assert len(set(renamed)) == len(names)
    changed = {name for name, other in zip(names, renamed, strict=True) if name != other}
    norms = 0 if gpu.layer_spec == "local" else (2 if not shape.is_moe else 1) * shape.num_layers
    experts = 2 * shape.num_experts * shape.num_layers if gpu.grouped_gemm else 0
    assert len(changed) == norms + experts


def test_the_names_are_those_of_the_library() -> None:
    assert under_spec("decoder.layers.3.input_layernorm.weight", FUSED, False) == (
        "decoder.layers.3.self_attention.linear_qkv.layer_norm_weight"
    )
    assert under_spec("decoder.layers.3.pre_mlp_layernorm.weight", FUSED, False) == (
        "decoder.layers.3.mlp.linear_fc1.layer_norm_weight"
    )
    assert under_spec("decoder.layers.3.pre_mlp_layernorm.weight", GROUPED, True) == (
        "decoder.layers.3.pre_mlp_layernorm.weight"
    )
    assert under_spec("decoder.layers.0.mlp.experts.local_experts.12.linear_fc2.weight", GROUPED, True) == (
        "decoder.layers.0.mlp.experts.linear_fc2.weight12"
    )


def one_step(preset: str, context: ParallelContext) -> tuple[MegatronEngine, float]:
    shape = shape_of(preset)
    engine = MegatronEngine(shape, context, OptimizerConfig(lr=1e-2, epsilon=EPSILON))
    engine.load_hf_weights(SpreadWeights(shape, 3), "test weights")
    batches = [pack(documents(0, shape.vocab_size), engine, SIGNALS)]
    return engine, engine.train_step(batches, NextToken(), 1e-2)["loss"]


@pytest.mark.parametrize(
    ("preset", "gpu"),
    [
        ("llama-tiny", FUSED),
        ("qwen2.5-tiny", FUSED),
        ("qwen3-tiny", FUSED),
        ("qwen3-moe-tiny", FUSED),
        ("qwen3-moe-tiny", GROUPED),
    ],
)
def test_a_step_is_the_same_under_both(
    preset: str, gpu: GPUConfig, parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, expected = one_step(preset, parallel_context)
    monkeypatch.setattr(gpt_layer_specs, "TESpecProvider", StandInProvider, raising=False)
    other, loss = one_step(preset, replace(parallel_context, config=ParallelConfig(gpu=gpu)))
    names = {name for _, name in other.model.parameters()}
    assert any(name.endswith("linear_qkv.layer_norm_weight") for name in names)
    assert any(name.endswith("experts.linear_fc1.weight3") for name in names) == gpu.grouped_gemm
    assert loss == pytest.approx(expected, rel=2e-6)
    weights = dict(local.export_hf_weights())
    for name, tensor in other.export_hf_weights():
        torch.testing.assert_close(tensor, weights[name], atol=2e-6, rtol=0, msg=name)
    marks = {
        under_spec(name, gpu, other.shape.is_moe): bool(getattr(parameter, "tensor_model_parallel", False))
        for (_, name), parameter in local.model.parameters().items()
    }
    for (_, name), parameter in other.model.parameters().items():
        assert bool(getattr(parameter, "tensor_model_parallel", False)) == marks[name], name


def test_a_table_without_the_names_of_the_spec_is_noticed(
    parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpt_layer_specs, "TESpecProvider", StandInProvider, raising=False)
    monkeypatch.setattr("megatron_redone.models.weights.under_spec", lambda name, gpu, is_moe: name)
    with pytest.raises(AssertionError, match=r"no row of the table fills"):
        one_step("qwen3-tiny", replace(parallel_context, config=ParallelConfig(gpu=FUSED)))


@pytest.mark.parametrize("attention", ["flash", "fused", "auto"])
def test_the_library_s_attention_gets_our_rotary_embedding(
    attention: str, parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    class Core(torch.nn.Module):
        def __init__(self, config: object, layer_number: int, **options: object) -> None:
            super().__init__()

        def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: object) -> torch.Tensor:
            seen["query"] = query
            return query.flatten(1)

    class Provider(StandInProvider):
        def core_attention(self) -> type:
            return Core

    monkeypatch.setattr(gpt_layer_specs, "TESpecProvider", Provider, raising=False)
    gpu = GPUConfig(layer_spec="transformer_engine", attention=attention)  # type: ignore[arg-type]
    engine = MegatronEngine(shape_of("qwen3-tiny"), parallel_context)
    config = engine.model.config
    core = layer_spec(config, gpu).submodules.self_attention.submodules.core_attention(config, 1)
    positions = torch.arange(4)
    packed = engine.model.packed(torch.tensor([0, 4], dtype=torch.int32), positions)
    query = torch.ones(4, 2, config.kv_channels)
    core(query, query[:, :1], query[:, :1], packed_seq_params=packed)
    assert torch.equal(seen["query"][0], query[0])  # position 0 is not turned
    assert not torch.equal(seen["query"][3], query[3])
    assert attention in AttnBackend.__members__
