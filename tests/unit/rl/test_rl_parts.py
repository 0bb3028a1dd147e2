"""The parts of the DAPO loop: rewards, advantages, the prompt queue, dynamic sampling."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, strategies

from megatron_redone.common.errors import DataError, RedoneError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import Completion
from megatron_redone.rl.advantage import assign_advantages
from megatron_redone.rl.config import DAPOConfig, OverlongConfig
from megatron_redone.rl.dapo import minibatches, rate_of
from megatron_redone.rl.dynamic_sampling import GroupSampler
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.rl.reward import overlong_penalty
from megatron_redone.rl.rollout import Group, Response
from megatron_redone.tasks.base import Row
from tests.scripted_generation import ScriptedGenerator, number_in, sum_row, sums_template


def config(**settings: Any) -> DAPOConfig:
    generation = {"max_new_tokens": 8, "max_prompt_tokens": 200, **settings.pop("generation", {})}
    base: dict[str, Any] = {
        "num_rollouts": 2, "prompts_per_rollout": 4, "responses_per_prompt": 2, "minibatch_prompts": 2,
        "overlong": {"buffer_tokens": 0}, "generation": generation,
    }  # fmt: skip
    return DAPOConfig(**{**base, **settings})


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(("length", "expected"), [(1, 0.0), (60, 0.0), (70, -0.25), (80, -0.5), (100, -1.0)])
def test_overlong_penalty_is_the_published_one(length: int, expected: float) -> None:
    assert overlong_penalty(length, 100, OverlongConfig(buffer_tokens=40)) == pytest.approx(expected)


def test_a_buffer_of_zero_switches_the_penalty_off() -> None:
    assert overlong_penalty(100, 100, OverlongConfig(buffer_tokens=0)) == 0.0


@given(strategies.lists(strategies.floats(-1, 1), min_size=2, max_size=16))
def test_advantages_are_standardised_by_the_unbiased_deviation(rewards: list[float]) -> None:
    completion = Completion((1,), (-1.0,), "stop")
    group = Group(sum_row(1), [1], [Response(completion, "", r, True, r) for r in rewards])
    assign_advantages([group])
    deviation = statistics.stdev(rewards)
    for response, reward in zip(group.responses, rewards, strict=True):
        expected = (reward - statistics.fmean(rewards)) / (deviation + 1e-6)
        assert response.advantage == pytest.approx(expected, abs=1e-9)


def test_queue_draws_every_row_once_before_any_repeats() -> None:
    rows = [sum_row(number) for number in range(10)]
    drawn = [row.id for row in PromptQueue(rows, 1.0, 0).take(30)]
    for start in (0, 10, 20):
        assert sorted(drawn[start : start + 10]) == sorted(row.id for row in rows)
    assert drawn[:10] != drawn[10:20]


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.5), (1.0, 0.1), (0.5, 0.25)])
def test_balance_keeps_long_tails_visible(balance: float, share: float) -> None:
    rows = [sum_row(n) for n in range(90)] + [sum_row(n, "query_intent") for n in range(10)]
    drawn = Counter(row.task for row in PromptQueue(rows, balance, 1).take(4000))
    assert drawn["query_intent"] / 4000 == pytest.approx(share, abs=0.03)


def test_a_restored_queue_goes_on_where_it_was() -> None:
    rows = [sum_row(number) for number in range(7)]
    queue = PromptQueue(rows, 0.5, 3)
    queue.take(11)
    state = queue.state()
    expected = [row.id for row in queue.take(20)]
    resumed = PromptQueue(rows, 0.5, 3)
    resumed.restore(state)
    assert [row.id for row in resumed.take(20)] == expected


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        PromptQueue([], 1.0, 0)


def test_groups_without_differing_scores_are_thrown_away_and_replaced(template: ChatTemplate) -> None:
    def answer(text: str, sample: int) -> str:
        number = number_in(text)
        return str(number + 1) if number % 2 or sample == 0 else "0"  # odd: all right; even: one right, one wrong

    queue = PromptQueue([sum_row(n) for n in range(2, 12)], 1.0, 0)
    sampler = GroupSampler(config(), queue, template, 0)
    sampled = sampler.next_informative_groups(ScriptedGenerator(template, answer))
    assert len(sampled.groups) == 4 and all(group.informative for group in sampled.groups)
    assert sampled.thrown_away["arithmetic"] > 0 and sampled.batches > 1
    for group in sampled.groups:
        assert [response.score for response in group.responses] == [1.0, 0.0]
        for document in group.documents():
            learnt = [i for i, weight in enumerate(document.loss_mask) if weight]
            assert learnt == list(range(len(group.prompt_ids), len(document)))


def test_without_dynamic_sampling_all_groups_are_kept(template: ChatTemplate) -> None:
    sampler = GroupSampler(config(dynamic_sampling=False), PromptQueue([sum_row(1), sum_row(2)], 1.0, 0), template, 0)
    sampled = sampler.next_informative_groups(ScriptedGenerator(template, lambda text, sample: "x"))
    assert len(sampled.groups) == 4 and sampled.batches == 1


def test_only_uninformative_groups_end_by_the_bound_with_advice(template: ChatTemplate) -> None:
    queue = PromptQueue([sum_row(n) for n in range(5)], 1.0, 0)
    sampler = GroupSampler(config(max_generation_batches=3), queue, template, 0)
    with pytest.raises(RedoneError, match=r"3 batches.*raise the temperature"):
        sampler.next_informative_groups(ScriptedGenerator(template, lambda text, sample: "wrong"))


def test_over_long_prompts_follow_the_policy(template: ChatTemplate) -> None:
    rows = [sum_row(1), Row("arithmetic-long", "arithmetic", "en", {"question": "1 + " * 90 + "1"}, "91")]
    queue = PromptQueue(rows, 1.0, 0)
    generator = ScriptedGenerator(template, lambda text, sample: "2" if sample else "7")
    dropping = GroupSampler(config(), queue, template, 0)
    assert {g.row.id for g in dropping.next_informative_groups(generator).groups} == {"arithmetic-1"}
    assert dropping.over_long > 0
    truncating = GroupSampler(
        config(dynamic_sampling=False, generation={"over_long": "truncate"}), PromptQueue(rows, 1.0, 0), template, 0
    )
    lengths = {len(g.prompt_ids) for g in truncating.next_informative_groups(generator).groups}
    assert max(lengths) == 200


def test_minibatches_take_whole_groups_in_order() -> None:
    documents: list[Any] = [[f"{group}-{sample}" for sample in range(2)] for group in range(5)]
    assert [len(batch) for batch in minibatches(documents, config())] == [4, 4, 2]


def test_learning_rate_rises_over_rollouts_then_stays() -> None:
    settings = config(warmup_rollouts=4, num_rollouts=10, optimizer={"lr": 1.0, "schedule": "constant"})
    assert [rate_of(settings, step) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    falling = config(warmup_rollouts=4, num_rollouts=10, optimizer={"lr": 1.0, "schedule": "linear"})
    assert [rate_of(falling, step) for step in (3, 4, 9)] == [1.0, 1.0, 0.0]


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="prompts_per_rollout=5 is not divisible"):
        config(prompts_per_rollout=5)
