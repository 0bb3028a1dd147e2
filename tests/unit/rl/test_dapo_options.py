"""Options of the DAPO loop: gate, shares by task, over-sampling, curriculum, weights, filter, guards, kept rollouts."""

from __future__ import annotations

import json
import math
import re
import signal
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from megatron_redone.common.errors import DataError, Interrupted, RedoneError, TrainingError
from megatron_redone.curation.refine import MeasuredRow, curriculum_ranks, write_difficulty
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.rl import recorded_generator, training_documents as documents_module
from megatron_redone.rl.advantage import assign_advantages
from megatron_redone.rl.agreement import check_agreement, logprob_gap
from megatron_redone.rl.config import AgreementConfig, DAPOConfig
from megatron_redone.rl.dapo import minibatches, objective_of
from megatron_redone.rl.dynamic_sampling import GroupSampler
from megatron_redone.rl.guards import (
    copies,
    guard_metrics,
    length_score_correlation,
    much_longer,
    other_language,
    repeats,
)
from megatron_redone.rl.metrics import rollout_metrics
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.rl.recorded_generator import RecordedGenerator
from megatron_redone.rl.reward import Rewards
from megatron_redone.rl.rollout import Group, Response
from megatron_redone.rl.training_documents import training_documents
from megatron_redone.scoring.base import Score
from tests.scripted_generation import ScriptedGenerator, number_in, sum_row, sums_template


def config(**settings: Any) -> DAPOConfig:
    base: dict[str, Any] = {
        "num_rollouts": 2, "prompts_per_rollout": 4, "responses_per_prompt": 2, "minibatch_prompts": 2,
        "overlong": {"buffer_tokens": 0}, "generation": {"max_new_tokens": 8, "max_prompt_tokens": 200},
    }  # fmt: skip
    return DAPOConfig(**{**base, **settings})


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


def group(
    scores: Sequence[float], lengths: Sequence[int] | None = None, cut: Sequence[int] = (), number: int = 1
) -> Group:
    lengths = lengths or [2] * len(scores)
    responses = []
    for place, (score, length) in enumerate(zip(scores, lengths, strict=True)):
        reason: Any = "length" if place in cut else "stop"
        completion = Completion(tuple(range(5, 5 + length)), tuple(-0.1 * t for t in range(length)), reason)
        responses.append(Response(completion, "", score, True, score))
    return Group(sum_row(number), [1, 2, 3], responses)


# agreement


def test_the_gap_is_mean_nearest_rank_percentile_and_maximum() -> None:
    found = logprob_gap([0.0] * 200, [0.01 * n for n in range(200)])
    assert found == pytest.approx(
        {"rollout_logprob_gap_mean": 0.995, "rollout_logprob_gap_p99": 1.97, "rollout_logprob_gap_max": 1.99}
    )


@pytest.mark.parametrize(("gaps", "told"), [([0.2, 0.0], None), ([0.3, 0.1], "mean"), ([math.nan], "mean")])
def test_a_gap_beyond_the_budget_ends_the_run_with_advice(gaps: list[float], told: str | None) -> None:
    gap = logprob_gap(gaps, [0.0] * len(gaps))
    settings = AgreementConfig(max_mean=0.15, max_p99=None)
    if told is None:
        check_agreement(gap, settings, 3)
        return
    with pytest.raises(TrainingError, match=rf"rollout 3: .*\({told}\).*agreement.max_{told}=0.15.*importance_cap"):
        check_agreement(gap, settings, 3)
    check_agreement(gap, AgreementConfig(max_mean=None, max_p99=None), 3)
    with pytest.raises(TrainingError, match=r"\(p99\).*agreement.max_p99=0.2"):
        check_agreement(logprob_gap([0.3], [0.0]), AgreementConfig(max_mean=None, max_p99=0.2), 3)


# documents and advantages


class Scoring:
    """Stands for an engine: every token has the log-probability -token / 10."""


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    temperatures: list[float] = []

    def logprobs(
        documents: Any, max_tokens: int, engine: Any, temperature: float, share_prompts: bool
    ) -> list[list[float]]:
        temperatures.append(temperature)
        return [[-t / 10 * w for t, w in zip(d.token_ids, d.loss_mask, strict=True)] for d in documents]

    monkeypatch.setattr(documents_module, "document_logprobs", logprobs)
    return temperatures


