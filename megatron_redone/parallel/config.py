"""Settings of the parallel layout. Imports no torch: a login node can check it."""

from __future__ import annotations

from typing import Literal

from megatron_redone.config.base import StrictModel


class ParallelConfig(StrictModel):
    """How a model and its batch are split over ranks. The data-parallel size is what is left of the world size."""

    tp: int = 1
    """Tensor-parallel size: every matrix is split over so many ranks."""
    pp: int = 1
    """Pipeline-parallel size: the layers are split into so many consecutive stages."""
    ep: int = 1
    """Expert-parallel size: the experts of a mixture-of-experts layer are spread over so many ranks."""
    etp: int = 1
    """Tensor-parallel size inside one expert."""
    sequence_parallel: bool | None = None
    """Split norms and residuals along the sequence over the tensor-parallel ranks. Unset: on where an
    MoE model is trained with tp > 1 (Megatron-core demands it), else off."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Data type of weights and activations; gradients and optimizer states are kept in fp32."""

    def model_parallel_size(self) -> int:
        """Ranks that hold one copy of the model."""
        return self.tp * self.pp

    def data_parallel_size(self, world_size: int) -> int:
        """Copies of the model among `world_size` ranks (see `problems` for sizes that do not divide)."""
        return world_size // self.model_parallel_size()

    def problems(self, world_size: int) -> list[str]:
        """What is wrong with this layout on `world_size` ranks; empty when it fits."""
        found = [
            f"parallel.{name}={value} must be at least 1"
            for name, value in (("tp", self.tp), ("pp", self.pp), ("ep", self.ep), ("etp", self.etp))
            if value < 1
        ]
        if found:
            return found
        if world_size % self.model_parallel_size():
            found.append(
                f"world size {world_size} is not divisible by parallel.tp * parallel.pp = {self.tp} * {self.pp}; "
                f"start {self.model_parallel_size()} processes (--nproc {self.model_parallel_size()}) or lower tp or pp"
            )
        elif world_size % (self.etp * self.ep * self.pp):
            found.append(
                f"world size {world_size} is not divisible by parallel.etp * ep * pp = "
                f"{self.etp} * {self.ep} * {self.pp}; lower ep or start more processes"
            )
        return found
