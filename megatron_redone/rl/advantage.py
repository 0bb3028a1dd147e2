"""Group-relative advantages (GRPO; RedOne 2.0, equation 6)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from megatron_redone.rl.rollout import Group
from megatron_redone.tasks.base import RewardKind
from megatron_redone.tasks.catalogue import get_task

STD_EPSILON = 1e-6


def assign_advantages(groups: Sequence[Group], weights: Mapping[RewardKind, float] | None = None) -> None:
    """A = weight * (reward - mean of the group) / (unbiased standard deviation of the group + 1e-6).

    Args:
        weights: kind of reward -> weight; 1 where a kind is not named.
    """
    for group in groups:
        rewards = [response.reward for response in group.responses]
        mean, deviation = statistics.fmean(rewards), statistics.stdev(rewards)
        weight = weights.get(get_task(group.row.task).reward_kind, 1.0) if weights else 1.0
        for response in group.responses:
            response.advantage = weight * (response.reward - mean) / (deviation + STD_EPSILON)
