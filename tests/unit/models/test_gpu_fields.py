"""Every key of `parallel.gpu` reaches Megatron-core: turned one by one, exactly the fields it is for change."""

from __future__ import annotations

import dataclasses
import sys
import types
from dataclasses import replace
from typing import Any

import pytest
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig, optimizer_config
from megatron.core.transformer import transformer_config as megatron_config
from megatron.core.transformer.moe import moe_utils
from pydantic import BaseModel

from megatron_redone.models.build import transformer_config
from megatron_redone.models.gpu_fields import ddp_fields, optimizer_fields
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.parallel.gpu_config import GPUConfig

TE = {"layer_spec": "transformer_engine"}
FP8 = {**TE, "fp8": {}}
DELAYED = {**TE, "fp8": {"recipe": "delayed"}}
BF16 = {"precision": "bf16", "distributed_optimizer": True}
MOE = {"moe": True}

# key: (settings it stands on, its value, layout, fields that it changes)
CASES: dict[str, tuple[dict[str, Any], Any, dict[str, Any], set[str]]] = {
    "layer_spec": ({}, "transformer_engine", {}, {"transformer_impl"}),
    "attention": (TE, "flash", BF16, {"attention_backend"}),
    "fp8.recipe": (FP8, "blockwise", BF16, {"fp8_recipe"}),
    "fp8.format": (FP8, "e4m3", BF16, {"fp8"}),
    "fp8.bf16_layers_at_start": (FP8, 1, BF16, {"first_last_layers_bf16", "num_layers_at_start_in_bf16"}),
    "fp8.bf16_layers_at_end": (FP8, 1, BF16, {"first_last_layers_bf16", "num_layers_at_end_in_bf16"}),
    "fp8.amax_history": (DELAYED, 16, BF16, {"fp8_amax_history_len"}),
    "fp8.amax_algorithm": (DELAYED, "max", BF16, {"fp8_amax_compute_algo"}),
    "fp8.margin": (DELAYED, 1, BF16, {"fp8_margin"}),
    "fp8.weight_gradient": (DELAYED, False, BF16, {"fp8_wgrad"}),
    "grouped_gemm": (TE, True, MOE, {"moe_grouped_gemm"}),
    "fused_permute": ({}, True, MOE, {"moe_permute_fusion"}),
    "fused_dispatch": (
        {},
        "hybridep",
        {**MOE, "ep": 2},
        {"moe_token_dispatcher_type", "moe_flex_dispatcher_backend"},
    ),
    "fuse_gradient_accumulation": ({}, True, {}, {"gradient_accumulation_fusion"}),
    "tp_overlap_tokens": (TE, 1024, {"tp": 2, "sequence_parallel": True}, {"tp_comm_overlap"}),
    "overlap_p2p_warmup": ({}, True, {"pp": 2, "vpp": 2}, {"overlap_p2p_comm_warmup_flush"}),
    "bucket_parameters": ({}, 1000, {"overlap": True}, {"bucket_size"}),
    "pad_buckets": ({}, True, BF16, {"pad_buckets_for_high_nccl_busbw"}),
    "cuda_graphs": (
        {**TE, "graph_tokens": 1024},
        "mlp",
        {},
        {"cuda_graph_impl", "cuda_graph_scope", "use_te_rng_tracker"},
    ),
    "graph_warmup_steps": ({**TE, "cuda_graphs": "mlp", "graph_tokens": 1024}, 7, {}, {"cuda_graph_warmup_steps"}),
    "optimizer.offload": ({}, 0.5, BF16, {"optimizer_cpu_offload", "optimizer_offload_fraction"}),
    "optimizer.overlap_offload": ({"optimizer": {"offload": 0.5}}, True, BF16, {"overlap_cpu_optimizer_d2h_h2d"}),
    "optimizer.moments": (
        {},
        "bf16",
        BF16,
        {"use_precision_aware_optimizer", "exp_avg_dtype", "exp_avg_sq_dtype", "store_param_remainders"},
    ),
    "optimizer.gradients": (
        {"optimizer": {"moments": "bf16"}},
        "bf16",
        BF16,
        {"grad_reduce_in_fp32", "main_grads_dtype"},
    ),
}
ROW_LENGTH = {"graph_tokens"}
"""Is no field: rows are padded to it (tests/unit/training/test_gpu_start.py)."""
ALONG = {
    "fp8.recipe": {"fp8"},  # blocks are scaled in E4M3 alone
    "optimizer.moments": {"use_precision_aware_optimizer_no_fp8_or_ds_fp8"},
    "cuda_graphs": set(),
}