def test_documents_carry_the_signals_that_the_loss_reads(scored: list[float]) -> None:
    settings = config(importance_cap=2.0, kl={"measure": True}, normalisation="group_mean")
    run: Any = SimpleNamespace(forward_tokens=0)
    groups = [group([1.0, 0.0], [2, 5]), group([0.0, 1.0], [1, 3])]
    assign_advantages(groups)
    found, gap = training_documents(groups, Scoring(), settings, run, Scoring())  # type: ignore[arg-type]
    assert [[len(document) for document in one] for one in found] == [[5, 8], [4, 6]]
    first = found[0][1]
    assert set(first.signals) == set(settings.signals) == {
        "advantages", "old_logprobs", "rollout_logprobs", "reference_logprobs", "group_shares"
    }  # fmt: skip
    assert first.signals["old_logprobs"] == pytest.approx([0, 0, 0, -0.5, -0.6, -0.7, -0.8, -0.9])
    assert first.signals["rollout_logprobs"] == pytest.approx([0, 0, 0, 0, -0.1, -0.2, -0.3, -0.4])
    assert first.signals["group_shares"] == [1 / 7] * 8 and found[1][0].signals["group_shares"] == [1 / 4] * 4
    assert gap["rollout_logprob_gap_max"] == pytest.approx(0.5) and len(scored) == 2
    assert run.forward_tokens == 2 * (5 + 8 + 4 + 6)


def test_one_update_needs_no_old_log_probabilities_but_to_compare_them(scored: list[float]) -> None:
    run: Any = SimpleNamespace(forward_tokens=0)
    for measure, passes in ((True, 1), (False, 0)):
        scored.clear()
        settings = config(minibatch_prompts=4, agreement={"measure": measure})
        found, gap = training_documents([group([1.0, 0.0])], Scoring(), settings, run)  # type: ignore[arg-type]
        assert settings.signals == ("advantages",) and set(found[0][0].signals) == {"advantages"}
        assert len(scored) == passes and bool(gap) == measure


@pytest.mark.usefixtures("scored")
def test_the_overlong_filter_takes_cut_answers_out_of_the_loss_alone() -> None:
    groups = [group([1.0, 0.0, 0.0], [2, 8, 3], cut=[1]), group([0.0, 0.0, 1.0], cut=[0, 1, 2])]
    assign_advantages(groups)
    kept = [response.advantage for response in groups[0].responses]
    settings = config(overlong={"buffer_tokens": 0, "filter": True}, normalisation="group_mean", minibatch_prompts=1)
    run: Any = SimpleNamespace(forward_tokens=0)
    found, _ = training_documents(groups, Scoring(), settings, run)  # type: ignore[arg-type]
    assert [len(one) for one in found] == [2, 0]
    assert [d.signals["advantages"][0] for d in found[0]] == [kept[0], kept[2]]
    assert found[0][0].signals["group_shares"][0] == 1 / 5
    assert [len(batch) for batch in minibatches(found, settings)] == [2]  # nothing is left of the second group


def test_a_weight_by_kind_of_reward_multiplies_the_advantage() -> None:
    groups = [group([1.0, 0.0, 0.25]), group([1.0, 0.0, 0.25])]
    assign_advantages(groups[:1])
    assign_advantages(groups[1:], {"exact_match": 3.0, "metric": 3.0, "pattern": 3.0, "sandbox": 3.0})
    for plain, weighted in zip(groups[0].responses, groups[1].responses, strict=True):
        assert weighted.advantage == pytest.approx(3 * plain.advantage)
    assert statistics.stdev([r.advantage for r in groups[0].responses]) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, "1", None])
