"""What is impossible is refused with value, rule and remedy: by the settings, the layout, the model, the machine."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from megatron_redone.common.errors import ConfigError
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import build_context
from megatron_redone.parallel.gpu_config import GPUConfig
from megatron_redone.parallel.gpu_machine import machine_problems

TE = {"layer_spec": "transformer_engine"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fp8": {}}, r"fp8=tensorwise with layer_spec='local'.*set layer_spec='transformer_engine'"),
        ({"attention": "flash"}, r"attention=flash with layer_spec='local'"),
        ({"grouped_gemm": True}, r"grouped_gemm=true with layer_spec='local'"),
        ({"tp_overlap_tokens": 1024}, r"tp_overlap_tokens=1024 with layer_spec='local'"),
        ({"cuda_graphs": "mlp", "graph_tokens": 128}, r"cuda_graphs=mlp with layer_spec='local'"),
        ({**TE, "cuda_graphs": "mlp"}, r"cuda_graphs='mlp' without graph_tokens"),
        ({**TE, "graph_tokens": 128}, r"graph_tokens=128 with cuda_graphs='none'"),
        ({**TE, "graph_warmup_steps": 2}, r"graph_warmup_steps=2 with cuda_graphs='none'"),
        (
            {**TE, "cuda_graphs": "mlp", "graph_tokens": 128, "tp_overlap_tokens": 256},
            r"tp_overlap_tokens=256 and graph_tokens=128.*make them equal",
        ),
        ({**TE, "fp8": {"amax_history": 4}}, r"amax_history=4 with recipe='tensorwise': only delayed reads it"),
        ({**TE, "fp8": {"recipe": "delayed", "bf16_layers_at_end": 1}}, r"bf16_layers_at_end=1 with recipe='delayed'"),
        ({**TE, "fp8": {"recipe": "blockwise"}}, r"format='hybrid' with recipe='blockwise'"),
        ({"optimizer": {"overlap_offload": True}}, r"overlap_offload=true with offload=0"),
        ({"optimizer": {"offload": 0.5, "moments": "bf16"}}, r"moments='bf16'.*with offload=0\.5"),
        ({**TE, "fp8": {"recipe": "mxfp8"}}, r"'delayed', 'tensorwise' or 'blockwise'"),
        ({"layer_specs": "local"}, r"layer_specs"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GPUConfig.model_validate(settings)


def problems(world_size: int = 1, preset: str = "qwen3-tiny", gpu: dict[str, Any] | None = None, **layout: Any) -> str:
    parallel = ParallelConfig(gpu=GPUConfig.model_validate(gpu or {}), **layout)
    return " | ".join([*parallel.problems(world_size), *get_preset(preset).layout_problems(parallel)])


BF16: dict[str, Any] = {"precision": "bf16"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"gpu": {**TE, "fp8": {}}}, "fp8.recipe=tensorwise with parallel.precision=fp32"),
        ({"gpu": {**TE, "attention": "flash"}}, "attention=flash with parallel.precision=fp32"),
        ({"gpu": {**TE, "attention": "fused"}, "cp": 2, "world_size": 2, **BF16}, "attention=fused with parallel.cp=2"),
        ({"gpu": TE, "precision": "fp64"}, "layer_spec=transformer_engine with parallel.precision=fp64"),
        ({"gpu": {**TE, "tp_overlap_tokens": 128}}, "tp_overlap_tokens=128 with parallel.tp=1"),
        (
            {"gpu": {"overlap_p2p_warmup": True}, "pp": 2, "world_size": 2},
            "overlap_p2p_warmup=true with parallel.vpp=1",
        ),
        ({"gpu": {"fused_dispatch": "deepep"}, "preset": "qwen3-moe-tiny"}, "with parallel.ep=1, etp=1"),
        (
            {"gpu": {"fused_dispatch": "deepep"}, "preset": "qwen3-moe-tiny", "moe_dispatcher": "allgather"},
            "with parallel.moe_dispatcher=allgather",
        ),
        ({"gpu": {"pad_buckets": True}}, "pad_buckets=true with distributed_optimizer=false"),
        ({"gpu": {"bucket_parameters": 9}}, "bucket_parameters=9 with overlap=false"),
        ({"gpu": {"optimizer": {"moments": "bf16"}}}, "optimizer.moments=bf16 with parallel.precision=fp32"),
        ({"gpu": {"optimizer": {"moments": "bf16"}}, **BF16}, "distributed_optimizer=false"),
        ({"gpu": {"optimizer": {"gradients": "bf16"}}}, "optimizer.gradients=bf16 with parallel.precision=fp32"),
        ({"gpu": {"optimizer": {"offload": 1.0}}, **BF16}, "optimizer.offload=1.0 with parallel.precision=bf16"),
        (
            {"gpu": {**TE, "cuda_graphs": "mlp", "graph_tokens": 200, "fp8": {}}, **BF16},
            "rows of 200 tokens are not divisible by 128, which this layout needs; use 256",
        ),
        (
            {"gpu": {**TE, "cuda_graphs": "mlp", "graph_tokens": 128}, "recompute": "full"},
            "cuda_graphs=mlp with recompute=full",
        ),
        (
            {"gpu": {**TE, "cuda_graphs": "mlp", "graph_tokens": 128}, "pp": 2, "world_size": 2},
            "cuda_graphs=mlp with parallel.pp=2",
        ),
        ({"gpu": {**TE, "cuda_graphs": "mlp", "graph_tokens": 128}, "preset": "qwen3-moe-tiny"}, "with experts"),
        ({"gpu": {**TE, "grouped_gemm": True}}, "grouped_gemm=true with a dense model"),
        ({"gpu": {"fused_permute": True}}, "fused_permute=true with a dense model"),
        ({"gpu": {"fused_dispatch": "deepep"}}, "fused_dispatch=deepep with a dense model"),
        ({"gpu": {**TE, "fp8": {"bf16_layers_at_end": 5}}, **BF16}, "bf16_layers_at_end=5 is more than the 4 layers"),
        ({"recompute_modules": ("mlp",)}, "recompute_modules=mlp with recompute=none"),
        ({"recompute": "selective", "recompute_modules": ()}, "recompute_modules is empty"),
        ({"recompute": "selective", "recompute_modules": ("moe",)}, "has moe, which this model has not"),
        (
            {"recompute": "selective", "recompute_modules": ("moe_act",), "preset": "qwen3-moe-tiny"},
            "has moe_act with gpu",
        ),
        (
            {
                "gpu": {**TE, "fp8": {"recipe": "delayed"}},
                "recompute": "selective",
                "recompute_modules": ("layernorm",),
                **BF16,
            },
            "has layernorm with fp8.recipe=delayed",
        ),
    ],
)
def test_settings_that_layout_or_model_excludes(arguments: dict[str, Any], told: str) -> None:
    assert told in problems(**arguments)


def test_what_fits_is_not_refused() -> None:
    gpu = {**TE, "attention": "flash", "fp8": {"bf16_layers_at_start": 1}, "optimizer": {"moments": "bf16"}}
    assert problems(gpu=gpu, distributed_optimizer=True, **BF16) == ""
    moe = {**TE, "grouped_gemm": True, "fused_permute": True, "fused_dispatch": "deepep"}
    assert problems(4, "qwen3-moe-tiny", moe, ep=4, **BF16) == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize(
    "gpu",
    [
        {**TE, "fp8": {}},
        TE,
        {"fused_permute": True},
        {"fuse_gradient_accumulation": True},
        {"fused_dispatch": "deepep"},
        {"optimizer": {"offload": 0.5}},
        {"optimizer": {"moments": "bf16"}},
    ],
)
def test_a_cpu_runs_none_of_it(gpu: dict[str, Any]) -> None:
    config = ParallelConfig(precision="bf16", gpu=GPUConfig.model_validate(gpu))
    with pytest.raises(ConfigError, match=r"without a CUDA device: nothing of it runs on a CPU; leave"):
        build_context(config)


def test_the_version_of_transformer_engine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = GPUConfig(layer_spec="transformer_engine")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert "package transformer_engine is not installed" in machine_problems(gpu)[0]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.8.0")
    assert "transformer_engine 2.8.0 is installed; take 2.9.0 or later, below 2.12" in machine_problems(gpu)[0]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.11.0")
    assert machine_problems(gpu) == []


@pytest.mark.parametrize(
    ("recipe", "capability", "fits"),
    [
        ("tensorwise", (8, 0), False),
        ("tensorwise", (8, 9), True),
        ("blockwise", (8, 9), False),
        ("blockwise", (9, 0), True),
    ],
)
def test_the_device_must_have_fp8(
    recipe: str, capability: tuple[int, int], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = "e4m3" if recipe == "blockwise" else "hybrid"
    gpu = GPUConfig.model_validate({**TE, "fp8": {"recipe": recipe, "format": form}})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "device")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.11.0")
    assert (machine_problems(gpu) == []) == fits
