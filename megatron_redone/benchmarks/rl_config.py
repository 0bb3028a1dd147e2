"""Settings of the benchmark of alignment. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.rl.config import DAPOConfig, OverlongConfig
from megatron_redone.training.config import ChosenSFTConfig, DPOConfig, OptimizerConfig

Part = Literal["dapo", "dpo", "rollout"]
PARTS: tuple[Part, ...] = ("dapo", "dpo", "rollout")


class DAPOBenchmarkConfig(StrictModel):
    """A DAPO step: a rollout and its updates. No group is thrown away, since the peer keeps all."""

    prompts_per_rollout: int = Field(8, ge=1)
    responses_per_prompt: int = Field(8, ge=2)
    minibatch_prompts: int = Field(4, ge=1)
    max_prompt_tokens: int = Field(512, ge=1)
    """Rows with longer prompts are left out."""
    max_new_tokens: int = Field(64, ge=1)
    max_tokens_per_microbatch: int = Field(4096, ge=16)
    """Of ours."""
    peer_batches: tuple[int, ...] = (8, 32)
    """Sequences of a micro-batch of the peer; each is a side, and ratios are to the fastest."""
    steps: int = Field(3, ge=1)
    """Rollouts that are measured in one run."""
    warmup: int = Field(1, ge=1)
    """Rollouts before them."""

    def rule_violations(self) -> Iterator[str]:
        """Several updates a rollout, so that both sides need old log-probabilities; sizes that divide."""
        if self.prompts_per_rollout % self.minibatch_prompts or self.prompts_per_rollout == self.minibatch_prompts:
            yield (
                f"prompts_per_rollout={self.prompts_per_rollout} must be a multiple of "
                f"minibatch_prompts={self.minibatch_prompts}, and more: with one update a rollout the peer computes no "
                "old log-probabilities and the work differs"
            )
        sequences = self.minibatch_prompts * self.responses_per_prompt
        wrong = [size for size in self.peer_batches if size < 1 or sequences % size]
        if wrong:
            yield f"peer_batches={wrong[0]} does not divide the {sequences} sequences of an update"

    def stage(self) -> DAPOConfig:
        """The settings of our loop."""
        return DAPOConfig(
            num_rollouts=self.warmup + self.steps,
            prompts_per_rollout=self.prompts_per_rollout,
            responses_per_prompt=self.responses_per_prompt,
            minibatch_prompts=self.minibatch_prompts,
            max_tokens_per_microbatch=self.max_tokens_per_microbatch,
            dynamic_sampling=False,
            overlong=OverlongConfig(buffer_tokens=0),
            warmup_rollouts=0,
            generation=GenerationConfig(
                max_prompt_tokens=self.max_prompt_tokens,
                max_new_tokens=self.max_new_tokens,
                max_sequences=self.prompts_per_rollout * self.responses_per_prompt,
            ),
            optimizer=OptimizerConfig(lr=1e-6, schedule="constant"),
        )


class DPOBenchmarkConfig(StrictModel):
    """A DPO step; the reference's log-probabilities are computed before, on both sides."""

    pairs_per_step: int = Field(8, ge=1)
    max_length: int = Field(1024, ge=8)
    """Longer pairs are left out."""
    max_tokens_per_microbatch: int = Field(4096, ge=16)
    """Of ours."""
    peer_batches: tuple[int, ...] = (1, 4)
    """Pairs of a micro-batch of the peer; each is a side, and ratios are to the fastest."""
    steps: int = Field(8, ge=1)
    warmup: int = Field(2, ge=1)

    def rule_violations(self) -> Iterator[str]:
        """Sizes that divide."""
        wrong = [size for size in self.peer_batches if size < 1 or self.pairs_per_step % size]
        if wrong:
            yield f"peer_batches={wrong[0]} does not divide pairs_per_step={self.pairs_per_step}"

    def stage(self) -> DPOConfig:
        """The settings of our stage: the plain sigmoid loss, as the peer's default."""
        return DPOConfig(
            steps=self.warmup + self.steps,
            global_batch_size=self.pairs_per_step,
            max_length=self.max_length,
            max_tokens_per_microbatch=self.max_tokens_per_microbatch,
            sft=ChosenSFTConfig(coefficient=0.0),
            optimizer=OptimizerConfig(lr=1e-6, schedule="constant", warmup_ratio=0.0),
        )


class RolloutSettings(StrictModel):
    """What `redone benchmark rollout` is told."""

    prompts: int = Field(32, ge=1)
    samples: int = Field(4, ge=1)
    prompt_tokens: int = Field(128, ge=2)
    new_tokens: int = Field(64, ge=1)
    rounds: int = Field(3, ge=1)


class RLBenchmarkConfig(StrictModel):
    """What is measured, on what, beside whom."""

    parts: tuple[Part, ...] = PARTS
    model: Path | None = None
    """Hugging Face model folder with a tokenizer.json and a pad token; by default a random one of Qwen2.5's shape."""
    rows: Path | None = None
    """`rows.jsonl` whose prompts are answered; by default invented ones."""
    pairs: Path | None = None
    """Preference pairs in any form of docs/pairs.md; by default invented ones with the lengths of real ones."""
    peer: str = ""
    """Command of the peer: `.venv-trl/bin/python tools/trl_rl.py`; without it our side alone is measured."""
    compile_peer: bool = False
    """The peer's sides once more with torch.compile."""
    vllm_python: Path | None = None
    """Python of the environment that has vLLM; the part `rollout` then runs in it, with vLLM beside the others."""
    rounds: int = Field(3, ge=1)
    """Every side runs once a round, in a process of its own."""
    threads: int = Field(2, ge=1)
    """Of every side."""
    precision: Literal["fp32", "bf16"] = "fp32"
    max_other_cores: float = Field(0.1, gt=0)
    """A run during which others took more is repeated."""
    max_repeats: int = Field(3, ge=0)
    """So many times at most; then the quietest counts and is marked."""
    seed: int = 0
    dapo: DAPOBenchmarkConfig = DAPOBenchmarkConfig()
    dpo: DPOBenchmarkConfig = DPOBenchmarkConfig()
    rollout: RolloutSettings = RolloutSettings()

    def rule_violations(self) -> Iterator[str]:
        """Parts, each once."""
        if not self.parts or len(set(self.parts)) < len(self.parts):
            yield f"parts={','.join(self.parts)}: give some of {', '.join(PARTS)}, each once"
