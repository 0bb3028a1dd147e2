"""Settings of the NeMo-Aligner backend. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from megatron_redone.config.base import StrictModel


class NemoEnvironmentConfig(StrictModel):
    """Where NeMo-Aligner's environment is."""

    python: Path = Path(".venv-nemo-aligner/bin/python")
    """Python of the environment (`make nemo-aligner` sets it up)."""


class NemoAlignerConfig(NemoEnvironmentConfig):
    """Where NeMo-Aligner's environment is, and what only its DPO trainer knows."""

    shuffle: bool = True
    """Its sampler draws a new order in every epoch; without, the pairs come as they stand, for one epoch."""
    micro_batch_size: int = Field(1, ge=1)
    """Pairs over which its loss takes a mean; means of equal micro-batches make that of the global batch."""


class ContainerConfig(StrictModel):
    """Where an export runs: a cluster with NeMo's own container."""

    image: str = Field(min_length=1)
    """The container: what `srun --container-image` takes."""
    nodes: int = Field(1, ge=1)
    gpus_per_node: int = Field(8, ge=1)
    time_limit: str = Field("04:00:00", pattern=r"^(\d+-)?\d+(:\d+){0,2}$")
    """As `sbatch --time` takes it. Its trainer checkpoints ten minutes earlier."""
    account: str | None = None
    partition: str | None = None
    mount: str = Field("/redone", pattern=r"^(/[\w.-]+)+$")
    """Where the exported folder stands inside the container; every path of the configuration begins with it."""
    aligner_folder: str = Field("/opt/NeMo-Aligner", pattern=r"^(/[\w.-]+)+$")
    """NeMo-Aligner's sources inside the container."""

    @property
    def world_size(self) -> int:
        """GPUs in all."""
        return self.nodes * self.gpus_per_node
