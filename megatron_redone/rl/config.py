"""Settings of the DAPO loop. Defaults are RedOne 2.0's; where it is silent, those of the published DAPO code.
Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.training.config import OptimizerConfig


class OverlongConfig(StrictModel):
    """Soft penalty on long responses (DAPO, equation 13)."""

    buffer_tokens: int = Field(4096, ge=0)
    """The penalty grows linearly over the last so many tokens before the limit; 0 switches it off."""
    factor: float = Field(1.0, ge=0)
    """Penalty at the limit."""


class RolloutConfig(StrictModel):
    """When rollouts are made."""

    staleness: Literal[0, 1] = 0
    """Updates by which the weights of a rollout are behind the trainer's. 1: the next rollout is made while the trainer
    trains on this one, with the weights before the update; needs `generation.engine` vllm or servers."""


class DAPOConfig(StrictModel):
    """Reinforcement learning with group-relative advantages, clip-higher and dynamic sampling."""

    num_rollouts: int = Field(500, ge=1)
    """Rollout steps; each is followed by prompts_per_rollout / minibatch_prompts optimizer steps."""
    prompts_per_rollout: int = Field(1024, ge=1)
    responses_per_prompt: int = Field(16, ge=2)
    """Size of a group."""
    minibatch_prompts: int = Field(256, ge=1)
    """Groups of one optimizer step."""
    max_tokens_per_microbatch: int = Field(32_768, ge=16)
    """Tokens of a packed micro-batch; it does not change the result."""
    clip_ratio_low: float = Field(0.2, gt=0, lt=1)
    clip_ratio_high: float = Field(0.28, gt=0)
    dual_clip: float = Field(10.0, gt=1)
    """Bound on the loss of a negative advantage, in units of the advantage."""
    dynamic_sampling: bool = True
    """Throw away groups whose scores are all equal, and sample other prompts in their place."""
    max_generation_batches: int = Field(10, ge=1)
    """Batches of prompts tried for one rollout before it goes on with what it has."""
    task_balance: float = Field(0.5, ge=0, le=1)
    """A task is drawn with probability proportional to its number of rows to this power: 1 is natural, 0 uniform."""
    overlong: OverlongConfig = OverlongConfig()
    rollout: RolloutConfig = RolloutConfig()
    generation: GenerationConfig = GenerationConfig(max_new_tokens=8192, max_prompt_tokens=10_000)
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-6, schedule="constant", weight_decay=0.1)
    warmup_rollouts: int = Field(10, ge=0)
    """Rollout steps over which the learning rate rises, in place of the optimizer's own warm-up."""

    def rule_violations(self) -> Iterator[str]:
        """Sizes that must divide."""
        if self.prompts_per_rollout % self.minibatch_prompts:
            yield (
                f"prompts_per_rollout={self.prompts_per_rollout} is not divisible by "
                f"minibatch_prompts={self.minibatch_prompts}; every optimizer step takes as many groups"
            )
        longest = self.generation.max_prompt_tokens + self.generation.max_new_tokens
        if longest > self.max_tokens_per_microbatch:
            yield (
                f"max_tokens_per_microbatch={self.max_tokens_per_microbatch} is less than max_prompt_tokens + "
                f"max_new_tokens = {longest}; one sequence must fit a micro-batch"
            )
        if self.optimizer.warmup_steps is not None:
            yield (
                f"optimizer.warmup_steps={self.optimizer.warmup_steps}: this stage warms up over rollout steps; "
                "set warmup_rollouts instead"
            )
        if self.rollout.staleness and self.generation.engine == "megatron":
            yield (
                f"rollout.staleness={self.rollout.staleness} with generation.engine=megatron, which generates with the "
                "trainer's own weights and cannot do so while they change; set engine to vllm or servers"
            )
        if self.rollout.staleness and self.generation.vllm.colocated:
            yield (
                f"rollout.staleness={self.rollout.staleness} with generation.vllm.colocated=true: an engine that "
                "sleeps while the trainer trains makes no rollouts meanwhile; leave one of them out"
            )
        if self.overlong.buffer_tokens > self.generation.max_new_tokens:
            yield (
                f"overlong.buffer_tokens={self.overlong.buffer_tokens} exceeds "
                f"max_new_tokens={self.generation.max_new_tokens}; the buffer is the last part of a response"
            )

    @property
    def updates_per_rollout(self) -> int:
        """Optimizer steps after each rollout."""
        return self.prompts_per_rollout // self.minibatch_prompts
