"""Settings that count on a CUDA device alone: layer spec, FP8, fused kernels, overlap, optimizer memory.

Imports no torch: a login node checks them. Which field of Megatron-core each one becomes stands in
`models/gpu_fields.py`; whether a machine can run them is asked by `parallel/gpu_machine.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel

if TYPE_CHECKING:
    from megatron_redone.parallel.config import ParallelConfig

TE = "transformer_engine"
FP8_ROW_MULTIPLE = 128
"""Tokens of a row under FP8 come in multiples of this: the edge of a scaling block (the other recipes need 16)."""


class FP8Config(StrictModel):
    """Matrix products of the linear layers in 8 bits; weights stay in BF16, optimizer states as they are."""

    recipe: Literal["delayed", "tensorwise", "blockwise"] = "tensorwise"
    """Where scales come from: the largest values of earlier steps, of this tensor, or of blocks of 128 values."""
    format: Literal["hybrid", "e4m3"] = "hybrid"
    """E4M3 forward and E5M2 for gradients, or E4M3 for both."""
    bf16_layers_at_start: int = Field(0, ge=0)
    """So many first layers stay in BF16."""
    bf16_layers_at_end: int = Field(0, ge=0)
    """So many last layers stay in BF16."""
    amax_history: int | None = Field(None, ge=1)
    """Steps whose largest values `delayed` looks back on (Megatron-core's default: 1); for `delayed` only."""
    amax_algorithm: Literal["most_recent", "max"] | None = None
    """Which of them makes the scale; for `delayed` only."""
    margin: int | None = Field(None, ge=0)
    """Powers of two that a scale stays below the largest value; for `delayed` only."""
    weight_gradient: bool | None = None
    """Whether weight gradients are formed in FP8, too (by default they are); for `delayed` only."""

    def rule_violations(self) -> Iterator[str]:
        """Only delayed scaling looks back; it takes all layers or none."""
        if self.recipe != "delayed":
            for name in ("amax_history", "amax_algorithm", "margin", "weight_gradient"):
                if getattr(self, name) is not None:
                    value = getattr(self, name)
                    yield f"{name}={value} with recipe={self.recipe!r}: only delayed reads it; leave it out"
        elif self.bf16_layers_at_start or self.bf16_layers_at_end:
            yield (
                f"bf16_layers_at_start={self.bf16_layers_at_start}, bf16_layers_at_end={self.bf16_layers_at_end} with "
                "recipe='delayed': one context holds the scales of all layers; set both to 0 or take tensorwise"
            )
        if self.recipe == "blockwise" and self.format == "hybrid":
            yield "format='hybrid' with recipe='blockwise': blocks are scaled in E4M3 alone; set format='e4m3'"


class OptimizerMemoryConfig(StrictModel):
    """Where Adam's states are, and in how many bits."""

    offload: float = Field(0.0, ge=0, le=1)
    """Share of the states, and of the work on them, that the host takes."""
    overlap_offload: bool = False
    """Copy states while the host computes."""
    moments: Literal["fp32", "bf16"] = "fp32"
    """Both moments."""
    gradients: Literal["fp32", "bf16"] = "fp32"
    """What gradients are accumulated and reduced in."""

    def rule_violations(self) -> Iterator[str]:
        """What the host and a short type exclude."""
        if self.overlap_offload and not self.offload:
            yield "overlap_offload=true with offload=0: nothing is copied; set offload above 0 or leave it out"
        if self.offload and (self.moments != "fp32" or self.gradients != "fp32"):
            yield (
                f"moments={self.moments!r}, gradients={self.gradients!r} with offload={self.offload}: the host keeps "
                "fp32; set both to fp32 or offload=0"
            )


class GPUConfig(StrictModel):
    """The two GPU profiles: `local` runs on a bare CUDA image, `transformer_engine` needs that library."""

    layer_spec: Literal["local", "transformer_engine"] = "local"
    """Megatron's own linear layers with our norm, or Transformer Engine's, which fuse the norm before them."""
    attention: Literal["torch", "flash", "fused", "auto"] = "torch"
    """Torch's packed flash attention, or Transformer Engine's: flash-attn, cuDNN's, or what it finds best."""
    fp8: FP8Config | None = None
    grouped_gemm: bool = False
    """All experts of a rank in one call."""
    fused_permute: bool = False
    """One kernel to sort tokens by expert and back."""
    fused_dispatch: Literal["none", "deepep", "hybridep"] = "none"
    """Permutation and all-to-all of tokens in one library's kernels, in place of `parallel.moe_dispatcher`."""
    fuse_gradient_accumulation: bool = False
    """Weight gradients are added to the buffer by the matrix product itself (needs Apex's extension)."""
    tp_overlap_tokens: int | None = Field(None, ge=128)
    """Overlap tensor-parallel communication with matrix products; every row is padded to so many tokens."""
    overlap_p2p_warmup: bool = False
    """Overlap sends between pipeline stages in the warm-up and flush phases, too (elsewhere vpp > 1 always does)."""
    bucket_parameters: int | None = Field(None, ge=1)
    """Parameters of a gradient bucket; by default Megatron-core's max(40 million, 1 million * replicas)."""
    pad_buckets: bool = False
    """Pad buckets of the distributed optimizer to what NCCL moves fastest on many ranks."""
    cuda_graphs: Literal["none", "mlp"] = "none"
    """Replay the dense MLP of each layer as a graph; attention changes with the documents of a row."""
    graph_tokens: int | None = Field(None, ge=128)
    """Every row is padded to so many tokens, as a graph needs; with `cuda_graphs` only."""
    graph_warmup_steps: int | None = Field(None, ge=1)
    """Steps before graphs are captured (Megatron-core's default: 3); with `cuda_graphs` only."""
    optimizer: OptimizerMemoryConfig = OptimizerMemoryConfig()

    def rule_violations(self) -> Iterator[str]:
        """What only Transformer Engine has."""
        if self.layer_spec == "local":
            needs: dict[str, object] = {
                "attention": self.attention if self.attention != "torch" else None,
                "fp8": self.fp8 and self.fp8.recipe,
                "grouped_gemm": self.grouped_gemm,
                "tp_overlap_tokens": self.tp_overlap_tokens,
                "cuda_graphs": self.cuda_graphs if self.cuda_graphs != "none" else None,
            }
            for name, value in needs.items():
                if value:
                    yield (
                        f"{name}={_word(value)} with layer_spec='local': Transformer Engine's layers do this; "
                        f"set layer_spec='{TE}' or leave {name} out"
                    )
        if self.cuda_graphs == "none":
            for name in ("graph_tokens", "graph_warmup_steps"):
                if getattr(self, name) is not None:
                    yield f"{name}={getattr(self, name)} with cuda_graphs='none': nothing reads it; leave it out"
        elif self.graph_tokens is None:
            yield f"cuda_graphs='{self.cuda_graphs}' without graph_tokens: a graph has one shape; set graph_tokens"
        lengths = {n for n in (self.tp_overlap_tokens, self.graph_tokens) if n is not None}
        if len(lengths) > 1:
            yield (
                f"tp_overlap_tokens={self.tp_overlap_tokens} and graph_tokens={self.graph_tokens}: "
                "rows have one length; make them equal"
            )

    @property
    def row_tokens(self) -> int | None:
        """The one length of all rows; None where they may differ."""
        return self.tp_overlap_tokens or self.graph_tokens

    @property
    def needs_transformer_engine(self) -> list[str]:
        """The settings that call it, as `name=value`."""
        found = {
            "layer_spec": self.layer_spec == TE and TE,
            "fused_permute": self.fused_permute,
            "optimizer.moments": self.optimizer.moments != "fp32" and self.optimizer.moments,
        }
        return [f"parallel.gpu.{name}={_word(value)}" for name, value in found.items() if value]

    @property
    def needs_cuda(self) -> list[str]:
        """The settings that no CPU can run, as `name=value`."""
        found: dict[str, object] = {
            "fused_dispatch": self.fused_dispatch != "none" and self.fused_dispatch,
            "fuse_gradient_accumulation": self.fuse_gradient_accumulation,
            "optimizer.offload": self.optimizer.offload,
        }
        rest = [f"parallel.gpu.{name}={_word(value)}" for name, value in found.items() if value]
        return [*self.needs_transformer_engine, *rest]


def fp8_multiple(gpu: GPUConfig) -> int:
    """What the tokens that a rank's layers see must be a multiple of."""
    return 1 if gpu.fp8 is None else FP8_ROW_MULTIPLE


def gpu_layout_problems(parallel: ParallelConfig) -> list[str]:
    """Settings that the layout or its precision excludes."""
    gpu, found = parallel.gpu, []
    if gpu.fp8 is not None and parallel.precision != "bf16":
        found.append(
            f"parallel.gpu.fp8.recipe={gpu.fp8.recipe} with parallel.precision={parallel.precision}: FP8 products "
            "stand beside BF16 weights; set precision=bf16"
        )
    if gpu.attention != "torch" and parallel.precision != "bf16":
        found.append(
            f"parallel.gpu.attention={gpu.attention} with parallel.precision={parallel.precision}: its kernels take "
            "16 bits; set precision=bf16 or attention=torch"
        )
    if gpu.attention != "torch" and parallel.cp > 1:
        found.append(
            f"parallel.gpu.attention={gpu.attention} with parallel.cp={parallel.cp}: Transformer Engine cuts every "
            "document over the ranks, our rows are cut as wholes; set attention=torch, which is flash attention, too"
        )
    if gpu.layer_spec == TE and parallel.precision == "fp64":
        found.append(
            f"parallel.gpu.layer_spec={TE} with parallel.precision=fp64: it has no such kernels; set layer_spec=local"
        )
    if gpu.tp_overlap_tokens is not None and (parallel.tp == 1 or not parallel.sequence_parallel):
        found.append(
            f"parallel.gpu.tp_overlap_tokens={gpu.tp_overlap_tokens} with parallel.tp={parallel.tp}, sequence_parallel="
            f"{_word(parallel.sequence_parallel)}: it overlaps the gathers of sequence parallelism; set tp above 1 and "
            "sequence_parallel=true"
        )
    if gpu.overlap_p2p_warmup and parallel.vpp == 1:
        found.append(
            f"parallel.gpu.overlap_p2p_warmup=true with parallel.vpp={parallel.vpp}: only interleaved stages overlap "
            "their sends; set vpp to 2 or more, or leave it out"
        )
    if gpu.fused_dispatch != "none":
        if parallel.moe_dispatcher != "alltoall":
            found.append(
                f"parallel.gpu.fused_dispatch={gpu.fused_dispatch} with parallel.moe_dispatcher="
                f"{parallel.moe_dispatcher}: it stands in for alltoall; leave moe_dispatcher out"
            )
        if parallel.ep * parallel.etp == 1:
            found.append(
                f"parallel.gpu.fused_dispatch={gpu.fused_dispatch} with parallel.ep=1, etp=1: no token leaves its "
                "rank; set ep above 1 or fused_dispatch=none"
            )
    if gpu.pad_buckets and not parallel.distributed_optimizer:
        found.append(
            "parallel.gpu.pad_buckets=true with distributed_optimizer=false: only its buckets are cut over ranks; "
            "set distributed_optimizer=true"
        )
    if gpu.bucket_parameters is not None and not parallel.overlap:
        found.append(
            f"parallel.gpu.bucket_parameters={gpu.bucket_parameters} with overlap=false: all gradients are then one "
            "bucket; set overlap=true or leave it out"
        )
    memory = gpu.optimizer
    short = [name for name in ("moments", "gradients") if getattr(memory, name) != "fp32"]
    for name in short:
        if parallel.precision != "bf16" or (name == "moments" and not parallel.distributed_optimizer):
            found.append(
                f"parallel.gpu.optimizer.{name}={getattr(memory, name)} with parallel.precision={parallel.precision}, "
                f"distributed_optimizer={_word(parallel.distributed_optimizer)}: it is an option of bf16 training"
                + (" with the distributed optimizer" if name == "moments" else "")
            )
    if memory.offload and not (parallel.distributed_optimizer and parallel.precision == "bf16"):
        found.append(
            f"parallel.gpu.optimizer.offload={memory.offload} with parallel.precision={parallel.precision}, "
            f"distributed_optimizer={_word(parallel.distributed_optimizer)}: Megatron-core moves the shards of its "
            "distributed optimizer in bf16 training; set both so"
        )
    rows = gpu.row_tokens
    multiple = (2 * parallel.cp if parallel.cp > 1 else 1) * parallel.tp * fp8_multiple(gpu)
    if rows is not None and rows % multiple:
        found.append(
            f"parallel.gpu rows of {rows} tokens are not divisible by {multiple}, which this layout needs; "
            f"use {-(-rows // multiple) * multiple}"
        )
    if "moe_act" in parallel.recompute_modules and not gpu.grouped_gemm:
        found.append("parallel.recompute_modules has moe_act with gpu.grouped_gemm=false: set grouped_gemm=true")
    if gpu.fp8 is not None and gpu.fp8.recipe == "delayed" and parallel.recompute == "selective":
        again = sorted({"moe_act", "layernorm"} & set(parallel.recompute_modules))
        if again:
            found.append(
                f"parallel.recompute_modules has {', '.join(again)} with fp8.recipe=delayed: a second pass would count "
                "its largest values twice; leave them out or take tensorwise"
            )
    if gpu.cuda_graphs != "none" and parallel.pp > 1:
        found.append(
            f"parallel.gpu.cuda_graphs={gpu.cuda_graphs} with parallel.pp={parallel.pp}: a graph is captured for each "
            "micro-batch of a pipeline, whose number changes here; set pp=1 or cuda_graphs=none"
        )
    if gpu.cuda_graphs != "none" and parallel.recompute == "full":
        found.append(
            f"parallel.gpu.cuda_graphs={gpu.cuda_graphs} with recompute=full: a layer computed again is no graph; "
            "set recompute to none or selective"
        )
    return found


def gpu_model_problems(parallel: ParallelConfig, num_layers: int, is_moe: bool) -> list[str]:
    """Settings that the model excludes."""
    gpu, found = parallel.gpu, []
    for name in ("grouped_gemm", "fused_permute"):
        if getattr(gpu, name) and not is_moe:
            found.append(f"parallel.gpu.{name}=true with a dense model; experts are needed, leave it out")
    if gpu.fused_dispatch != "none" and not is_moe:
        found.append(
            f"parallel.gpu.fused_dispatch={gpu.fused_dispatch} with a dense model; experts are needed, leave it out"
        )
    if gpu.cuda_graphs == "mlp" and is_moe:
        found.append(
            "parallel.gpu.cuda_graphs=mlp with experts: how many tokens an expert gets is known on the host only; "
            "set cuda_graphs=none"
        )
    if parallel.recompute == "selective":
        kind = ("mlp",) if is_moe else ("moe", "moe_act")
        for name in kind:
            if name in parallel.recompute_modules:
                found.append(f"parallel.recompute_modules has {name}, which this model has not; leave it out")
    if gpu.fp8 is not None:
        for name in ("bf16_layers_at_start", "bf16_layers_at_end"):
            value, most = getattr(gpu.fp8, name), num_layers // parallel.pp
            if value > most:
                found.append(
                    f"parallel.gpu.fp8.{name}={value} is more than the {most} layers of a pipeline stage; lower it"
                )
    return found


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
