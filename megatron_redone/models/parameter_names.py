"""Names of the same parameter under the two layer specs. Imports no torch.

The parameter tables (`models/decoder.py`) use the names of the local spec. Transformer Engine's fuses a norm into the
matrix that follows it, and keeps the experts of a rank as numbered weights of one module:

    local                                              transformer_engine
    input_layernorm.weight                             self_attention.linear_qkv.layer_norm_weight
    pre_mlp_layernorm.weight (dense)                   mlp.linear_fc1.layer_norm_weight
    mlp.experts.local_experts.3.linear_fc1.weight      mlp.experts.linear_fc1.weight3 (grouped)

Everything else has one name. `_extra_state` (FP8 scales of a module) is no parameter and stands in no table.
"""

from __future__ import annotations

import re

from megatron_redone.parallel.gpu_config import TE, GPUConfig

QKV_NORM = (".input_layernorm.weight", ".self_attention.linear_qkv.layer_norm_weight")
MLP_NORM = (".pre_mlp_layernorm.weight", ".mlp.linear_fc1.layer_norm_weight")
_ONE_EXPERT = re.compile(r"\.mlp\.experts\.local_experts\.(\d+)\.(linear_fc[12])\.weight$")
_GROUPED_EXPERT = re.compile(r"\.mlp\.experts\.(linear_fc[12])\.weight(\d+)$")


def under_spec(name: str, gpu: GPUConfig, is_moe: bool) -> str:
    """The name that a parameter of the tables has under a layer spec."""
    if gpu.layer_spec != TE:
        return name
    for local, fused in _fused(is_moe):
        if name.endswith(local):
            return name.removesuffix(local) + fused
    if gpu.grouped_gemm:
        return _ONE_EXPERT.sub(r".mlp.experts.\2.weight\1", name)
    return name


def of_tables(name: str, gpu: GPUConfig, is_moe: bool) -> str:
    """The other way round: the name of the tables of a model's parameter."""
    if gpu.layer_spec != TE:
        return name
    for local, fused in _fused(is_moe):
        if name.endswith(fused):
            return name.removesuffix(fused) + local
    if gpu.grouped_gemm:
        return _GROUPED_EXPERT.sub(r".mlp.experts.local_experts.\2.\1.weight", name)
    return name


def _fused(is_moe: bool) -> list[tuple[str, str]]:
    return [QKV_NORM] if is_moe else [QKV_NORM, MLP_NORM]