def test_a_reward_that_is_no_number_is_refused(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(texts: Sequence[str], rows: Sequence[Any]) -> list[Score]:
        score = Score(0.0, True)
        object.__setattr__(score, "value", value)  # what a scorer of another type could give
        return [score]

    monkeypatch.setattr(
        "megatron_redone.rl.reward.get_task", lambda name: SimpleNamespace(score=broken, reward_kind="metric")
    )
    with pytest.raises(RedoneError, match=r"task 'arithmetic', row 'arithmetic-1': no reward"):
        Rewards().score(["2"], [sum_row(1)])


# dynamic sampling


ROWS = [sum_row(number) for number in range(2, 40)]


def half_right(text: str, sample: int) -> str:
    """Odd sums are all right, so that there is nothing to learn; of even ones the first sample is right."""
    number = number_in(text)
    return str(number + 1) if number % 2 or sample == 0 else "0"


def test_over_sampling_takes_fewer_batches_and_leaves_groups_over(template: ChatTemplate) -> None:
    batches = {}
    for factor in (1.0, 3.0):
        sampler = GroupSampler(config(over_sampling=factor), PromptQueue(ROWS, 1.0, 0), template, 0)
        sampled = sampler.next_informative_groups(ScriptedGenerator(template, half_right))
        batches[factor] = sampled.batches
        assert len(sampled.groups) == 4
        informative = sum(one.informative for one in sampled.all_groups)
        assert sampled.left_over == informative - 4
        metrics = rollout_metrics(sampled)
        assert metrics["thrown_away/arithmetic"] == sampled.thrown_away["arithmetic"] == metrics["groups_thrown_away"]
    assert batches[3.0] == 1 < batches[1.0]


def test_shares_of_trained_groups_follow_the_draw(template: ChatTemplate) -> None:
    """Groups of one task are thrown away far more often; with `trained` its share stays all the same."""

    def answer(text: str, sample: int) -> str:
        found = re.search(r"(\d+) \+ 1", text)
        assert found is not None
        number = int(found[1])
        right = sample == 0 or ("Calculate" not in text and number % 3 > 0)  # of these one in three is informative
        return f"\\boxed{{{number + 1}}}" if right else "0"

    rows = [sum_row(n, task) for task in ("arithmetic", "mathematics") for n in range(40)]
    first, trained = {}, {}
    for kind in ("drawn", "trained"):
        settings = config(
            shares=kind, prompts_per_rollout=40, minibatch_prompts=20, max_generation_batches=30,
            generation={"max_new_tokens": 8, "max_prompt_tokens": 400}, max_tokens_per_microbatch=500,
        )  # fmt: skip
        sampler = GroupSampler(settings, PromptQueue(rows, 0.0, 0), template, 0)
        sampled = sampler.next_informative_groups(ScriptedGenerator(template, answer))
        first[kind] = Counter(one.row.task for one in sampled.all_groups[:40])
        trained[kind] = Counter(one.row.task for one in sampled.groups)
        assert trained[kind].total() == 40
    assert first["drawn"] == first["trained"] == trained["trained"]
    assert trained["drawn"]["mathematics"] < first["drawn"]["mathematics"] - 4


# curriculum


def test_a_curriculum_orders_rows_by_difficulty_anew_in_each_epoch(tmp_path: Path) -> None:
    rows = [sum_row(number) for number in range(6)]
    rates = [0.5, 0.0, 0.25, 1.0, 0.75, 0.25]
    write_difficulty(tmp_path / "d.jsonl", [MeasuredRow(r, rate) for r, rate in zip(rows, rates, strict=True)])
    ranks = curriculum_ranks(tmp_path / "d.jsonl", "hard_first")
    epochs = [[int(row.id[-1]) for row in PromptQueue(rows, 1.0, seed, ranks).take(12)] for seed in range(8)]
    for drawn in epochs:
        for epoch in (drawn[:6], drawn[6:]):
            assert [rates[n] for n in epoch] == [0.25, 0.25, 0.5, 0.75, 0.0, 1.0]
    assert len({tuple(drawn[:2]) for drawn in epochs}) == 2  # equal ranks are shuffled
    easy = curriculum_ranks(tmp_path / "d.jsonl", "easy_first")
    assert [rates[int(row.id[-1])] for row in PromptQueue(rows, 1.0, 0, easy).take(6)] == [
        0.75, 0.5, 0.25, 0.25, 1.0, 0.0
    ]  # fmt: skip
    del ranks["arithmetic-2"]
    assert PromptQueue(rows, 1.0, 0, ranks).take(6)[-1].id == "arithmetic-2"  # unmeasured: at the end


@pytest.mark.parametrize("line", [{"id": "a"}, {"id": 3, "pass_rate": 0.5}, {"id": "a", "pass_rate": 1.5}])
def test_a_bad_line_of_difficulties_is_refused(tmp_path: Path, line: dict[str, Any]) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=r"d.jsonl:1: id="):
        curriculum_ranks(tmp_path / "d.jsonl", "hard_first")


# guards


def test_detectors_find_what_they_are_for() -> None:
    varied = " ".join(f"word{number}" for number in range(40))
    assert repeats("buy now " * 20) and not repeats(varied) and not repeats("yes yes yes")
    assert copies(varied, f"Note: {varied}") and not copies(varied, "another prompt") and not copies("word1", varied)
    assert other_language("这是一个回答", "an answer") and not other_language("答案 answer", "an answer")
    assert not other_language("好", "an answer")
    assert much_longer(varied, "nine") and not much_longer(varied, varied) and not much_longer("two words", "one")
    assert not much_longer(varied, "")  # no gold answer to compare with


def test_length_and_score_are_compared_inside_groups() -> None:
    longer_wins = [group([0.0, 1.0], [2, 6]), group([0.5, 1.0], [30, 34])]
    assert length_score_correlation(longer_wins) == pytest.approx(0.95, abs=0.06)
    assert length_score_correlation([group([1.0, 0.0], [2, 6])]) == pytest.approx(-1.0)
    assert length_score_correlation([group([1.0, 1.0], [2, 6])]) == 0.0


