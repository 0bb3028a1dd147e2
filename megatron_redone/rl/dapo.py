"""The DAPO loop of RedOne 2.0's Exploratory and Refinement Learning.

Departures from the papers, all from the published DAPO code, which they build on: unbiased standard deviation with
1e-6 in the advantage; dual clip; log-ratio clamp; the filter looks at the task score, not at the overlong penalty.
Ours: a rollout that finds too few informative groups within the bound trains on those it found, and says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.document import Document
from megatron_redone.generation.base import GenerationEngine
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.rl.advantage import assign_advantages
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.dynamic_sampling import GroupSampler, Sampled
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.rl.rollout import Group
from megatron_redone.rl.rollout_schedule import RolloutSchedule, behaviour_documents
from megatron_redone.tasks.base import Row
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun
from megatron_redone.training.schedule import learning_rate


def dapo(
    config: DAPOConfig,
    rows: Sequence[Row],
    template: ChatTemplate,
    engine: MegatronEngine,
    generator: GenerationEngine,
    run: TrainingRun,
) -> dict[str, int]:
    """Trains the engine by reinforcement on the rows; returns counts for the manifest."""
    queue = PromptQueue(rows, config.task_balance, run.seed)
    sampler = GroupSampler(config, queue, template, run.seed)
    objective = DAPO(
        config.clip_ratio_low, config.clip_ratio_high, config.dual_clip, config.generation.temperature or 1.0
    )

    rollouts = RolloutSchedule(config, sampler, engine, generator)
    own_logprobs = config.updates_per_rollout == 1 and not rollouts.ahead  # the ratio is 1 without old ones
    signals = ("advantages",) if own_logprobs else ("advantages", "old_logprobs")

    def step(rollout: int) -> dict[str, float]:
        sampled = rollouts.next(rollout)
        run.note_samples(
            [group.row.id for group in sampled.all_groups], learnt=[group.row.id for group in sampled.groups]
        )
        assign_advantages(sampled.groups)
        documents, gap = with_old_logprobs(sampled.groups, engine, config, run)
        metrics: list[dict[str, float]] = []
        for minibatch in minibatches(documents, config):
            batches, _ = balanced_microbatches(minibatch, config.max_tokens_per_microbatch, engine, signals)
            run.trained_tokens += sum(len(document) for document in minibatch)
            metrics.append(engine.train_step(batches, objective, rate_of(config, rollout)))
        rollouts.update(version=rollout + 1)
        run.forward_tokens += sampled.generated_tokens
        return {
            **mean_of(metrics),
            **rollout_metrics(sampled),
            **rollouts.metrics(sampled, rollout),
            **gap,
            "learning_rate": rate_of(config, rollout),
        }

    with rollouts:
        run.steps(
            engine,
            config.num_rollouts,
            step,
            state=rollouts.state,
            restore=rollouts.restore,
            unit="rollouts",
        )
    return {"rows": len(rows), "prompts_drawn": queue.drawn, "over_long_prompts": sampler.over_long}


def with_old_logprobs(
    groups: Sequence[Group], engine: MegatronEngine, config: DAPOConfig, run: TrainingRun
) -> tuple[list[list[Document]], dict[str, float]]:
    """The documents of each group with the log-probabilities of the policy before the update, by the trainer.

    The trainer's own are taken, not the rollout's: the ratio then starts at exactly 1 whatever engine sampled. With
    one update a rollout the ratio never leaves 1, and the extra forward pass is saved. A rollout of older weights keeps
    its own: they are those of the policy that made it.

    Returns:
        The documents, and the largest and mean absolute difference to the rollout's log-probabilities.
    """
    if config.rollout.staleness:
        return behaviour_documents(groups), {}
    if config.updates_per_rollout == 1:
        return [group.documents() for group in groups], {}
    documents = [document for group in groups for document in group.documents()]
    batches, indices = balanced_microbatches(documents, config.max_tokens_per_microbatch, engine, ("advantages",))
    rows = engine.logprobs(batches, config.generation.temperature or 1.0)
    mine: dict[int, list[float]] = {}
    for row, members in zip(rows, indices, strict=True):
        values, start = row.tolist(), 0
        for index in members:
            length = len(documents[index])
            mine[index] = [
                0.0,
                *values[start : start + length - 1],
            ]  # a token's value stands one place before it
            start += length
    for part in engine.context.gather_objects(mine, engine.context.dp):
        mine.update(part)
    run.forward_tokens += sum(len(document) for document in documents)
    filled = iter(
        replace(document, signals={**document.signals, "old_logprobs": mine[index]})
        for index, document in enumerate(documents)
    )
    by_group = [[next(filled) for _ in group.responses] for group in groups]
    return by_group, rollout_gap(groups, by_group)


def rollout_gap(groups: Sequence[Group], documents: Sequence[Sequence[Document]]) -> dict[str, float]:
    """How far the generator's log-probabilities are from the trainer's: mean and maximum of the absolute difference."""
    gaps = [
        abs(trained - sampled)
        for group, group_documents in zip(groups, documents, strict=True)
        for response, document in zip(group.responses, group_documents, strict=True)
        for trained, sampled in zip(
            document.signals["old_logprobs"][len(group.prompt_ids) :],
            response.completion.logprobs,
            strict=True,
        )
    ]
    return {"rollout_logprob_gap_mean": statistics.fmean(gaps), "rollout_logprob_gap_max": max(gaps)}


def minibatches(documents: Sequence[Sequence[Document]], config: DAPOConfig) -> Iterator[list[Document]]:
    """The groups in order, `minibatch_prompts` at a time (the last one smaller if groups are missing)."""
    for start in range(0, len(documents), config.minibatch_prompts):
        yield [document for group in documents[start : start + config.minibatch_prompts] for document in group]


def rate_of(config: DAPOConfig, rollout: int) -> float:
    """The learning rate of a rollout's updates: warm-up and schedule are counted in rollout steps."""
    optimizer = config.optimizer.model_copy(update={"warmup_steps": config.warmup_rollouts})
    return learning_rate(optimizer, rollout, config.num_rollouts)


def mean_of(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of the updates of a rollout."""
    return {name: statistics.fmean(m[name] for m in metrics) for name in metrics[0]}


def rollout_metrics(sampled: Sampled) -> dict[str, float]:
    """Rewards and lengths over all groups that were sampled, the thrown-away ones included."""
    by_task: dict[str, list[float]] = {}
    for group in sampled.all_groups:
        by_task.setdefault(group.row.task, []).extend(response.score for response in group.responses)
    responses = [response for group in sampled.all_groups for response in group.responses]
    metrics: dict[str, Any] = {
        "reward": statistics.fmean(response.reward for response in responses),
        "score": statistics.fmean(response.score for response in responses),
        "parse_rate": statistics.fmean(float(response.parsed) for response in responses),
        "response_length": statistics.fmean(len(response.completion.token_ids) for response in responses),
        "truncated_share": statistics.fmean(response.completion.finish_reason == "length" for response in responses),
        "groups_thrown_away": float(sum(sampled.thrown_away.values())),
        "groups_trained": float(len(sampled.groups)),
        "generation_batches": float(sampled.batches),
    }
    metrics |= {f"reward/{task}": statistics.fmean(scores) for task, scores in sorted(by_task.items())}
    return metrics
