"""Settings of the NeMo-Aligner backend. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from megatron_redone.config.base import StrictModel


class NemoAlignerConfig(StrictModel):
    """Where NeMo-Aligner's environment is, and what only its trainer knows."""

    python: Path = Path(".venv-nemo-aligner/bin/python")
    """Python of the environment (`make nemo-aligner` sets it up)."""
    shuffle: bool = True
    """Its sampler draws a new order in every epoch; without, the pairs come as they stand, for one epoch."""
    micro_batch_size: int = Field(1, ge=1)
    """Pairs over which its loss takes a mean; means of equal micro-batches make that of the global batch."""
