"""The whole loop under faults: a crash or a stuck reward process in mid-rollout, answers without an end, a vocabulary
that is not the tokenizer's, nothing to learn."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.common.errors import RedoneError
from megatron_redone.config.loading import validate
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.presets import PRESETS
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.dapo import dapo
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.model_folder import check_vocabulary
from megatron_redone.training.run import TrainingRun
from tests.scripted_generation import ScriptedGenerator, number_in, sum_row, sums_template

ROWS = [sum_row(number) for number in range(12)]
SETTINGS: dict[str, Any] = {
    "num_rollouts": 3, "prompts_per_rollout": 4, "responses_per_prompt": 2, "minibatch_prompts": 2,
    "max_tokens_per_microbatch": 512, "warmup_rollouts": 0, "overlong": {"buffer_tokens": 0},
    "optimizer": {"lr": 1e-3}, "generation": {"max_new_tokens": 6, "max_prompt_tokens": 200},
    "agreement": {"max_mean": None, "max_p99": None},  # scripted answers are nobody's
}  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


def half_right(text: str, sample: int) -> str:
    """Odd sums are always right, so that there is nothing to learn; of even ones the first sample is right."""
    number = number_in(text)
    return str(number + 1) if number % 2 or sample == 0 else "0"


class Failing(ScriptedGenerator):
    """Calls `fault` before the batch of this number."""

    def __init__(self, template: ChatTemplate, batch: int, fault: Callable[[], None]) -> None:
        super().__init__(template, half_right)
        self.batch, self.fault, self.batches = batch, fault, 0

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        self.batches += 1
        if self.batches == self.batch:
            self.fault()
        return super().generate(prompts, params, keys)


class Loop:
    """A run of the loop on a tiny model."""

    def __init__(
        self,
        folder: Path,
        template: ChatTemplate,
        context: ParallelContext,
        more_ids: int = 0,
        every: int = 1,
        **changes: Any,
    ) -> None:
        self.config = validate(DAPOConfig, {**SETTINGS, **changes}, "test")
        shape = PRESETS["qwen3-tiny"].model_copy(update={"vocab_size": template.tokenizer.vocab_size + more_ids})
        self.engine = MegatronEngine(shape, context, self.config.optimizer)
        self.engine.load_hf_weights(RandomWeights(shape, 0), "test weights")
        folder.mkdir(exist_ok=True)
        self.run = TrainingRun(folder, "explore", 3, context, CheckpointConfig(every=every, in_background=False))
        self.folder, self.template = folder, template

    def train(self, generator: GenerationEngine | None = None) -> dict[str, int]:
        generator = generator or MegatronGenerator(self.engine.model, self.engine.context)
        return dapo(self.config, ROWS, self.template, self.engine, generator, self.run)

    @property
    def metrics(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_crashes_in_mid_rollout_goes_on_exactly(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    def crash() -> None:
        raise OSError("the node is gone")

    whole = Loop(tmp_path / "whole", template, parallel_context)
    counts = whole.train(ScriptedGenerator(template, half_right))
    batches = [int(row["generation_batches"]) for row in whole.metrics]
    assert batches[1] > 1
    broken = Loop(tmp_path / "broken", template, parallel_context)
    with pytest.raises(OSError, match=r"the node is gone"):
        broken.train(Failing(template, batches[0] + 2, crash))  # the second batch of the second rollout
    again = Failing(template, 0, crash)
    resumed = Loop(tmp_path / "broken", template, parallel_context)
    assert resumed.train(again) == counts
    assert resumed.metrics == whole.metrics
    assert again.batches == sum(batches[1:]) - 1  # one batch of the second rollout was on disk
    for (name, one), (_, other) in zip(
        whole.engine.export_hf_weights(), resumed.engine.export_hf_weights(), strict=True
    ):
        assert one.equal(other), name


def test_a_reward_process_that_hangs_is_replaced_and_counted(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    def workers() -> list[Any]:
        return [child for child in multiprocessing.active_children() if child.name == "scoring"]

    def hang() -> None:
        (worker,) = workers()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)

    loop = Loop(tmp_path, template, parallel_context, rewards={"num_workers": 1, "deadline_seconds": 2})
    counts = loop.train(Failing(template, 2, hang))
    assert (counts["answers_late"], counts["answers_died"], counts["answers_failed"]) == (1, 0, 0)
    assert sum(row["rewards_late"] for row in loop.metrics) == 1.0
    assert len(loop.metrics) == 3
    assert not workers()


def test_nothing_to_learn_ends_the_run_by_the_bound_with_advice(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    loop = Loop(tmp_path, template, parallel_context, max_generation_batches=2)
    with pytest.raises(RedoneError, match=r"in 2 batches of prompts .*\{'arithmetic': \d+\}.*warm the model up first"):
        loop.train(ScriptedGenerator(template, lambda text, sample: "wrong"))


def test_answers_without_an_end_can_leave_the_loss(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    class Endless(ScriptedGenerator):
        def generate(
            self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
        ) -> list[list[Completion]]:
            found = super().generate(prompts, params, keys)
            return [[Completion(one.token_ids[:-1], one.logprobs[:-1], "length") for one in s] for s in found]

    loop = Loop(tmp_path, template, parallel_context, num_rollouts=1, overlong={"buffer_tokens": 0, "filter": True})
    before = {name: tensor.clone() for name, tensor in loop.engine.export_hf_weights()}
    loop.train(Endless(template, half_right))
    (row,) = loop.metrics
    assert (row["truncated_share"], row["updates"]) == (1.0, 0.0)
    assert all(before[name].equal(tensor) for name, tensor in loop.engine.export_hf_weights())


def test_ids_beyond_the_tokenizer_are_left_out_of_the_text(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    """A model may have more embeddings than its tokenizer has ids (they are padded), and samples them at first."""
    loop = Loop(
        tmp_path, template, parallel_context, more_ids=4000, num_rollouts=1, dynamic_sampling=False, agreement={}
    )
    loop.train()
    (row,) = loop.metrics
    assert row["rollout_logprob_gap_max"] < 1e-4
    assert row["updates"] == 2.0
    too_few = loop.engine.shape.model_copy(update={"vocab_size": template.tokenizer.vocab_size - 1})
    with pytest.raises(RedoneError, match=r"the tokenizer has \d+ ids, the model \d+ embeddings"):
        check_vocabulary(too_few, template.tokenizer, tmp_path)
