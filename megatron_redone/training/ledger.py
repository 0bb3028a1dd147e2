"""The data ledger: a hash chain over the ids of the samples that a stage has read, in the order of reading.

Two runs whose chains agree after a step have read the same samples in the same order: none was skipped or read twice by
an interruption, whatever the layout and the number of ranks on either side of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any


class DataLedger:
    """The chain and the number of samples so far.

    Every rank keeps the same ledger: it is given the ids of the global batch, not those of its own part.
    """

    def __init__(self) -> None:
        self.num_samples = 0
        self.chain = ""
        """Hexadecimal SHA-256 of the chain before and the ids since; empty before the first sample."""

    def add(self, sample_ids: Sequence[str]) -> None:
        """Notes samples that are read now. Ids may hold any character: their lengths are part of what is hashed."""
        content = "".join(f"{len(sample)}:{sample}," for sample in sample_ids)
        self.chain = hashlib.sha256(f"{self.chain};{content}".encode()).hexdigest()
        self.num_samples += len(sample_ids)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"num_samples": self.num_samples, "chain": self.chain}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes the state of a checkpoint."""
        self.num_samples, self.chain = int(state["num_samples"]), str(state["chain"])
