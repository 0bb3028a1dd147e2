"""Settings of the parallel layout. Imports no torch: a login node can check it."""

from __future__ import annotations

from typing import Literal

from megatron_redone.config.base import StrictModel
from megatron_redone.parallel.gpu_config import GPUConfig, gpu_layout_problems


class ParallelConfig(StrictModel):
    """How a model and its batch are split over ranks. The data-parallel size is what is left of the world size."""

    tp: int = 1
    """Tensor-parallel size: every matrix is split over so many ranks."""
    pp: int = 1
    """Pipeline-parallel size: the layers are split into so many consecutive stages."""
    vpp: int = 1
    """Model chunks of each pipeline stage: above 1 the schedule is interleaved, with a smaller bubble."""
    cp: int = 1
    """Context-parallel size: the tokens of a micro-batch are split over so many ranks."""
    ep: int = 1
    """Expert-parallel size: the experts of a mixture-of-experts layer are spread over so many ranks."""
    etp: int = 1
    """Tensor-parallel size inside one expert."""
    sequence_parallel: bool | None = None
    """Split norms and residuals along the sequence over the tensor-parallel ranks. Unset: on where an
    MoE model is trained with tp > 1 (Megatron-core demands it), else off."""
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    """Data type of weights and activations. Gradients and optimizer states are kept in fp32, with fp64 in fp64
    (CPU, for proofs: it is slow)."""
    distributed_optimizer: bool = False
    """Split gradients and optimizer states over the data-parallel ranks (ZeRO-1)."""
    overlap: bool = False
    """Reduce gradients while the backward pass goes on, and with the distributed optimizer gather updated weights
    while the next forward pass begins."""
    recompute: Literal["none", "selective", "full"] = "none"
    """What the backward pass computes again instead of keeping it: nothing, parts of layers, or whole layers."""
    recompute_modules: tuple[Literal["core_attn", "layernorm", "mlp", "moe", "moe_act"], ...] = ("core_attn",)
    """The parts that `selective` computes again."""
    moe_dispatcher: Literal["alltoall", "allgather"] = "alltoall"
    """How tokens reach their experts: each to its expert's rank, or all to all ranks (few experts, short rows)."""
    gpu: GPUConfig = GPUConfig()
    """What counts on a CUDA device alone."""

    def model_parallel_size(self) -> int:
        """Ranks that hold one copy of the model."""
        return self.tp * self.pp

    def data_parallel_size(self, world_size: int) -> int:
        """Replicas that read different micro-batches (see `problems` for sizes that do not divide)."""
        return world_size // (self.tp * self.pp * self.cp)

    def problems(self, world_size: int) -> list[str]:
        """What is wrong with this layout on `world_size` ranks; empty when it fits."""
        sizes = {name: getattr(self, name) for name in ("tp", "pp", "vpp", "cp", "ep", "etp")}
        found = [f"parallel.{name}={value} must be at least 1" for name, value in sizes.items() if value < 1]
        if found:
            return found
        needed = self.tp * self.pp * self.cp
        if world_size % needed:
            found.append(
                f"world size {world_size} is not divisible by parallel.tp * pp * cp = {self.tp} * {self.pp} * "
                f"{self.cp}; start {needed} processes (--nproc {needed}) or lower one of them"
            )
        elif world_size % (self.etp * self.ep * self.pp):
            found.append(
                f"world size {world_size} is not divisible by parallel.etp * ep * pp = "
                f"{self.etp} * {self.ep} * {self.pp}; lower ep or start more processes"
            )
        if self.vpp > 1 and self.pp == 1:
            found.append(f"parallel.vpp={self.vpp} needs pipeline stages to interleave; set pp to 2 or more, or vpp=1")
        if self.precision == "fp64" and self.distributed_optimizer:
            found.append(
                "parallel.precision=fp64 with distributed_optimizer=true: Megatron's sharded buffers hold fp32 states; "
                "set distributed_optimizer=false"
            )
        if self.recompute != "selective" and self.recompute_modules != ("core_attn",):
            found.append(
                f"parallel.recompute_modules={', '.join(self.recompute_modules)} with recompute={self.recompute}: only "
                "selective reads it; set recompute=selective"
            )
        if self.recompute == "selective" and not self.recompute_modules:
            found.append(
                "parallel.recompute_modules is empty with recompute=selective; name a part or set recompute=none"
            )
        return found + gpu_layout_problems(self)
