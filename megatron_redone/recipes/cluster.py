"""What a recipe states for its dry run: the machines it is meant for, and what only data can tell. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from megatron_redone.config.base import StrictModel


class ClusterConfig(StrictModel):
    """Machines of one kind, by default an H200 SXM node. Read by the dry run alone; a launcher has its own profile."""

    nodes: int = Field(1, ge=1)
    gpus_per_node: int = Field(8, ge=1)
    gpu: str = "H200"
    """Name, for the printed plan."""
    memory_gib: float = Field(139.0, gt=0)
    """Memory of a GPU that can be used."""
    bf16_tflops: float = Field(989.0, gt=0)
    """Peak of dense bf16 matrix products, in 10^12 operations a second (data sheet, without sparsity)."""
    bandwidth_tb_s: float = Field(4.8, gt=0)
    """Peak bandwidth of its memory, in 10^12 bytes a second (data sheet)."""
    training_utilisation: float = Field(0.35, gt=0, le=1)
    """Share of the peak operations that training and forward passes reach; an assumption, to be measured."""
    rollout_utilisation: float = Field(0.5, gt=0, le=1)
    """Share of the peak bandwidth that drawing tokens reaches; an assumption, to be measured."""

    @property
    def num_gpus(self) -> int:
        """GPUs of all nodes."""
        return self.nodes * self.gpus_per_node


class ExpectConfig(StrictModel):
    """Figures that only the data and the model can tell, for the cost in the dry run. Nothing else reads them."""

    prompt_tokens: int = Field(512, ge=1)
    """Mean length of a prompt."""
    response_tokens: int = Field(1024, ge=1)
    """Mean length of a drawn response; the stage's `max_new_tokens` bounds it."""
    conversation_tokens: int = Field(600, ge=1)
    """Mean length of a training conversation, and of an answer pair's prompt with one answer."""
    document_tokens: int = Field(1024, ge=1)
    """Mean length of a pretraining document: attention does not leave it."""
    groups_kept: float = Field(0.5, gt=0, le=1)
    """Share of the groups whose scores differ: dynamic sampling draws the others for nothing."""
    rows: dict[str, int] = Field(default_factory=dict)
    """Rows, conversations or pairs by the stage that makes them or the path as it stands in the recipe, if need be with
    the part: `sft_sets/step1`, `../data/rows/test`."""
