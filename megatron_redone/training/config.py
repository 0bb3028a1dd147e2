"""Settings of the optimizer, of batches and of the training stages. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel


class StepGuardConfig(StrictModel):
    """What becomes of a step whose loss or gradient is not finite, or jumps."""

    on_bad_step: Literal["skip", "stop"] = "skip"
    """Leave the step out and go on, or end the run; both name the samples of the step."""
    max_in_a_row: int = Field(5, ge=0)
    """When more steps than this in a row are bad, the run ends."""
    spike_factor: float | None = Field(None, gt=1)
    """A gradient whose norm is more than so many times the median of the last good ones is bad, too."""
    spike_window: int = Field(50, ge=2)
    """So many good steps make the median."""


class OptimizerConfig(StrictModel):
    """AdamW with a warm-up and a schedule. The betas are those of RedOne's SFT."""

    lr: float = Field(1e-5, gt=0)
    """Peak learning rate."""
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    """Learning rate at the end of a cosine or linear schedule, as a share of the peak."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, le=1)
    """Share of all optimizer steps over which the rate rises linearly (unless `warmup_steps` is given)."""
    warmup_steps: int | None = Field(None, ge=0)
    """Optimizer steps of warm-up."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    """Not applied to norms and biases."""
    clip_grad: float = Field(1.0, ge=0)
    """Largest norm of the gradient of all parameters; 0: gradients are not clipped, and their norm is not computed."""
    router_aux_loss: float | None = Field(None, ge=0)
    """Coefficient of the load-balancing loss of experts (Switch Transformer, equation 4), over the tokens of one
    micro-batch; by default that of the model's config.json."""
    router_z_loss: float = Field(0.0, ge=0)
    """Coefficient of the routers' z-loss (ST-MoE, equation 5), a mean over tokens."""
    guard: StepGuardConfig = StepGuardConfig()


class TokenStageConfig(StrictModel):
    """What pretraining and SFT share: rows of packed tokens and how many of them."""

    sequence_length: int = Field(1024, ge=8)
    """Tokens of a packed row, which is one micro-batch."""
    global_batch_size: int = Field(8, ge=1)
    """Packed rows of an optimizer step, over all replicas."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the data; give this or `steps`."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps; give this or `epochs`."""

    def rule_violations(self) -> Iterator[str]:
        """One measure of length."""
        if (self.epochs is None) == (self.steps is None):
            yield f"epochs={self.epochs} and steps={self.steps}: give exactly one of them"

    def num_steps(self, rows_per_epoch: int) -> int:
        """Optimizer steps of the stage."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * rows_per_epoch / self.global_batch_size))


class ValidationConfig(StrictModel):
    """Loss on the validation splits of the tokens, beside training."""

    every: int = Field(500, ge=1)
    """So many steps lie between two measurements; the last step is measured in any case."""
    samples: int = Field(64, ge=1)
    """Rows of `sequence_length` tokens of each corpus, the same ones every time."""


class PretrainConfig(TokenStageConfig):
    """Continued pretraining. The papers publish no figures for it: all defaults are ours."""

    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4)
    validation: ValidationConfig | None = None


class SFTConfig(TokenStageConfig):
    """Supervised fine-tuning on answers. Defaults are RedOne 2.0's: length 16,384 packed, batch 64, 2 epochs."""

    sequence_length: int = Field(16_384, ge=8)
    global_batch_size: int = Field(64, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-6)
    too_long: Literal["drop", "truncate"] = "drop"
    """A longer conversation is left out and counted, or loses its end."""


