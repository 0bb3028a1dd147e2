"""Dynamic sampling: keep drawing prompts until a rollout has enough groups with something to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from megatron_redone.common.errors import DataError, RedoneError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import GenerationEngine, SamplingParams
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.rl.rollout import Group, roll_out
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task


@dataclass
class Sampled:
    """The groups of one rollout and what it took to get them."""

    groups: list[Group] = field(default_factory=list)
    all_groups: list[Group] = field(default_factory=list)
    """Thrown-away ones included: rewards are reported over these."""
    thrown_away: Counter[str] = field(default_factory=Counter)
    """Groups without differing scores, by task."""
    batches: int = 0
    generated_tokens: int = 0


class GroupSampler:
    """Draws prompts, samples responses, and keeps the informative groups.

    Prompts longer than the limit follow the stage's policy and are counted in `over_long`.
    """

    def __init__(self, config: DAPOConfig, queue: PromptQueue, template: ChatTemplate, seed: int) -> None:
        self.config, self.queue, self.template, self.seed = config, queue, template, seed
        self.over_long = 0

    def next_informative_groups(self, generator: GenerationEngine) -> Sampled:
        """`prompts_per_rollout` groups whose scores differ (fewer when the bound on batches is reached).

        Without dynamic sampling: one batch of groups, all of them.

        Raises:
            RedoneError: not one informative group within the bound.
        """
        config, sampled = self.config, Sampled()
        wanted = config.prompts_per_rollout
        while len(sampled.groups) < wanted and sampled.batches < config.max_generation_batches:
            groups = self._roll_out(generator, self._batch_size(sampled))
            sampled.batches += 1
            sampled.all_groups += groups
            sampled.generated_tokens += sum(
                len(group.prompt_ids) + sum(len(r.completion.token_ids) for r in group.responses) for group in groups
            )
            for group in groups:
                if group.informative or not config.dynamic_sampling:
                    sampled.groups.append(group)
                else:
                    sampled.thrown_away[group.row.task] += 1
        sampled.groups = sampled.groups[:wanted]
        if not sampled.groups:
            raise RedoneError(
                f"no group with differing scores in {sampled.batches} batches of prompts "
                f"(thrown away by task: {dict(sampled.thrown_away)}); the tasks are all solved or all out of reach: "
                "change the rows, raise the temperature or responses_per_prompt, or warm the model up first"
            )
        return sampled

    def _batch_size(self, sampled: Sampled) -> int:
        """Prompts of the next batch: what is still missing, divided by the share that was kept so far."""
        missing = self.config.prompts_per_rollout - len(sampled.groups)
        if not sampled.all_groups:
            return missing
        kept = max(len(sampled.groups) / len(sampled.all_groups), 0.25)
        return max(1, round(missing / kept))

    def _roll_out(self, generator: GenerationEngine, count: int) -> list[Group]:
        rows, prompts = self._prompts(count)
        params = SamplingParams.of(
            self.config.generation,
            self.template.stop_ids,
            num_samples=self.config.responses_per_prompt,
            seed=self.seed,
        )
        first = self.queue.drawn
        keys = [f"{row.id}/{first}/{place}" for place, row in enumerate(rows)]
        return roll_out(rows, prompts, generator, self.template, params, self.config.overlong, keys)

    def _prompts(self, count: int) -> tuple[list[Row], list[Sequence[int]]]:
        limit = self.config.generation.max_prompt_tokens
        rows: list[Row] = []
        prompts: list[Sequence[int]] = []
        tries = 0
        while len(rows) < count:
            row = self.queue.take(1)[0]
            whole = self.template.prompt_ids(get_task(row.task).render(row))
            tries += 1
            self.over_long += len(whole) > limit
            prompt = fit_prompt(whole, self.config.generation)
            if prompt is not None:
                rows.append(row)
                prompts.append(prompt)
            elif tries > 100 * count:
                raise DataError(
                    f"{self.over_long} prompts are longer than max_prompt_tokens={limit}, hardly any is not; "
                    "raise the limit or set over_long: truncate"
                )
        return rows, prompts

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"queue": self.queue.state(), "over_long": self.over_long}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.queue.restore(state["queue"])
        self.over_long = int(state["over_long"])
