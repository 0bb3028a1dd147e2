"""Rewards in the loop: over processes as in this one, with processes that hang or die, and with scorers that fail."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from megatron_redone.common.errors import RedoneError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.rl.config import DAPOConfig, RewardConfig
from megatron_redone.rl.dynamic_sampling import GroupSampler
from megatron_redone.rl.metrics import rollout_metrics
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.rl.reward import Rewards
from megatron_redone.scoring.base import Score
from megatron_redone.tasks.base import Row
from tests.scripted_generation import ScriptedGenerator, sum_row, sums_template

ROWS = [sum_row(number) for number in range(8)]
TEXTS = [str(number + number % 2) for number in range(8)]  # odd sums are right


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def worker() -> Iterator[Rewards]:
    config = RewardConfig(num_workers=1, deadline_seconds=2.0, default_score=0.25, max_unscored_share=0.5)
    with Rewards(config) as rewards:
        assert rewards.score(TEXTS, ROWS) == Rewards().score(TEXTS, ROWS)
        yield rewards


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGSTOP, "late"), (signal.SIGKILL, "died")])
def test_a_process_that_hangs_or_dies_costs_its_own_answer_only(
    worker: Rewards, number: signal.Signals, kind: str
) -> None:
    plain = Rewards().score(TEXTS, ROWS)
    before = dict(worker.counts)
    process = worker._scoring._pool._workers[0].process
    os.kill(process.pid, number)
    found = worker.score(TEXTS, ROWS)
    assert (found[0].value, found[0].parsed) == (0.25, False)
    assert found[0].reason.startswith("not scored: ")
    assert found[1:] == plain[1:]
    assert worker.counts[kind] == before[kind] + 1
    assert worker.counts["scored"] == before["scored"] + len(ROWS)
    assert not process.is_alive()
    assert worker.score(TEXTS, ROWS) == plain  # by the process in its place


def test_a_run_ends_where_most_answers_got_the_default(worker: Rewards) -> None:
    os.kill(worker._scoring._pool._workers[0].process.pid, signal.SIGSTOP)
    with pytest.raises(RedoneError, match=r"1 of 1 answers could not be scored.*\(late: no result after 2 s\)"):
        worker.score(TEXTS[:1], ROWS[:1])


def settings(**changes: Any) -> DAPOConfig:
    return DAPOConfig.model_validate(changes)


def broken_task(values: dict[str, Any]) -> SimpleNamespace:
    """A task whose scorer gives some answers a value that is none."""

    def score(texts: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        found = []
        for text in texts:
            one = Score(1.0, True)
            object.__setattr__(one, "value", values.get(text, 1.0))
            found.append(one)
        return found

    return SimpleNamespace(score=score, reward_kind="metric")


@pytest.mark.parametrize("value", [math.nan, -math.inf, "1", None, 1.5])
def test_scores_that_are_no_numbers_are_counted_where_the_settings_say_so(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_redone.rl.reward.get_task", lambda name: broken_task({"2": value}))
    rewards = Rewards(RewardConfig(bad_scores="count", default_score=0.1))
    assert [score.value for score in rewards.score(["1", "2", "3"], ROWS[:3])] == [1.0, 0.1, 1.0]
    assert rewards.counts == {"scored": 3, "late": 0, "died": 0, "failed": 1}


def test_counts_reach_metrics_and_survive_a_checkpoint(template: ChatTemplate, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Rewards().score(["1"], ROWS[:1])
    assert real[0].value == 1.0
    monkeypatch.setattr("megatron_redone.rl.reward.get_task", lambda name: broken_task({"7": math.nan, "3": 0.0}))
    config = settings(
        num_rollouts=1, prompts_per_rollout=2, responses_per_prompt=3, minibatch_prompts=2, dynamic_sampling=False,
        overlong={"buffer_tokens": 0}, generation={"max_new_tokens": 8, "max_prompt_tokens": 200},
        rewards={"bad_scores": "count"},
    )  # fmt: skip
    sampler = GroupSampler(config, PromptQueue(ROWS, 1.0, 0), template, 0)
    answers = ScriptedGenerator(template, lambda text, sample: ["1", "7", "3"][sample])
    metrics = rollout_metrics(sampler.next_informative_groups(answers))
    assert (metrics["rewards_failed"], metrics["rewards_late"], metrics["rewards_died"]) == (2.0, 0.0, 0.0)
    again = GroupSampler(config, PromptQueue(ROWS, 1.0, 0), template, 0)
    again.restore(sampler.state())
    assert again.rewards.counts == {"scored": 6, "late": 0, "died": 0, "failed": 2}


# generators that do not give what they owe


class Faulty(ScriptedGenerator):
    """A generator whose answers are changed on the way."""

    def __init__(self, template: ChatTemplate, change: Any) -> None:
        super().__init__(template, lambda text, sample: str(sample))
        self.change = change

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        changed: list[list[Completion]] = self.change(super().generate(prompts, params, keys))
        return changed


NOTHING = Completion((), (), "stop")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda found: [], r"answers to 0 of 2 prompts"),
        (lambda found: found[:1], r"answers to 1 of 2 prompts"),
        (lambda found: [[], found[1]], r"row 'arithmetic-\d': the generator gave 0 answers"),
        (lambda found: [[NOTHING, *found[0][1:]], found[1]], r"gave 1 answers with tokens .* where 2 were asked for"),
        (lambda found: [[Completion((1, 2), (-1.0,), "stop")] * 2, found[1]], r"gave 0 answers"),
    ],
)
def test_a_generator_that_returns_nothing_is_named(template: ChatTemplate, change: Any, told: str) -> None:
    config = settings(
        num_rollouts=1, prompts_per_rollout=2, responses_per_prompt=2, minibatch_prompts=2,
        overlong={"buffer_tokens": 0}, generation={"max_new_tokens": 8, "max_prompt_tokens": 200},
    )  # fmt: skip
    sampler = GroupSampler(config, PromptQueue(ROWS, 1.0, 0), template, 0)
    with pytest.raises(RedoneError, match=told):
        sampler.next_informative_groups(Faulty(template, change))


def test_empty_answers_that_only_end_are_scored_as_wrong_ones(template: ChatTemplate) -> None:
    config = settings(
        num_rollouts=1, prompts_per_rollout=2, responses_per_prompt=2, minibatch_prompts=2, max_generation_batches=3,
        overlong={"buffer_tokens": 0}, generation={"max_new_tokens": 8, "max_prompt_tokens": 200},
    )  # fmt: skip
    sampler = GroupSampler(config, PromptQueue(ROWS, 1.0, 0), template, 0)
    with pytest.raises(RedoneError, match=r"no group with differing scores in 3 batches of prompts.*change the rows"):
        sampler.next_informative_groups(
            Faulty(template, lambda found: [[Completion((template.end_id,), (-0.1,), "stop")] * 2 for _ in found])
        )
