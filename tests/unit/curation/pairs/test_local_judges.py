from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.curation.pairs.config import JudgeConfig
from megatron_redone.curation.pairs.local_judges import generated_replies, likelihood_scores
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.document import Document
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.models.presets import PRESETS
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.scoring.judge import Answered, Comparison, PairwiseJudge, PointwiseJudge
from megatron_redone.training.batches import pack
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import shape_of
from tests.scripted_generation import ScriptedGenerator, sums_template

QUESTION = [{"role": "user", "content": "Calculate: what is 3 + 4?"}]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def engine(parallel_context: ParallelContext) -> MegatronEngine:
    shape = shape_of("qwen3-tiny").model_copy(update={"vocab_size": 512})
    engine = MegatronEngine(shape, parallel_context)
    preset = PRESETS["qwen3-tiny"].model_copy(update={"vocab_size": 512})
    engine.load_hf_weights(SpreadWeights(preset, 5), "test weights")
    return engine


def answered(*texts: str) -> list[Answered]:
    return [Answered(f"{place}", QUESTION, text, "en") for place, text in enumerate(texts)]


def test_a_score_is_the_mean_log_probability_of_the_answer_and_its_end(
    engine: MegatronEngine, template: ChatTemplate
) -> None:
    texts = ["7", "the answer is 7", "7 + 7 + 7 is the answer"]
    scores = likelihood_scores(engine, template, JudgeConfig(kind="likelihood"))(answered(*texts))
    for text, score in zip(texts, scores, strict=True):
        prompt = template.prompt_ids([{"role": "user", "content": QUESTION[0]["content"]}])
        answer = [*template.answer_ids(text), template.end_id]
        batch = pack([Document([*prompt, *answer], [0.0] * len(prompt) + [1.0] * len(answer), "x")], engine)
        alone = engine.logprobs([batch])[0][batch.logit_positions]
        assert len(alone) == len(answer)
        assert score == pytest.approx(float(alone.mean()), abs=1e-5)
    assert len(set(scores)) == 3


def test_packed_and_single_answers_score_alike_and_long_ones_not_at_all(
    engine: MegatronEngine, template: ChatTemplate
) -> None:
    together = answered("7", "8", "7 + " * 60, "the answer is 12")
    limit = len(template.prompt_ids([{"role": "user", "content": QUESTION[0]["content"]}])) + 30
    judge = JudgeConfig(kind="likelihood", max_tokens=limit)
    scores = likelihood_scores(engine, template, judge)(together)
    assert scores[2] is None and all(score is not None and score < 0 for score in (*scores[:2], scores[3]))
    for item, score in zip(together, scores, strict=True):
        (alone,) = likelihood_scores(engine, template, judge)([item])
        assert alone == (None if score is None else pytest.approx(score, abs=1e-5))
    assert likelihood_scores(engine, template, judge)(answered("7 + " * 60)) == [None]


def test_the_likelier_answer_wins(engine: MegatronEngine, template: ChatTemplate) -> None:
    scores = likelihood_scores(engine, template, JudgeConfig(kind="likelihood"))
    low, high = sorted(["7", "the answer is 12"], key=lambda text: scores(answered(text))[0] or 0.0)
    pairs = [Comparison("x", QUESTION, low, high, "en"), Comparison("y", QUESTION, high, low, "en")]
    assert [verdict.winner for verdict in PointwiseJudge(scores).compare(pairs)] == ["b", "a"]


def test_a_generator_answers_the_questions_of_a_judge(template: ChatTemplate, tmp_path: Path) -> None:
    def reply(prompt: str, number: int) -> str:
        return "Verdict: A" if prompt.index("right") < prompt.index("wrong") else "Verdict: B"

    config = GenerationConfig(temperature=0.0, max_prompt_tokens=8192)
    judge = PairwiseJudge(generated_replies(ScriptedGenerator(template, reply), template, config, 0))
    pairs = [Comparison("x", QUESTION, "wrong", "right", "en"), Comparison("y", QUESTION, "right", "wrong", "en")]
    assert [verdict.winner for verdict in judge.compare(pairs)] == ["b", "a"]


def test_a_question_over_the_limit_is_not_asked(template: ChatTemplate) -> None:
    short = GenerationConfig(max_prompt_tokens=60)
    complete_all = generated_replies(ScriptedGenerator(template, lambda prompt, number: "yes"), template, short, 0)
    long = [{"role": "user", "content": "what is " * 60}]
    assert complete_all([QUESTION, long]) == ["yes", ""]
    assert complete_all([long]) == [""]
