"""What is logged of a rollout."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from megatron_redone.rl.dynamic_sampling import Sampled


def mean_of(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of the updates of a rollout; nothing where there was none."""
    return {name: statistics.fmean(m[name] for m in metrics) for name in metrics[0]} if metrics else {}


def rollout_metrics(sampled: Sampled) -> dict[str, float]:
    """Rewards and lengths over all groups that were sampled, the thrown-away ones included.

    Answers without a score of their own: `rewards_late`, `rewards_died`, `rewards_failed` (`rl/reward.py`).
    By task: `reward/TASK` (mean score), `thrown_away/TASK` (groups), `trained/TASK` (groups).
    """
    by_task: dict[str, list[float]] = {}
    trained: dict[str, int] = {}
    for group in sampled.all_groups:
        by_task.setdefault(group.row.task, []).extend(response.score for response in group.responses)
    for group in sampled.groups:
        trained[group.row.task] = trained.get(group.row.task, 0) + 1
    responses = [response for group in sampled.all_groups for response in group.responses]
    metrics = {
        "reward": statistics.fmean(response.reward for response in responses),
        "score": statistics.fmean(response.score for response in responses),
        "parse_rate": statistics.fmean(float(response.parsed) for response in responses),
        "response_length": statistics.fmean(len(response.completion.token_ids) for response in responses),
        "truncated_share": statistics.fmean(response.truncated for response in responses),
        "groups_thrown_away": float(sampled.thrown_away.total()),
        "groups_trained": float(len(sampled.groups)),
        "groups_left_over": float(sampled.left_over),
        "generation_batches": float(sampled.batches),
        **{f"rewards_{kind}": float(count) for kind, count in sorted(sampled.not_scored.items())},
    }
    for task, scores in sorted(by_task.items()):
        metrics[f"reward/{task}"] = statistics.fmean(scores)
        metrics[f"thrown_away/{task}"] = float(sampled.thrown_away[task])
        metrics[f"trained/{task}"] = float(trained.get(task, 0))
    return metrics
