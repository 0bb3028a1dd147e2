"""Rollouts before an update or one step ahead of it: which weights made them, and that a resume changes nothing."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.common.errors import ConfigError, Interrupted
from megatron_redone.config.loading import validate
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.presets import PRESETS
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.dapo import dapo
from megatron_redone.rl.rollout_schedule import sampled_from_json, sampled_to_json
from megatron_redone.tasks.base import Row
from megatron_redone.training import stop
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun
from tests.scripted_generation import sum_row, sums_template

SETTINGS: dict[str, Any] = {
    "num_rollouts": 4, "prompts_per_rollout": 4, "responses_per_prompt": 4, "minibatch_prompts": 2,
    "max_tokens_per_microbatch": 512, "dynamic_sampling": False, "warmup_rollouts": 0,
    "overlong": {"buffer_tokens": 2, "factor": 0.5}, "optimizer": {"lr": 1e-3},
    "generation": {"engine": "vllm", "max_new_tokens": 6, "max_prompt_tokens": 200},
}  # fmt: skip
ROWS = [sum_row(number) for number in range(9)]


class CopyingGenerator:
    """An engine with its own copy of the weights, as vLLM is one: the in-process generator of a second model."""

    def __init__(self, context: ParallelContext, trainer: MegatronEngine) -> None:
        self.engine = MegatronEngine(trainer.shape, context)
        self.inner = MegatronGenerator(self.engine.model, context)
        self.calls: list[tuple[str, int]] = []
        self.began = threading.Semaphore(0)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        self.calls.append(("generate", self.inner.version))
        self.began.release()
        return self.inner.generate(prompts, params, keys)

    def update_weights(self, stream: Iterable[tuple[str, Any]], version: int) -> None:
        self.engine.load_hf_weights(dict(stream), "stream")
        self.inner.update_weights((), version)
        self.calls.append(("update", version))

    def sleep(self) -> None:
        self.calls.append(("sleep", self.inner.version))

    def wake_up(self) -> None:
        self.calls.append(("wake_up", self.inner.version))

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def no_stop() -> Iterator[None]:
    yield
    stop._signal = 0


def settings(**changes: Any) -> DAPOConfig:
    return validate(DAPOConfig, {**SETTINGS, **changes}, "test")


class Trained:
    """One run of the loop on a tiny model."""

    def __init__(self, folder: Path, template: ChatTemplate, context: ParallelContext, config: DAPOConfig) -> None:
        shape = PRESETS["qwen3-tiny"].model_copy(update={"vocab_size": template.tokenizer.vocab_size})
        self.engine = MegatronEngine(shape, context, config.optimizer)
        self.engine.load_hf_weights(RandomWeights(shape, 0), "test weights")
        self.generator = CopyingGenerator(context, self.engine)
        folder.mkdir(exist_ok=True)
        self.run = TrainingRun(folder, "explore", 3, context, CheckpointConfig(every=1, in_background=False))
        self.folder, self.template, self.config = folder, template, config

    def train(self, rows: Sequence[Row] = ROWS) -> Trained:
        dapo(self.config, rows, self.template, self.engine, self.generator, self.run)
        return self

    @property
    def metrics(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]


def test_without_staleness_every_rollout_comes_from_the_newest_weights(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    trained = Trained(tmp_path, template, parallel_context, settings()).train()
    assert trained.generator.calls == [
        ("update", 0),
        *(call for version in range(4) for call in (("generate", version), ("update", version + 1))),
    ]
    assert [row["rollout_staleness"] for row in trained.metrics] == [0.0] * 4
    assert max(row["rollout_logprob_gap_max"] for row in trained.metrics) < 1e-4


def test_one_step_ahead_the_rollout_is_made_while_the_trainer_trains(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    trained = Trained(tmp_path, template, parallel_context, settings(rollout={"staleness": 1}))
    train_step = trained.engine.train_step
    updates = 0

    def step(*arguments: Any) -> dict[str, float]:
        nonlocal updates
        updates += 1
        if updates in (1, 3, 5):  # the first update of a rollout waits until the next rollout has begun
            wanted = 2 if updates == 1 else 1
            assert all(trained.generator.began.acquire(timeout=30) for _ in range(wanted))
        return train_step(*arguments)

    trained.engine.train_step = step  # type: ignore[method-assign]
    trained.train()
    assert [call for call in trained.generator.calls if call[0] == "generate"] == [
        ("generate", version) for version in (0, 0, 1, 2)
    ]
    assert [row["rollout_version_min"] for row in trained.metrics] == [0.0, 0.0, 1.0, 2.0]
    assert [row["rollout_staleness"] for row in trained.metrics] == [0.0, 1.0, 1.0, 1.0]
    assert trained.metrics[0]["kl_to_old"] != trained.metrics[1]["kl_to_old"]


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_resume_changes_nothing(
    staleness: int, tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    config = settings(rollout={"staleness": staleness})
    whole = Trained(tmp_path / "whole", template, parallel_context, config).train()
    broken = Trained(tmp_path / "broken", template, parallel_context, config)
    train_step, updates = broken.engine.train_step, 0

    def step(*arguments: Any) -> dict[str, float]:
        nonlocal updates
        updates += 1
        if updates == 4:
            stop.request_stop(signal.SIGTERM)
        return train_step(*arguments)

    broken.engine.train_step = step  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match=r"stopped after step 2 of 4"):
        broken.train()
    stop._signal = 0
    resumed = Trained(tmp_path / "broken", template, parallel_context, config).train()
    assert resumed.metrics == whole.metrics
    assert ("generate", 0) not in resumed.generator.calls  # the checkpoint has the rollout of those weights


def test_a_stale_rollout_is_weighed_by_the_policy_that_made_it(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    one_update = settings(minibatch_prompts=4, rollout={"staleness": 1})
    trained = Trained(tmp_path, template, parallel_context, one_update).train()
    fresh, *stale = (row["kl_to_old"] for row in trained.metrics)
    assert fresh == pytest.approx(0.0, abs=1e-6)
    assert all(value > 1e-6 for value in stale)


def test_a_colocated_engine_sleeps_while_the_trainer_trains(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    generation = {**SETTINGS["generation"], "vllm": {"colocated": True}}
    trained = Trained(tmp_path, template, parallel_context, settings(generation=generation, num_rollouts=2)).train()
    assert trained.generator.calls == [
        ("update", 0), ("generate", 0), ("sleep", 0), ("wake_up", 0),
        ("update", 1), ("generate", 1), ("sleep", 1), ("wake_up", 1), ("update", 2),
    ]  # fmt: skip


def test_a_rollout_survives_json(tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext) -> None:
    trained = Trained(tmp_path, template, parallel_context, settings(rollout={"staleness": 1}))
    found: list[Any] = []
    trained.run.steps = lambda *args, **kwargs: found.append(kwargs["state"])  # type: ignore[method-assign]
    trained.train()
    schedule = found[0].__self__
    trained.generator.update_weights(trained.engine.export_hf_weights(), 7)
    sampled = schedule.sampler.next_informative_groups(trained.generator)
    again = sampled_from_json(json.loads(json.dumps(sampled_to_json(sampled))))
    assert again == sampled
    assert {id(group) for group in again.groups} <= {id(group) for group in again.all_groups}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"generation": {"max_new_tokens": 6, "max_prompt_tokens": 200}}, r"generation.engine=megatron"),
        (
            {
                "generation": {
                    "engine": "vllm",
                    "max_new_tokens": 6,
                    "max_prompt_tokens": 200,
                    "vllm": {"colocated": True},
                }
            },
            r"an engine that sleeps",
        ),
    ],
)
def test_engines_that_cannot_run_ahead_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        settings(rollout={"staleness": 1}, **changes)