class ChosenSFTConfig(StrictModel):
    """The SFT term on chosen answers."""

    coefficient: float = Field(0.3, ge=0)
    """What the term counts beside the preference loss (RedOne: 0.3); 0 leaves it out."""
    normalisation: Literal["token_mean", "pair_token_mean", "pair_sum", "group_token_mean"] = "token_mean"
    """A mean over the chosen tokens of the global batch; over pairs, of their token means or of their sums
    (NeMo-Aligner with and without sft_average_log_probs); or over groups of `group_pairs` pairs, of the token means of
    the groups (TRL, with its per-device batch as the group)."""
    group_pairs: int | None = Field(None, ge=1)
    """Pairs of a group, consecutive ones of the global batch; for `group_token_mean` only."""

    def rule_violations(self) -> Iterator[str]:
        """A group where there are groups."""
        if (self.group_pairs is None) == (self.normalisation == "group_token_mean"):
            yield (
                f"normalisation={self.normalisation!r} with group_pairs={self.group_pairs}: group_token_mean needs "
                "group_pairs, and nothing else reads it"
            )


class PairValidationConfig(StrictModel):
    """Loss and accuracy on held-out pairs, beside training."""

    every: int = Field(50, ge=1)
    """So many steps lie between two measurements; the last step is measured in any case."""
    pairs: int = Field(512, ge=1)
    """The first so many pairs of validation.jsonl, the same ones every time."""


class DPOConfig(StrictModel):
    """Preference optimisation. Batch, length, learning rate and SFT coefficient are RedOne's; it publishes no beta."""

    loss: Literal["sigmoid", "ipo", "hinge", "rpo_sq", "rpo_bwd_kl", "rpo_fwd_kl"] = "sigmoid"
    """The preference loss (docs/dpo.md); the rpo losses need rewards in the pairs."""
    beta: float = Field(0.1, gt=0)
    """Scale of the implicit rewards; the larger, the nearer to the reference."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose label is wrong; for `sigmoid` only."""
    gt_reward_scale: float | None = Field(None, gt=0)
    """What a difference of given rewards counts, by default 1; for the rpo losses only."""
    preference_coefficient: float = Field(1.0, gt=0)
    preference_logprobs: Literal["sum", "mean"] = "sum"
    """The log-probability of an answer: the sum over its tokens, or their mean."""
    sft: ChosenSFTConfig = ChosenSFTConfig()
    global_batch_size: int = Field(64, ge=1)
    """Pairs of an optimizer step, over all replicas."""
    max_length: int = Field(4096, ge=8)
    """Tokens of prompt and answer together; see `too_long`."""
    too_long: Literal["drop", "truncate_prompt"] = "drop"
    """A longer pair is left out and counted, or both its prompts lose the same first tokens."""
    prompt_texts: Literal["user", "templated"] = "user"
    """A prompt given as text is the user's turn, or stands in the chat template already."""
    max_tokens_per_microbatch: int = Field(8192, ge=16)
    """Tokens of a packed micro-batch of whole pairs; it does not change the result."""
    share_prompts: bool = True
    """The prompt of a pair is computed once for both answers; it does not change the result. Without effect under
    context parallelism and where a loss balances experts."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the pairs; give this or `steps`."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps; give this or `epochs`."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-7)
    validation: PairValidationConfig | None = None

    def rule_violations(self) -> Iterator[str]:
        """One measure of length; options of the loss that reads them; sizes that fit."""
        if (self.epochs is None) == (self.steps is None):
            yield f"epochs={self.epochs} and steps={self.steps}: give exactly one of them"
        if self.label_smoothing and self.loss != "sigmoid":
            yield f"label_smoothing={self.label_smoothing} with loss={self.loss!r}: only sigmoid reads it; leave it out"
        if self.gt_reward_scale is not None and not self.loss.startswith("rpo"):
            yield (
                f"gt_reward_scale={self.gt_reward_scale} with loss={self.loss!r}: only the rpo losses read it; "
                "leave it out"
            )
        if 2 * self.max_length > self.max_tokens_per_microbatch:
            yield (
                f"max_tokens_per_microbatch={self.max_tokens_per_microbatch} is less than twice max_length="
                f"{self.max_length}; a pair of two answers must fit a micro-batch"
            )

    @property
    def validation_every(self) -> int:
        """Steps between two measurements on held-out pairs."""
        return (self.validation or PairValidationConfig()).every

    def num_steps(self, num_pairs: int) -> int:
        """Optimizer steps of the stage."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * num_pairs / self.global_batch_size))
