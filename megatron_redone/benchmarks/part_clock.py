"""Where the time of an RL step goes, told by the calls that its engine and its generator get."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from megatron_redone.data.batch import PackedBatch
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.objectives.base import Objective
from megatron_redone.training.engine import MegatronEngine

GENERATE, REWARD, OLD_LOGPROBS, UPDATE, REST = "generate", "reward", "old_logprobs", "update", "rest"
PARTS = (GENERATE, REWARD, OLD_LOGPROBS, UPDATE, REST)


@dataclass
class TimedStep:
    """One step, from the end of the step before it to its own end."""

    seconds: float
    cpu_seconds: float
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds by part; their sum is `seconds`."""
    prompt_tokens: int = 0
    """Of the prompts, each counted once."""
    new_tokens: int = 0
    trained_tokens: int = 0


class PartClock:
    """Seconds by part: from the call that begins a part to the call that begins the next."""

    def __init__(
        self, wall: Callable[[], float] = time.perf_counter, cpu: Callable[[], float] = time.process_time
    ) -> None:
        self._wall, self._cpu = wall, cpu
        self.steps: list[TimedStep] = []
        self._begin()

    def _begin(self) -> None:
        self.current = TimedStep(0.0, 0.0)
        self._part = REST
        self._since = self._start = self._wall()
        self._cpu_start = self._cpu()

    def enter(self, part: str) -> None:
        """The part that begins now; the one before it ends."""
        now = self._wall()
        parts = self.current.parts
        parts[self._part] = parts.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now

    def end_step(self) -> None:
        """The step ends and the next one begins."""
        self.enter(REST)
        self.current.seconds = self._since - self._start
        self.current.cpu_seconds = self._cpu() - self._cpu_start
        self.steps.append(self.current)
        self._begin()


class ClockedGenerator:
    """A generator whose calls set the clock; a step ends when it takes the weights of the next version.

    What lies between the end of a generation and the next call is counted as reward: decoding the answers, scoring
    them, and advantages.
    """

    def __init__(self, generator: GenerationEngine, clock: PartClock) -> None:
        self.generator, self.clock = generator, clock

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        """See `GenerationEngine`."""
        self.clock.enter(GENERATE)
        found = self.generator.generate(prompts, params, keys)
        self.clock.enter(REWARD)
        self.clock.current.prompt_tokens += sum(map(len, prompts))
        self.clock.current.new_tokens += sum(len(one.token_ids) for group in found for one in group)
        return found

    def update_weights(self, stream: Iterable[tuple[str, Any]], version: int) -> None:
        """See `GenerationEngine`."""
        self.generator.update_weights(stream, version)
        if version > 0:
            self.clock.end_step()

    def sleep(self) -> None:
        """See `GenerationEngine`."""
        self.generator.sleep()

    def wake_up(self) -> None:
        """See `GenerationEngine`."""
        self.generator.wake_up()

    def close(self) -> None:
        """See `GenerationEngine`."""
        self.generator.close()


class ClockedEngine:
    """An engine whose calls set the clock; all else is the engine's own.

    Args:
        step_is_update: a step ends with each update (DPO), and not with the generator's new weights.
    """

    def __init__(self, engine: MegatronEngine, clock: PartClock, *, step_is_update: bool = False) -> None:
        self._engine, self._clock, self._step_is_update = engine, clock, step_is_update

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def logprobs(self, microbatches: Sequence[PackedBatch], temperature: float = 1.0) -> list[Tensor]:
        """See `MegatronEngine`."""
        self._clock.enter(OLD_LOGPROBS)
        return self._engine.logprobs(microbatches, temperature)

    def train_step(
        self, microbatches: Sequence[PackedBatch], objective: Objective, learning_rate: float
    ) -> dict[str, float]:
        """See `MegatronEngine`."""
        self._clock.enter(UPDATE)
        self._clock.current.trained_tokens += sum(batch.num_document_tokens for batch in microbatches)
        metrics = self._engine.train_step(microbatches, objective, learning_rate)
        if self._step_is_update:
            self._clock.end_step()
        return metrics