def test_guard_metrics_tell_shares_of_all_and_of_the_rewarded(template: ChatTemplate) -> None:
    one = group([1.0, 0.0, 0.0, 0.0], cut=[0, 1])
    one.responses[0].text = "again and " * 20
    found = guard_metrics([one], template)
    assert (found["guard/repetition"], found["guard/repetition_rewarded"]) == (0.25, 1.0)
    assert (found["guard/truncated"], found["guard/truncated_rewarded"]) == (0.5, 1.0)
    assert (found["guard/length"], found["guard/length_rewarded"]) == (0.25, 1.0)
    assert (found["guard/empty"], found["guard/empty_rewarded"]) == (0.5, 0.0)  # cut off is another matter


# recorded rollouts


class Counting(ScriptedGenerator):
    calls = 0

    def generate(self, prompts: Any, params: Any, keys: Any) -> list[list[Completion]]:
        self.calls += 1
        return super().generate(prompts, params, keys)


def test_recorded_completions_are_given_again_and_nothing_else_is(
    template: ChatTemplate, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    params = SamplingParams(8, num_samples=2)
    prompts, keys = [[5, 6, 7], [8, 9]], ["a", "b"]
    engine = Counting(template, lambda text, sample: str(sample))
    first = RecordedGenerator(engine, tmp_path, parallel_context)
    first.update_weights([], 4)
    found = first.generate(prompts, params, keys)
    again = RecordedGenerator(engine, tmp_path, parallel_context)
    again.update_weights([], 4)
    assert again.generate(prompts, params, keys) == found and (engine.calls, again.recalled) == (1, 1)
    again.generate(prompts, params, ["a", "c"])
    again.generate([[5, 6, 7], [8]], params, keys)
    again.generate(prompts, replace(params, temperature=0.5), keys)
    again.update_weights([], 5)
    again.generate(prompts, params, keys)
    assert (engine.calls, again.recalled) == (5, 1)
    (path,) = tmp_path.glob("000005-*")
    path.write_bytes(path.read_bytes()[:-4])
    assert again.generate(prompts, params, keys) == found and engine.calls == 6
    again.forget_before(5)
    assert [p.name[:6] for p in tmp_path.iterdir()] == ["000005"]
    again.forget()
    assert not tmp_path.exists()


def test_a_stop_in_the_middle_of_a_rollout_keeps_what_was_sampled(
    template: ChatTemplate, parallel_context: ParallelContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = Message(role="user", content="Calculate: 3 + 1")

    def rollout(generator: RecordedGenerator) -> list[str]:
        sampler = GroupSampler(config(), PromptQueue(ROWS, 1.0, 0), template, 0)
        generator.update_weights([], 0)
        generator.generate([template.prompt_ids([question])], SamplingParams(2), ["the first rollout"])
        generator.update_weights([], 1)
        return [one.row.id for one in sampler.next_informative_groups(generator).groups]

    whole = Counting(template, half_right)
    expected = rollout(RecordedGenerator(whole, tmp_path / "whole", parallel_context))
    assert whole.calls > 2
    engine = Counting(template, half_right)
    stops = iter([signal.SIGINT])
    monkeypatch.setattr(recorded_generator, "agreed_stop", lambda context: next(stops))
    with pytest.raises(Interrupted, match=r"middle of rollout 1, whose 1 batch\(es\)"):
        rollout(RecordedGenerator(engine, tmp_path / "parts", parallel_context))
    monkeypatch.setattr(recorded_generator, "agreed_stop", lambda context: 0)
    assert rollout(RecordedGenerator(engine, tmp_path / "parts", parallel_context)) == expected
    assert engine.calls == whole.calls  # the batch before the stop was not sampled again


# settings


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"kl": {"coefficient": 0.1, "estimator": "k1"}}, "whose gradient is 0 in expectation"),
        ({"dynamic_sampling": False, "over_sampling": 2.0}, "nothing is thrown away then"),
        ({"dynamic_sampling": False, "shares": "trained"}, "nothing is thrown away then"),
        ({"reward_weights": {"sandbox": -1.0}}, "must be a finite number >= 0"),
        ({"reward_weights": {"sandbocks": 1.0}}, "sandbocks"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        config(**settings)


def test_the_objective_takes_every_setting() -> None:
    objective = objective_of(
        config(
            clip_ratio_low=0.1, clip_ratio_high=0.4, dual_clip=None, normalisation="sequence_mean", importance_cap=3.0,
            entropy_coefficient=0.01, kl={"coefficient": 0.02, "estimator": "k2"},
            generation={"temperature": 0.7, "max_new_tokens": 8, "max_prompt_tokens": 200},
        )
    )  # fmt: skip
    assert (objective.clip_ratio_low, objective.clip_ratio_high, objective.dual_clip) == (0.1, 0.4, None)
    assert (objective.normalisation, objective.importance_cap, objective.temperature) == ("sequence_mean", 3.0, 0.7)
    assert (objective.entropy_coefficient, objective.kl_coefficient, objective.kl_estimator) == (0.01, 0.02, "k2")
