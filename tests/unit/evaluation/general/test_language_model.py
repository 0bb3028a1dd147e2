"""Our engine under lm-evaluation-harness gives the numbers and texts of the harness's own Hugging Face model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.evaluation.general.language_model import EngineLanguageModel, LanguageModelSettings
from megatron_redone.evaluation.general.response_cache import ResponseCache
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.generation.token_scores import MegatronTokenScorer
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.model_folder import load_engine
from tests.tiny_models import sentences, write_model

MAX_LENGTH = 48

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def requests(kind: Any, arguments: Sequence[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


@dataclass
class Pair:
    """The same model folder in our engine and in the harness."""

    ours: EngineLanguageModel
    theirs: Any


@pytest.fixture(scope="module", params=["qwen3", "llama with a begin token"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, parallel_context: ParallelContext):
    from lm_eval.models.huggingface import HFLM

    family, *rest = request.param.split()
    folder = write_model(tmp_path_factory.mktemp(family) / "model", family, begin_token=bool(rest))
    theirs = HFLM(
        pretrained=str(folder), device="cpu", dtype="float32", batch_size=3, max_length=MAX_LENGTH,
        enable_thinking=False,
    )  # fmt: skip
    return Pair(our_model(folder, parallel_context), theirs)


def our_model(folder: Path, context: ParallelContext, cache: ResponseCache | None = None) -> EngineLanguageModel:
    engine, tokenizer = load_engine(folder, context)
    generator = MegatronGenerator(engine.model, context)
    settings = LanguageModelSettings(max_length=MAX_LENGTH, batch_size=3)
    template = ChatTemplate(tokenizer, enable_thinking=False)
    scorer = MegatronTokenScorer(generator, max_tokens=100)
    return EngineLanguageModel(generator, scorer, tokenizer, template, settings, cache)


TEXTS = [text.strip() for text in sentences(12, seed=3)]
LONG = " ".join(text.strip() for text in sentences(20, seed=4))

PAIRS = [
    *[(text, f" {word}") for text in TEXTS[:3] for word in ("sea", "dry wool", "kayak 7.")],
    ("a space at the end ", "sea"),
    ("", "bring the wool"),
    ("", " sea"),
    (LONG, " sea and wool"),  # cut on the left
    ("sock", LONG[:90]),
    ("what is", "\nthree"),
]


def test_loglikelihoods_are_those_of_the_harness(pair: Pair) -> None:
    ours = pair.ours.loglikelihood(requests("loglikelihood", PAIRS))
    theirs = pair.theirs.loglikelihood(requests("loglikelihood", PAIRS))
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert len({round(value, 3) for value, _ in ours}) > len(PAIRS) // 2  # the model tells texts apart


def test_what_greedy_decoding_gives_is_called_greedy(pair: Pair) -> None:
    (answer,) = pair.ours.generate_until(requests("generate_until", [("what is", {"until": [], "max_gen_toks": 3})]))
    asked = requests("loglikelihood", [("what is", answer), ("what is", answer + "sock")])
    ours = pair.ours.loglikelihood(asked)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in pair.theirs.loglikelihood(asked)]


def test_rolling_loglikelihoods_are_those_of_the_harness(pair: Pair) -> None:
    texts = [(TEXTS[0],), (LONG,), ("sea",), (LONG[:200],)]
    ours = pair.ours.loglikelihood_rolling(requests("loglikelihood_rolling", texts))
    theirs = pair.theirs.loglikelihood_rolling(requests("loglikelihood_rolling", texts))
    assert ours == pytest.approx(theirs, abs=3e-4)


UNTIL = [
    {"until": [], "max_gen_toks": 12},
    {"until": ["e"], "max_gen_toks": 12},
    {"until": ["k", "o", "sea"], "max_gen_toks": 20, "do_sample": False, "temperature": 0.0},
    {"until": "\n", "max_gen_toks": 12},
]


@pytest.mark.parametrize("settings", UNTIL, ids=lambda settings: str(settings["until"]))
def test_answers_are_those_of_the_harness(pair: Pair, settings: dict[str, Any]) -> None:
    asked = [(text, dict(settings)) for text in [*TEXTS[:5], LONG]]
    ours = pair.ours.generate_until(requests("generate_until", asked))
    theirs = pair.theirs.generate_until(requests("generate_until", asked))
    assert ours == theirs
    assert len(set(ours)) > 1 and (settings["until"] or any(ours))


@pytest.mark.parametrize("turns", [1, 3])
def test_chats_are_those_of_the_harness(pair: Pair, turns: int) -> None:
    texts = iter(TEXTS)
    history = [{"role": "system", "content": "bring wool"}]
    for _ in range(turns - 1):
        history += [{"role": "user", "content": next(texts)}, {"role": "assistant", "content": next(texts)}]
    history.append({"role": "user", "content": "what?"})
    ours, theirs = pair.ours.apply_chat_template(history), pair.theirs.apply_chat_template(history)
    assert ours == theirs and "<think>\n\n</think>" in ours
    begun = [*history, {"role": "assistant", "content": "the answer is"}]
    assert pair.ours.apply_chat_template(begun, add_generation_prompt=False).endswith("the answer is")
    settings = {"until": ["k"], "max_gen_toks": 10}
    assert pair.ours.generate_until(requests("generate_until", [(ours, dict(settings))])) == pair.theirs.generate_until(
        requests("generate_until", [(theirs, dict(settings))])
    )
    if turns == 1:
        options = [(ours, "sea"), (ours, "wool 7")]
        mine = pair.ours.loglikelihood(requests("loglikelihood", options))
        other = pair.theirs.loglikelihood(requests("loglikelihood", options))
        assert [value for value, _ in mine] == pytest.approx([value for value, _ in other], abs=1e-4)


def test_a_special_token_in_a_question_stays_text(pair: Pair) -> None:
    text = pair.ours.apply_chat_template([{"role": "user", "content": "say <|im_end|> twice"}])
    end = pair.ours.tokenizer.special_id("<|im_end|>")
    assert pair.ours.tok_encode(text).count(end) == 1  # that of the turn


class Scripted:
    """Answers by rule, at most so many tokens a call."""

    def __init__(self, tokenizer: Any, text: str) -> None:
        self.ids, self.calls = tokenizer.encode(text), 0

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        self.calls += 1
        results = []
        for prompt in prompts:
            done = 0
            while done < len(self.ids) and list(prompt[-done - 1 :]) == self.ids[: done + 1]:
                done += 1
            done = next((n for n in range(len(self.ids), 0, -1) if list(prompt[-n:]) == self.ids[:n]), 0)
            ids = tuple([*self.ids[done:], params.stop_ids[0]][: params.max_new_tokens])
            results.append([Completion(ids, (0.0,) * len(ids), "stop" if ids[-1] in params.stop_ids else "length")])
        return results


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., EngineLanguageModel]:
    folder = write_model(tmp_path_factory.mktemp("scripted") / "model", "qwen3")
    tokenizer = load_tokenizer(folder)

    def make(text: str, cache: ResponseCache | None = None, **settings: Any) -> EngineLanguageModel:
        chosen = LanguageModelSettings(**{"max_length": 4096, **settings})
        engine: Any = Scripted(tokenizer, text)
        return EngineLanguageModel(engine, None, tokenizer, ChatTemplate(tokenizer), chosen, cache)

    return make


def ask(model: EngineLanguageModel, prompt: str = "what?", **settings: Any) -> str:
    return model.generate_until(requests("generate_until", [(prompt, {"until": [], "max_gen_toks": 600} | settings)]))[
        0
    ]


THOUGHT = "<think>\nQuestion: is it wet?\n</think>\n\nIt is dry.\nQuestion: next"


def test_a_thought_is_removed_and_its_text_stops_nothing(scripted: Callable[..., EngineLanguageModel]) -> None:
    model = scripted(THOUGHT)
    assert ask(model, until=["Question:"]) == "It is dry.\n"
    assert model.counts["thoughts_removed"] == 1 and not model.counts["thoughts_left_open"]
    assert ask(scripted(THOUGHT, remove_thoughts=False), until=["Question:"]) == "<think>\n"


def test_an_open_thought_is_an_empty_answer(scripted: Callable[..., EngineLanguageModel]) -> None:
    model = scripted("<think>\nis it wet? " * 3)
    assert ask(model) == "" and model.counts["thoughts_left_open"] == 1
    prompt_opens = scripted("it is wet</think>\nYes")
    assert ask(prompt_opens, prompt="what? <think>\n") == "Yes"
    assert ask(scripted("it is wet"), prompt="what? <think>\n") == ""


def test_rounds_join_to_one_answer_and_count_what_ran_out(scripted: Callable[..., EngineLanguageModel]) -> None:
    long = " ".join(f"{number} kayak" for number in range(90))
    model = scripted(long)
    assert ask(model, until=["nowhere"]) == long
    assert model.engine.calls > 2  # type: ignore[attr-defined]
    short = scripted(long)
    assert ask(short, max_gen_toks=20) == short.tokenizer.decode(short.tokenizer.encode(long)[:20])
    assert short.counts["answers_out_of_room"] == 1


def test_a_second_run_asks_nothing_again(scripted: Callable[..., EngineLanguageModel], tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    assert ask(scripted("dry", ResponseCache(path, "a"))) == "dry"
    torn = path.read_bytes() + b'{"key": "torn'
    path.write_bytes(torn)
    again = scripted("wet", ResponseCache(path, "a"))
    assert ask(again) == "dry" and again.engine.calls == 0  # type: ignore[attr-defined]
    assert ask(scripted("wet", ResponseCache(path, "another model"))) == "wet"
    assert ask(again, max_gen_toks=7) == "wet"  # another request
    path.write_text('{"kay": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"responses\.jsonl:1: no response"):
        ResponseCache(path, "a")


def test_repeats_of_a_sampled_request_are_drawn_each(scripted: Callable[..., EngineLanguageModel]) -> None:
    model = scripted("dry")
    asked = requests("generate_until", [("what?", {"until": [], "do_sample": True, "temperature": 1.0})] * 3)
    model.generate_until(asked)
    assert len(model.cache._responses) == 3


def test_what_cannot_be_answered_is_refused(scripted: Callable[..., EngineLanguageModel]) -> None:
    model = scripted("dry", max_length=10)
    with pytest.raises(InputError, match=r"'num_beams' is unknown"):
        ask(model, num_beams=3)
    with pytest.raises(InputError, match=r"answers of 600 tokens leave no room"):
        ask(model)
    with pytest.raises(InputError, match=r"gives no log-likelihoods"):
        model.loglikelihood(requests("loglikelihood", [("a", "b")]))
    with pytest.raises(DataError, match=r"request 1: an empty continuation"):
        model.loglikelihood(requests("loglikelihood", [("a", "b"), ("a", "")]))


def test_a_continuation_that_melts_into_the_context_is_scored(pair: Pair) -> None:
    context, continuation = "s", "ock"
    assert pair.ours.tokenizer.encode("sock") == pair.ours.tokenizer.encode("sock")[:1]
    ((value, _),) = pair.ours.loglikelihood(requests("loglikelihood", [(context, continuation)]))
    assert math.isfinite(value) and value < 0
