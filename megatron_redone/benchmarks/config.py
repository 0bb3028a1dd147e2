"""Settings of the training benchmark. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.parallel.config import ParallelConfig


class TrainBenchmarkConfig(StrictModel):
    """What is trained, on what, and for how many steps."""

    preset: str | None = None
    """Shape by name, with random weights; give this or `model`."""
    layers: int | None = Field(None, ge=1)
    """The first so many layers of the preset; by default all."""
    model: Path | None = None
    """Hugging Face model folder."""
    conversations: Path | None = None
    """JSONL of conversations, packed as SFT packs them; by default documents of random tokens, every one a label."""
    document_length: int | None = Field(None, ge=2)
    """Tokens of a random document; by default a row is one document."""
    lengths: Literal["fixed", "redone"] = "fixed"
    """Of random documents. redone: log-normal with median 345 and 95th percentile 2,342, what RedOne tells of its SFT
    data, cut at the row and packed best-fit."""
    sequence_length: int = Field(1024, ge=8)
    """Tokens of a packed row, which is one micro-batch."""
    rows: int = Field(1, ge=1)
    """Packed rows of an optimizer step, over all replicas."""
    steps: int = Field(10, ge=1)
    """Steps that are measured."""
    warmup: int = Field(2, ge=1)
    """Steps before them."""
    profiled: int = Field(2, ge=0)
    """Steps after them, of which a profile says where the time goes."""
    peer: bool = False
    """After each step, a forward and backward pass of plain transformers over the same rows (one process)."""
    seed: int = 0
    parallel: ParallelConfig = ParallelConfig()

    def rule_violations(self) -> Iterator[str]:
        """One model; a conversation needs its tokenizer; documents fit into a row."""
        if (self.preset is None) == (self.model is None):
            yield f"preset={self.preset} and model={self.model}: give exactly one of them"
        if self.conversations is not None and self.model is None:
            yield f"conversations={self.conversations} without model: its tokenizer is needed; give a model folder"
        if self.layers is not None and self.preset is None:
            yield f"layers={self.layers} without preset: a folder has its layers; leave it out"
        if self.lengths != "fixed" and (self.conversations is not None or self.document_length is not None):
            yield f"lengths={self.lengths} beside conversations or document_length: give one source of lengths"
        if self.document_length is not None and self.document_length > self.sequence_length:
            yield (
                f"document_length={self.document_length} is more than sequence_length={self.sequence_length}; "
                "documents are packed whole: lower it"
            )
