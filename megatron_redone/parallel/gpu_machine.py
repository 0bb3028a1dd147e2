"""Whether this machine can run what `parallel.gpu` asks for. Asked when a context is built, before any rank waits."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import torch
from packaging.version import Version

from megatron_redone.parallel.gpu_config import GPUConfig

TRANSFORMER_ENGINE = (Version("2.9.0"), Version("2.12"))
"""From the first, below the second: what Megatron-core 0.16 is made for."""
FP8_CAPABILITY = (8, 9)
BLOCKWISE_CAPABILITY = (9, 0)
APEX_EXTENSION = "fused_weight_gradient_mlp_cuda"


def machine_problems(gpu: GPUConfig) -> list[str]:
    """What this machine lacks for these settings; empty where it can run them."""
    has_cuda = torch.cuda.is_available()
    found = []
    if gpu.needs_cuda and not has_cuda:
        found.append(
            f"{', '.join(gpu.needs_cuda)} without a CUDA device: nothing of it runs on a CPU; "
            "leave parallel.gpu out, or run on a GPU"
        )
    if gpu.needs_transformer_engine:
        found += _transformer_engine_problems(gpu.needs_transformer_engine)
    for library, wanted in (("deep_ep", "deepep"), ("deep_ep", "hybridep")):
        if gpu.fused_dispatch == wanted and importlib.util.find_spec(library) is None:
            found.append(
                f"parallel.gpu.fused_dispatch={wanted}: package {library} is not installed; install it "
                "or set fused_dispatch=none"
            )
    if gpu.fuse_gradient_accumulation and importlib.util.find_spec(APEX_EXTENSION) is None:
        found.append(
            f"parallel.gpu.fuse_gradient_accumulation=true: Apex's extension {APEX_EXTENSION} is not installed; "
            "build Apex with --cpp_ext --cuda_ext or leave it out"
        )
    if gpu.fp8 is not None and has_cuda:
        have = torch.cuda.get_device_capability()
        need = BLOCKWISE_CAPABILITY if gpu.fp8.recipe == "blockwise" else FP8_CAPABILITY
        if have < need:
            found.append(
                f"parallel.gpu.fp8.recipe={gpu.fp8.recipe} on {torch.cuda.get_device_name()} (compute capability "
                f"{have[0]}.{have[1]}): it needs {need[0]}.{need[1]}; leave fp8 out"
            )
    return found


def _transformer_engine_problems(settings: list[str]) -> list[str]:
    first, below = TRANSFORMER_ENGINE
    try:
        version = Version(importlib.metadata.version("transformer_engine"))
    except importlib.metadata.PackageNotFoundError:
        return [
            f"{', '.join(settings)}: package transformer_engine is not installed; see docs/gpu.md, or use the local "
            "layer spec"
        ]
    if not first <= version < below:
        told = f"transformer_engine {version} is installed; take {first} or later, below {below}"
        return [f"{', '.join(settings)}: {told}"]
    return []
