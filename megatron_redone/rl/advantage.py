"""Group-relative advantages (GRPO; RedOne 2.0, equation 6)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from megatron_redone.rl.rollout import Group

STD_EPSILON = 1e-6


def assign_advantages(groups: Sequence[Group]) -> None:
    """A = (reward - mean of the group) / (unbiased standard deviation of the group + 1e-6), for every response."""
    for group in groups:
        rewards = [response.reward for response in group.responses]
        mean, deviation = statistics.fmean(rewards), statistics.stdev(rewards)
        for response in group.responses:
            response.advantage = (response.reward - mean) / (deviation + STD_EPSILON)
