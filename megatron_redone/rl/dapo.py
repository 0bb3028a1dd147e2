"""The DAPO loop of RedOne 2.0's Exploratory and Refinement Learning.

Departures from the papers, all from the published DAPO code, which they build on: unbiased standard deviation with
1e-6 in the advantage; dual clip; log-ratio clamp; the filter looks at the task score, not at the overlong penalty.
Ours: a rollout that finds too few informative groups within the bound trains on those it found, and says so; a run
whose generator does not sample from the policy stops (`agreement.py`). Options that the papers do not have are off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.document import Document
from megatron_redone.generation.base import GenerationEngine
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.rl.advantage import assign_advantages
from megatron_redone.rl.agreement import check_agreement
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.dynamic_sampling import GroupSampler
from megatron_redone.rl.guards import guard_metrics
from megatron_redone.rl.layer_comparison import explain_gap
from megatron_redone.rl.metrics import mean_of, rollout_metrics
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.rl.recorded_generator import RecordedGenerator
from megatron_redone.rl.reward import REASONS, Rewards
from megatron_redone.rl.rollout import Group
from megatron_redone.rl.rollout_schedule import RolloutSchedule
from megatron_redone.rl.router_replay import all_signals, check_replayable
from megatron_redone.rl.training_documents import training_documents
from megatron_redone.tasks.base import Row
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun
from megatron_redone.training.schedule import learning_rate

ROLLOUTS = "rollouts"
"""Folder of completions that an interrupted run finds again."""


def objective_of(config: DAPOConfig) -> DAPO:
    """The objective of the settings."""
    return DAPO(
        clip_ratio_low=config.clip_ratio_low,
        clip_ratio_high=config.clip_ratio_high,
        dual_clip=config.dual_clip,
        temperature=config.generation.temperature or 1.0,
        normalisation=config.normalisation,
        entropy_coefficient=config.entropy_coefficient,
        kl_coefficient=config.kl.coefficient,
        kl_estimator=config.kl.estimator,
        importance_cap=config.importance_cap,
    )


def dapo(
    config: DAPOConfig,
    rows: Sequence[Row],
    template: ChatTemplate,
    engine: MegatronEngine,
    generator: GenerationEngine,
    run: TrainingRun,
    reference: MegatronEngine | None = None,
    ranks: Mapping[str, int] | None = None,
    update: Update | None = None,
) -> dict[str, int]:
    """Trains the engine by reinforcement on the rows; returns counts for the manifest.

    Args:
        reference: the frozen model that `kl` is measured to.
        ranks: id of a row -> place in the curriculum.
        update: what is done with the documents of a rollout; by default the updates of this module.
    """
    assert (reference is not None) == config.kl.needed
    if config.router_replay:
        check_replayable(engine)
    signals = all_signals(config.signals, engine, config.router_replay)
    queue = PromptQueue(rows, config.task_balance, run.seed, ranks)
    rewards = Rewards(config.rewards, engine.context)
    sampler = GroupSampler(config, queue, template, run.seed, rewards)
    updates_of = update or NativeUpdate(config, engine, signals)
    # A rollout that is made ahead is part of the checkpoint itself.
    recorded = config.record_rollouts and not config.rollout.staleness
    policy = RecordedGenerator(generator, run.folder / ROLLOUTS, run.context) if recorded else generator
    rollouts = RolloutSchedule(config, sampler, engine, policy)

    def step(rollout: int) -> dict[str, float]:
        sampled = rollouts.next(rollout)
        run.note_samples(
            [group.row.id for group in sampled.all_groups], learnt=[group.row.id for group in sampled.groups]
        )
        assign_advantages(sampled.groups, config.reward_weights)
        documents, gap = training_documents(sampled.groups, engine, config, run, reference)
        if gap:
            check_agreement(gap, config.agreement, rollout, lambda: explain_gap(sampled.groups, engine, config, run))
        updates = updates_of(rollout, sampled.groups, documents)
        run.trained_tokens += sum(len(document) for group in documents for document in group)
        rollouts.update(version=rollout + 1)
        if isinstance(policy, RecordedGenerator):
            policy.forget_before(rollouts.version - 2 * run.checkpoint.every)  # the newest checkpoint may be unfinished
        run.forward_tokens += sampled.generated_tokens
        first = {"clip_share_first_update": updates[0]["clip_share"]} if updates else {}
        guards = guard_metrics(sampled.all_groups, template) if config.guards else {}
        return {
            "learning_rate": rate_of(config, rollout),
            **mean_of(updates),
            **first,
            **rollout_metrics(sampled),
            **guards,
            **rollouts.metrics(sampled, rollout),
            **gap,
            "updates": float(len(updates)),
        }

    with rewards, rollouts:
        run.steps(
            engine,
            config.num_rollouts,
            step,
            state=rollouts.state,
            restore=rollouts.restore,
            unit="rollouts",
        )
    if isinstance(policy, RecordedGenerator):
        policy.forget()
    return {
        "rows": len(rows),
        "prompts_drawn": queue.drawn,
        "over_long_prompts": sampler.over_long,
        "answers_scored": rewards.counts["scored"],
        **{f"answers_{kind}": rewards.counts[kind] for kind in REASONS},
    }


class Update(Protocol):
    """The optimizer steps of a rollout. All ranks call it alike."""

    def __call__(
        self, rollout: int, groups: Sequence[Group], documents: Sequence[Sequence[Document]], /
    ) -> list[dict[str, float]]:
        """Metrics of each step.

        Args:
            groups: with rewards and advantages.
            documents: of each group those that are learnt, with `config.signals`.
        """
        ...


class NativeUpdate:
    """An optimizer step for each mini-batch. `signals` are those that its documents bring along."""

    def __init__(self, config: DAPOConfig, engine: MegatronEngine, signals: Sequence[str]) -> None:
        self.config, self.engine, self.signals, self.objective = config, engine, signals, objective_of(config)

    def __call__(
        self, rollout: int, groups: Sequence[Group], documents: Sequence[Sequence[Document]]
    ) -> list[dict[str, float]]:
        """See `Update`."""
        return [self.step(minibatch, rollout) for minibatch in minibatches(documents, self.config)]

    def step(self, minibatch: Sequence[Document], rollout: int) -> dict[str, float]:
        """One of them."""
        limit, shared = self.config.max_tokens_per_microbatch, self.config.share_prompts
        batches, _ = balanced_microbatches(minibatch, limit, self.engine, self.signals, shared)
        return self.engine.train_step(batches, self.objective, rate_of(self.config, rollout))


def minibatches(documents: Sequence[Sequence[Document]], config: DAPOConfig) -> Iterator[list[Document]]:
    """The groups in order, `minibatch_prompts` at a time (the last one smaller if groups are missing).

    A mini-batch all of whose answers were filtered out is left out: there is nothing to learn from it.
    """
    for start in range(0, len(documents), config.minibatch_prompts):
        found = [document for group in documents[start : start + config.minibatch_prompts] for document in group]
        if found:
            yield found


def rate_of(config: DAPOConfig, rollout: int) -> float:
    """The learning rate of a rollout's updates: warm-up and schedule are counted in rollout steps."""
    optimizer = config.optimizer.model_copy(update={"warmup_steps": config.warmup_rollouts})
    return learning_rate(optimizer, rollout, config.num_rollouts)
