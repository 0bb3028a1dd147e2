"""What a recipe states for its plan: the machines it is meant for, and what only data can tell. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from megatron_redone.common.errors import InputError
from megatron_redone.config.base import StrictModel
from megatron_redone.planning.hardware import Accelerator, get_accelerator


class ClusterConfig(StrictModel):
    """Machines of one kind. Read by the dry run and by `redone plan`; a launcher has its own profile."""

    nodes: int = Field(1, ge=1)
    gpus_per_node: int = Field(8, ge=1)
    gpu: str = "h200"
    """A profile of `planning/hardware.py`, which holds memory, peaks, bandwidths and price."""
    memory_gib: float | None = Field(None, gt=0)
    """Memory of a GPU that can be used, instead of the profile's."""
    bf16_tflops: float | None = Field(None, gt=0)
    """Peak of dense matrix products in 10^12 operations a second, instead of the profile's."""
    bandwidth_tb_s: float | None = Field(None, gt=0)
    """Bandwidth of its memory in 10^12 bytes a second, instead of the profile's."""
    dollars_per_hour: float | None = Field(None, ge=0)
    """Price of a GPU for an hour, instead of the profile's."""

    def rule_violations(self) -> Iterator[str]:
        """A profile of that name."""
        try:
            get_accelerator(self.gpu)
        except InputError as error:
            yield str(error)

    @property
    def num_gpus(self) -> int:
        """GPUs of all nodes."""
        return self.nodes * self.gpus_per_node

    def accelerator(self) -> Accelerator:
        """The profile with what is replaced."""
        return get_accelerator(
            self.gpu,
            memory_gib=self.memory_gib,
            peak_tflops=self.bf16_tflops,
            bandwidth_tb_s=self.bandwidth_tb_s,
            dollars_per_hour=self.dollars_per_hour,
            ranks_per_node=self.gpus_per_node,
        )


class ExpectConfig(StrictModel):
    """Figures that only the data and the model can tell, for the plan. Nothing else reads them."""

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
    expert_imbalance: float = Field(1.7, ge=1)
    """Tokens of the fullest rank of experts over the mean, of a mixture of experts with natural routing; the default is
    fitted to a published speed (`planning/records.py`)."""
    rows: dict[str, int] = Field(default_factory=dict)
    """Rows, conversations or pairs by the stage that makes them or the path as it stands in the recipe, if need be with
    the part: `sft_sets/step1`, `../data/rows/test`."""
