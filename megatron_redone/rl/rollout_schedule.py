"""When rollouts are made and with which weights: before each update, or one step ahead of the trainer.

With `staleness: 1` the next rollout is made, by the weights as they are, while the trainer trains on this one. Rollout
k >= 1 then comes from the weights before update k - 1, whatever the speeds of the two: results are a function of the
seed. Its importance ratios are taken against the log-probabilities that the rollout reported, those of the policy
that made it (PPO's behaviour policy); with `staleness: 0` the trainer's own stand in for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from megatron_redone.common.errors import InputError
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.generation.remote_engine import RemoteEngine
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.dynamic_sampling import GroupSampler, Sampled
from megatron_redone.rl.rollout import Group, Response
from megatron_redone.tasks.row import Row
from megatron_redone.training.engine import MegatronEngine


class RolloutSchedule:
    """Hands out the rollouts of a run and keeps the generator's weights up to date. All ranks call it alike.

    Use it in a `with` block: at the end it waits for a rollout on its way.
    """

    def __init__(
        self, config: DAPOConfig, sampler: GroupSampler, engine: MegatronEngine, generator: GenerationEngine
    ) -> None:
        self.config, self.sampler, self.engine, self.generator = config, sampler, engine, generator
        self.context = engine.context
        self.ahead = config.rollout.staleness == 1
        self.colocated = config.generation.vllm.colocated
        if self.ahead and self.context.world_size > 1 and not isinstance(generator, RemoteEngine):
            raise InputError(
                f"rollout.staleness=1 in {self.context.world_size} processes: rollouts beside training need "
                "generation.engine=servers there"
            )
        self.version = 0
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[Sampled] | None = None
        self._pending: Sampled | None = None
        """A rollout that is done and not yet handed out."""

    def __enter__(self) -> RolloutSchedule:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rollout") if self.ahead else None
        self.generator.update_weights(self.engine.export_hf_weights(), self.version)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def next(self, rollout: int) -> Sampled:
        """The groups of rollout number `rollout`; with `staleness: 1` the one after it begins."""
        if not self.ahead:
            sampled = self.sampler.next_informative_groups(self.generator)
            if self.colocated:
                self.generator.sleep()
            return sampled
        if self._pending is None:
            self._begin()
            self._wait()
        assert self._pending is not None
        sampled, self._pending = self._pending, None
        if rollout + 1 < self.config.num_rollouts:
            self._begin()
        return sampled

    def update(self, version: int) -> None:
        """Gives the generator the trainer's weights, after the rollout on its way is done with the old ones."""
        if self._running is not None:
            self._wait()
        if self.colocated:
            self.generator.wake_up()
        self.generator.update_weights(self.engine.export_hf_weights(), version)
        self.version = version

    def _begin(self) -> None:
        """Starts the next rollout; with more than one process rank 0 alone makes it."""
        if not self.context.is_main:
            self._running = Future()
            return
        assert self._pool is not None
        alone: Any = _OnThisRank(self.generator) if self.context.world_size > 1 else self.generator
        self._running = self._pool.submit(self.sampler.next_informative_groups, alone, alone=True)

    def _wait(self) -> None:
        running, self._running = self._running, None
        assert running is not None
        self._pending, state = self.context.on_main(lambda: (running.result(), self.sampler.state()))
        if not self.context.is_main:
            self.sampler.restore(state)

    def metrics(self, sampled: Sampled, rollout: int) -> dict[str, float]:
        """The versions of the weights that the rollout came from, and how many updates ago they were the trainer's."""
        versions = [response.completion.version for group in sampled.all_groups for response in group.responses]
        return {
            "rollout_version_min": float(min(versions)),
            "rollout_version_max": float(max(versions)),
            "rollout_staleness": float(rollout - min(versions)),
        }

    def state(self) -> dict[str, Any]:
        """For a checkpoint; the rollout that is done and not yet learnt from is part of it."""
        pending = None if self._pending is None else sampled_to_json(self._pending)
        return {**self.sampler.state(), "version": self.version, "pending": pending}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint, when the engine has its weights already."""
        self.sampler.restore(state)
        self._pending = None if state["pending"] is None else sampled_from_json(state["pending"])
        self.update(int(state["version"]))


class _OnThisRank:
    """Servers asked by this rank for itself: a rollout beside training must not wait for the other ranks."""

    def __init__(self, generator: GenerationEngine) -> None:
        assert isinstance(generator, RemoteEngine)
        self.remote = generator

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        """See `RemoteEngine.generate_here`."""
        return self.remote.generate_here(prompts, params, keys)


def sampled_to_json(sampled: Sampled) -> dict[str, Any]:
    """A rollout as JSON values."""
    places = {id(group): place for place, group in enumerate(sampled.all_groups)}
    return {
        "all_groups": [_group_to_json(group) for group in sampled.all_groups],
        "groups": [places[id(group)] for group in sampled.groups],
        "thrown_away": dict(sampled.thrown_away),
        "not_scored": dict(sampled.not_scored),
        "batches": sampled.batches,
        "generated_tokens": sampled.generated_tokens,
    }


def sampled_from_json(value: Mapping[str, Any]) -> Sampled:
    """What `sampled_to_json` wrote."""
    groups = [_group_from_json(group) for group in value["all_groups"]]
    return Sampled(
        groups=[groups[place] for place in value["groups"]],
        all_groups=groups,
        thrown_away=Counter(value["thrown_away"]),
        not_scored=Counter(value.get("not_scored", {})),
        batches=value["batches"],
        generated_tokens=value["generated_tokens"],
    )


def _group_to_json(group: Group) -> dict[str, Any]:
    responses = []
    for response in group.responses:
        completion = response.completion
        made = [list(completion.token_ids), list(completion.logprobs), completion.finish_reason, completion.version]
        responses.append([made, response.text, response.score, response.parsed, response.reward])
    return {"row": group.row.to_json(), "prompt_ids": list(group.prompt_ids), "responses": responses}


def _group_from_json(value: Mapping[str, Any]) -> Group:
    responses = [
        Response(Completion(tuple(made[0]), tuple(made[1]), made[2], made[3]), text, score, parsed, reward)
        for made, text, score, parsed, reward in value["responses"]
    ]
    return Group(Row.from_json(value["row"], "checkpoint"), value["prompt_ids"], responses)