def leaves(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        kinds = [
            kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(kind, type)
        ]
        section = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        found |= leaves(section, f"{prefix}{name}.") if section is not None else {f"{prefix}{name}"}
    return found


@pytest.fixture
def transformer_engine_seems_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megatron-core's configurations ask for its version and for single functions."""

    class FusedAdam:
        def __init__(
            self,
            master_weight_dtype: Any = None,
            exp_avg_dtype: Any = None,
            exp_avg_sq_dtype: Any = None,
            use_decoupled_grad: Any = None,
        ) -> None: ...

    monkeypatch.setattr(megatron_config, "is_te_min_version", lambda *args, **kwargs: True)
    monkeypatch.setattr(optimizer_config, "is_te_min_version", lambda *args, **kwargs: True)
    for name in (
        "permute",
        "permute_with_probs",
        "sort_chunks_by_index",
        "sort_chunks_by_index_with_probs",
        "unpermute",
    ):
        monkeypatch.setattr(moe_utils, f"fused_{name}", object(), raising=False)
    module = types.ModuleType("transformer_engine.pytorch.optimizers")
    module.FusedAdam = FusedAdam  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch.optimizers", module)


def fields(gpu: dict[str, Any], layout: dict[str, Any], context: ParallelContext) -> dict[str, Any]:
    """All fields of Megatron-core's three configurations."""
    layout = dict(layout)
    shape = get_preset("qwen3-moe-tiny" if layout.pop("moe", False) else "qwen3-tiny")
    parallel = ParallelConfig(gpu=GPUConfig.model_validate(gpu), **layout)
    world = parallel.tp * parallel.pp * parallel.cp * parallel.ep
    assert parallel.problems(world) + shape.layout_problems(parallel) == []
    here = replace(context, config=parallel, tp=replace(context.tp, size=parallel.tp))
    configs = (
        transformer_config(shape, here),
        DistributedDataParallelConfig(**ddp_fields(parallel)),
        MegatronOptimizerConfig(
            bf16=parallel.precision == "bf16", params_dtype=here.dtype, **optimizer_fields(parallel)
        ),
    )
    return {
        name: value for config in configs for name, value in vars(config).items() if not name.endswith("init_method")
    }


def turned(settings: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    section, _, name = key.rpartition(".")
    if not section:
        return {**settings, name: value}
    return {**settings, section: {**settings.get(section, {}), name: value}}


def test_every_key_is_turned_below() -> None:
    assert set(CASES) | ROW_LENGTH == leaves(GPUConfig)


@pytest.mark.usefixtures("transformer_engine_seems_there")
@pytest.mark.parametrize("key", sorted(CASES))
def test_a_key_changes_its_fields_and_no_other(key: str, parallel_context: ParallelContext) -> None:
    settings, value, layout, expected = CASES[key]
    before, along = settings, set(ALONG.get(key, ()))
    if key == "fp8.recipe":
        settings = turned(settings, "fp8.format", "e4m3")
        along.clear()
    after = turned(settings, key, value)
    if key == "cuda_graphs":
        before = dict(TE)  # a row length without a graph is refused
    elif key == "fp8.recipe":
        before = settings
    old, new = fields(before, layout, parallel_context), fields(after, layout, parallel_context)
    assert {name for name in old if old[name] != new[name]} == expected | along


@pytest.mark.usefixtures("transformer_engine_seems_there")
def test_selective_recomputation_names_its_parts(parallel_context: ParallelContext) -> None:
    plain = fields({}, {"recompute": "selective"}, parallel_context)
    parts = fields(
        {}, {"recompute": "selective", "recompute_modules": ("core_attn", "layernorm", "mlp")}, parallel_context
    )
    assert plain["recompute_modules"] == ["core_attn"]
    assert parts["recompute_modules"] == ["core_attn", "layernorm", "mlp"]


def test_the_values_are_those_megatron_knows() -> None:
    known = {field.name for field in dataclasses.fields(megatron_config.TransformerConfig)}
    known |= {field.name for field in dataclasses.fields(DistributedDataParallelConfig)}
    known |= {field.name for field in dataclasses.fields(MegatronOptimizerConfig)}
    derived = {"use_precision_aware_optimizer_no_fp8_or_ds_fp8"}
    assert set().union(*(case[3] for case in CASES.values())) <= known | derived
