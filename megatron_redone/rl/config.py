"""Settings of the DAPO loop. Defaults are RedOne 2.0's; where it is silent, those of the published DAPO code.
Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.scoring.config import ScoringConfig
from megatron_redone.training.config import OptimizerConfig


class OverlongConfig(StrictModel):
    """Soft penalty on long responses (DAPO, equation 13)."""

    buffer_tokens: int = Field(4096, ge=0)
    """The penalty grows linearly over the last so many tokens before the limit; 0 switches it off."""
    factor: float = Field(1.0, ge=0)
    """Penalty at the limit."""
    filter: bool = False
    """Responses that were cut off at the limit leave the loss; their scores stay in the statistics of their group."""


class KLConfig(StrictModel):
    """Distance to a frozen reference model; the papers have none. Costs a second model and a forward pass."""

    coefficient: float = Field(0.0, ge=0)
    """What the mean over tokens counts in the loss."""
    measure: bool = False
    """Log it as `kl_to_reference` without a coefficient."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """With d = log pi - log ref: d, d^2 / 2, or exp(-d) - 1 + d."""

    @property
    def needed(self) -> bool:
        """Whether there is a reference model."""
        return self.measure or self.coefficient > 0

    def rule_violations(self) -> Iterator[str]:
        """A term that has a gradient."""
        if self.coefficient and self.estimator == "k1":
            yield (
                f"coefficient={self.coefficient} with estimator='k1', whose gradient is 0 in expectation; "
                "take k2 or k3, or only measure it"
            )


class AgreementConfig(StrictModel):
    """How far the generator's log-probabilities may be from the trainer's, in nats a token."""

    measure: bool = True
    """Compare them in every rollout; with one update a rollout this costs a forward pass."""
    max_mean: float | None = Field(0.1, gt=0)
    """The run stops when the mean absolute difference is larger; null sets no bound."""
    max_p99: float | None = Field(1.0, gt=0)
    """The same for the 99th percentile."""
    without_replay: bool = False
    """With `router_replay`: also measure the gap that there would be without it, by one more forward pass."""


class RewardConfig(ScoringConfig):
    """How answers are scored in the loop. Most scorers take microseconds, so that no processes are the default."""

    default_score: float = Field(0.0, ge=0, le=1)
    """What an answer scores whose scoring was late, died or failed."""
    bad_scores: Literal["stop", "count"] = "stop"
    """A scorer that raises an error or gives no number in 0..1 (NaN, a text): the run ends with task and row, or the
    answer gets `default_score` and is counted."""
    max_unscored_share: float = Field(0.5, ge=0, le=1)
    """The run ends where more of the answers of a batch could not be scored: nothing is learnt from defaults."""


RewardKind = Literal["exact_match", "metric", "pattern", "sandbox"]


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
    share_prompts: bool = True
    """Answers to one prompt are packed behind it, and it is computed once instead of once an answer; it does not change
    the result. Without effect under context parallelism, with router_replay and where a loss balances experts."""
    clip_ratio_low: float = Field(0.2, gt=0, lt=1)
    clip_ratio_high: float = Field(0.28, gt=0)
    dual_clip: float | None = Field(10.0, gt=1)
    """Bound on the loss of a negative advantage, in units of the advantage; null sets none."""
    normalisation: Literal["token_mean", "sequence_mean", "group_mean"] = "token_mean"
    """The loss is a mean over all response tokens of a mini-batch (DAPO), over responses of their token means, or over
    groups of their token means."""
    importance_cap: float | None = Field(None, ge=1)
    """Truncated importance sampling: a token counts min(trainer's / generator's probability, cap); null: 1."""
    entropy_coefficient: float = Field(0.0, ge=0)
    """Bonus on the mean entropy of predictions; costs a copy of the logits."""
    kl: KLConfig = KLConfig()
    agreement: AgreementConfig = AgreementConfig()
    router_replay: bool = False
    """Of a mixture of experts: the trainer sends each token to the experts that it had in the rollout."""
    rewards: RewardConfig = RewardConfig()
    reward_weights: dict[RewardKind, float] = Field(default_factory=dict)
    """Kind of reward -> what the advantages of its tasks count, by default 1 (after the division by the group's
    deviation, which would cancel a weight on the reward itself)."""
    dynamic_sampling: bool = True
    """Throw away groups whose scores are all equal, and sample other prompts in their place."""
    max_generation_batches: int = Field(10, ge=1)
    """Batches of prompts tried for one rollout before it goes on with what it has."""
    over_sampling: float = Field(1.0, ge=1)
    """Prompts drawn for each one that is expected to be needed: fewer batches, more groups left over."""
    shares: Literal["drawn", "trained"] = "drawn"
    """What `task_balance` rules: the prompts that are drawn, or the groups that are trained on: then a group that is
    thrown away is replaced from its own task, as long as the bound on batches allows."""
    curriculum: Literal["none", "hard_first", "easy_first"] = "none"
    """Order of rows within a task by measured difficulty (`difficulty.jsonl` beside the rows), anew in each epoch."""
    record_rollouts: bool = True
    """Keep completions on disk until a later checkpoint stands, so that an interrupted rollout is not sampled again."""
    guards: bool = True
    """Log detectors of rewards won by length, repetition, a wrong language or a copied prompt."""
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
        for kind, weight in self.reward_weights.items():
            if not 0 <= weight < float("inf"):
                yield f"reward_weights.{kind}={weight} must be a finite number >= 0"
        if (self.over_sampling > 1 or self.shares == "trained") and not self.dynamic_sampling:
            yield (
                f"over_sampling={self.over_sampling:g}, shares={self.shares!r} without dynamic_sampling: nothing is "
                "thrown away then; leave them out"
            )
        if self.rollout.staleness and self.generation.engine == "megatron":
            yield (
                f"rollout.staleness={self.rollout.staleness} with generation.engine=megatron, which generates with the "
                "trainer's own weights and cannot do so while they change; set engine to vllm or servers"
            )
        if self.router_replay and self.generation.engine != "megatron":
            yield (
                f"router_replay=true with generation.engine={self.generation.engine}, which does not say what its "
                "routers chose; set engine to megatron, or leave it out"
            )
        if self.agreement.without_replay and not (self.router_replay and self.agreement.measure):
            yield (
                "agreement.without_replay=true compares with router_replay, which is off (or agreement.measure is); "
                "leave it out"
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
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that the loss reads."""
        return (
            "advantages",
            *(["old_logprobs"] if self.updates_per_rollout > 1 or self.rollout.staleness else []),
            *(["rollout_logprobs"] if self.importance_cap is not None else []),
            *(["reference_logprobs"] if self.kl.needed else []),
            *(["group_shares"] if self.normalisation == "group_mean" else []),
        )

    @property
    def updates_per_rollout(self) -> int:
        """Optimizer steps after each rollout."""
        return self.prompts_per_rollout // self.minibatch_prompts
