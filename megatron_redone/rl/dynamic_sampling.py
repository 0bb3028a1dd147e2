"""Dynamic sampling: keep drawing prompts until a rollout has enough groups with something to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from megatron_redone.common.errors import DataError, RedoneError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import GenerationEngine, SamplingParams
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.rl.reward import REASONS, Rewards
from megatron_redone.rl.rollout import Group, roll_out
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task

LEAST_KEPT = 0.25
"""A smaller share of kept groups is not believed when the next batch is planned."""
MAX_TRIES = 100
"""Prompts drawn for each one that is needed, before over-long ones end the run."""


@dataclass
class Sampled:
    """The groups of one rollout and what it took to get them."""

    groups: list[Group] = field(default_factory=list)
    all_groups: list[Group] = field(default_factory=list)
    """Thrown-away ones included: rewards are reported over these."""
    thrown_away: Counter[str] = field(default_factory=Counter)
    """Groups without differing scores, by task."""
    left_over: int = 0
    """Informative groups beyond those that were wanted."""
    not_scored: Counter[str] = field(default_factory=Counter)
    """Answers that got the default score, by reason (`rl/reward.py`)."""
    batches: int = 0
    generated_tokens: int = 0

    def kept_share(self, task: str | None = None) -> float:
        """Share of informative groups so far (of a task), at least `LEAST_KEPT`; 1 before there is any."""
        sampled = sum(task in (None, group.row.task) for group in self.all_groups)
        thrown = self.thrown_away.total() if task is None else self.thrown_away[task]
        return max((sampled - thrown) / sampled, LEAST_KEPT) if sampled else 1.0


class GroupSampler:
    """Draws prompts, samples responses, and keeps the informative groups.

    Prompts longer than the limit follow the stage's policy and are counted in `over_long`.
    """

    def __init__(
        self,
        config: DAPOConfig,
        queue: PromptQueue,
        template: ChatTemplate,
        seed: int,
        rewards: Rewards | None = None,
    ) -> None:
        self.config, self.queue, self.template, self.seed = config, queue, template, seed
        self.rewards = rewards or Rewards(config.rewards)
        self.over_long = 0

    def next_informative_groups(self, generator: GenerationEngine, *, alone: bool = False) -> Sampled:
        """`prompts_per_rollout` groups whose scores differ (fewer when the bound on batches is reached).

        Without dynamic sampling: one batch of groups, all of them. Every rank calls it, unless one does so `alone`.

        Raises:
            RedoneError: not one informative group within the bound.
        """
        sampled, quotas = Sampled(), Counter[str]()
        kept: list[Group] = []
        before = self.rewards.counts.copy()
        while sampled.batches < self.config.max_generation_batches:
            rows, prompts = self._batch(sampled, kept, quotas)
            if not rows:
                break
            kept += self._keep(self._roll_out(generator, rows, prompts, alone), sampled)
        sampled.not_scored = Counter({kind: self.rewards.counts[kind] - before[kind] for kind in REASONS})
        sampled.groups = self._chosen(kept, quotas)
        sampled.left_over = len(kept) - len(sampled.groups)
        if not sampled.groups:
            raise RedoneError(
                f"no group with differing scores in {sampled.batches} batches of prompts "
                f"(thrown away by task: {dict(sampled.thrown_away)}); the tasks are all solved or all out of reach: "
                "change the rows, raise the temperature or responses_per_prompt, or warm the model up first"
            )
        return sampled

    def _batch(
        self, sampled: Sampled, kept: Sequence[Group], quotas: Counter[str]
    ) -> tuple[list[Row], list[Sequence[int]]]:
        """The prompts that are likely to give the missing groups; none when no group is missing.

        With shares of the groups trained on, the first batch sets the quota of each task (`quotas` is filled in).
        """
        wanted = self.config.prompts_per_rollout
        if self.config.shares == "drawn" or not sampled.batches:
            missing = wanted - len(kept)
            if missing <= 0:
                return [], []
            drawn = self._prompts(self._planned(missing, sampled.kept_share()), lambda: self.queue.take(1)[0])
            quotas.update(row.task for row in drawn[0][:wanted])
            return drawn
        rows: list[Row] = []
        prompts: list[Sequence[int]] = []
        for task, missing in (quotas - Counter(group.row.task for group in kept)).items():
            count = self._planned(missing, sampled.kept_share(task))
            of_task = self._prompts(count, lambda task=task: self.queue.take_of(task))  # type: ignore[misc]
            rows, prompts = rows + of_task[0], prompts + of_task[1]
        return rows, prompts

    def _planned(self, missing: int, kept_share: float) -> int:
        """Prompts for so many missing groups."""
        return max(1, round(missing / kept_share * self.config.over_sampling))

    def _keep(self, groups: Sequence[Group], sampled: Sampled) -> list[Group]:
        sampled.batches += 1
        sampled.all_groups += groups
        sampled.generated_tokens += sum(
            len(group.prompt_ids) + sum(len(r.completion.token_ids) for r in group.responses) for group in groups
        )
        if not self.config.dynamic_sampling:
            return list(groups)
        sampled.thrown_away.update(group.row.task for group in groups if not group.informative)
        return [group for group in groups if group.informative]

    def _chosen(self, kept: Sequence[Group], quotas: Counter[str]) -> list[Group]:
        """The first groups of each task up to its quota, then others in their place; or simply the first ones."""
        wanted = self.config.prompts_per_rollout
        if self.config.shares == "drawn":
            return list(kept[:wanted])
        left = Counter(quotas)
        within, beyond = list[Group](), list[Group]()
        for group in kept:
            (within if left[group.row.task] > 0 else beyond).append(group)
            left[group.row.task] -= 1
        return (within + beyond)[:wanted]

    def _roll_out(
        self, generator: GenerationEngine, rows: Sequence[Row], prompts: Sequence[Sequence[int]], alone: bool
    ) -> list[Group]:
        params = SamplingParams.of(
            self.config.generation,
            self.template.stop_ids,
            num_samples=self.config.responses_per_prompt,
            seed=self.seed,
            record_experts=self.config.router_replay,
        )
        first = self.queue.drawn
        keys = [f"{row.id}/{first}/{place}" for place, row in enumerate(rows)]
        return roll_out(
            rows, prompts, generator, self.template, params, self.config.overlong, keys, self.rewards, alone=alone
        )

    def _prompts(self, count: int, draw: Callable[[], Row]) -> tuple[list[Row], list[Sequence[int]]]:
        limit = self.config.generation.max_prompt_tokens
        rows: list[Row] = []
        prompts: list[Sequence[int]] = []
        tries = 0
        while len(rows) < count:
            row = draw()
            whole = self.template.prompt_ids(get_task(row.task).render(row))
            tries += 1
            self.over_long += len(whole) > limit
            prompt = fit_prompt(whole, self.config.generation)
            if prompt is not None:
                rows.append(row)
                prompts.append(prompt)
            elif tries > MAX_TRIES * count:
                raise DataError(
                    f"{self.over_long} prompts are longer than max_prompt_tokens={limit}, hardly any is not; "
                    "raise the limit or set over_long: truncate"
                )
        return rows, prompts

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"queue": self.queue.state(), "over_long": self.over_long, "rewards": self.rewards.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.queue.restore(state["queue"])
        self.over_long = int(state["over_long"])
        self.rewards.restore(state.get("rewards", {}))  # checkpoints from before they were counted
