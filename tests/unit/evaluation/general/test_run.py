"""General-Bench on made rows: what runs, what is missing, and what right and wrong answers score."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DataError, InputError, SandboxUnavailableError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.evaluation.general.benchmarks import BENCHMARKS, TASKS_FOLDER, select
from megatron_redone.evaluation.general.language_model import EngineLanguageModel, LanguageModelSettings
from megatron_redone.evaluation.general.result import benchmark_result, failures
from megatron_redone.evaluation.general.run import GeneralSettings, TaskOutcome, run_general_bench
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.token_scores import Continuation, ContinuationScore
from megatron_redone.reporting.evaluation_page import Published, evaluation_html
from megatron_redone.scoring.unit_tests import check_sandbox
from tests.tiny_models import write_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUESTIONS = [(f"Kim has {n} socks and gets {n} more. How many?", n + n) for n in (3, 5, 1100)]
CHOICES = [(f"Which is number {n}?", ["dry", "wet", "wool", "sea"], n % 4) for n in range(5)]
FUNCTION = 'def twice(n):\n    """Two times n."""\n'
ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k/test.jsonl": [{"question": q, "answer": f"It is {a}.\n#### {a:,}"} for q, a in QUESTIONS],
    "gsm8k/train.jsonl": [{"question": "What is 1 + 1?", "answer": "1 + 1 = 2\n#### 2"}],
    "math500/test.jsonl": [{"question": r"What is $\frac{1}{4}$ twice?", "answer": r"So $\boxed{\frac{1}{2}}$."}],
    "aime2025/test.jsonl": [{"problem": "What is 7 times 10?", "answer": 70}],
    "mmlu/test.jsonl": [{"question": q, "choices": c, "answer": a} for q, c, a in CHOICES],
    "mmlu/dev.jsonl": [{"question": "Which is warm?", "choices": ["wool", "sea"], "answer": "A"}],
    "bbh/test.jsonl": [{"input": "not ( True ) is", "target": "False"}],
    "wmt24/test.jsonl": [
        {"source": "The socks are dry now.", "target": "袜子现在干了。",
         "source_language": "English", "target_language": "Chinese"},
    ],
    "ifeval/input_data.jsonl": [
        {
            "key": 1,
            "prompt": "Name two things. No commas.",
            "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_highlighted_sections"],
            "kwargs": [{}, {"num_highlights": 1}],
        }
    ],
    "humaneval/HumanEval.jsonl.gz": [
        {
            "task_id": "HumanEval/0",
            "prompt": FUNCTION,
            "entry_point": "twice",
            "canonical_solution": "    return 2 * n\n",
            "test": "def check(candidate):\n    assert candidate(4) == 8\n",
        }
    ],
}  # fmt: skip
RIGHT = {
    "gsm8k": [f"So \\boxed{{{a}}}." for _, a in QUESTIONS],
    "math500": ["The answer is \\boxed{0.5}"],
    "aime2025": ["7 * 10 = 70"],
    "bbh": ["True is not False. The answer is False."],
    "wmt24": ["袜子现在干了。"],
    "ifeval": ["*Socks* and wool."],
    "humaneval": ["```python\ndef twice(n):\n    return n + n\n```"],
}
WRONG = {
    "gsm8k": ["\\boxed{7}"] * 3, "math500": ["\\boxed{2}"], "aime2025": ["71"], "bbh": ["True"], "wmt24": ["no"],
    "ifeval": ["Socks, wool"], "humaneval": ["```python\ndef twice(n):\n    return n\n```"],
}  # fmt: skip


def has_sandbox() -> bool:
    try:
        check_sandbox()
    except SandboxUnavailableError:
        return False
    return True


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, rows in ROWS.items():
        write_rows(tmp_path / name, rows)
    return tmp_path


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


class Author:
    """Answers questions it knows, and likes the right letters, or the wrong ones."""

    def __init__(self, tokenizer: Any, answers: dict[str, list[str]], right: bool) -> None:
        self.tokenizer, self.right, self.prompts = tokenizer, right, []
        firsts = {
            "gsm8k": [q for q, _ in QUESTIONS], "math500": ["frac{1}{4}"], "aime2025": ["7 times 10"],
            "bbh": ["not ( True )"], "wmt24": ["The socks are dry"], "ifeval": ["No commas"],
            "humaneval": ["def twice"],
        }  # fmt: skip
        self.known = {q: a for task, questions in firsts.items() for q, a in zip(questions, answers[task], strict=True)}

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        completions = []
        for prompt in prompts:
            text = self.tokenizer.decode(prompt)
            self.prompts.append(text)
            (answer,) = [answer for question, answer in self.known.items() if question in text]
            ids = (*self.tokenizer.encode(answer), params.stop_ids[0])
            completions.append([Completion(ids, (0.0,) * len(ids), "stop")])
        return completions

    def score(self, continuations: Sequence[Continuation]) -> list[ContinuationScore]:
        scores = []
        for continuation in continuations:
            text = self.tokenizer.decode(continuation.context)
            self.prompts.append(text)
            gold = next(a for q, _, a in CHOICES if q in text)
            is_gold = self.tokenizer.decode(continuation.tokens).strip() == "ABCD"[gold]
            scores.append(ContinuationScore((-1.0 if is_gold == self.right else -2.0,), False))
        return scores


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., EngineLanguageModel]:
    folder = tmp_path_factory.mktemp("author")
    write_tokenizer(folder)
    tokenizer = load_tokenizer(folder)

    def make(right: bool, chat: bool = True) -> EngineLanguageModel:
        engine: Any = Author(tokenizer, RIGHT if right else WRONG, right)
        template = ChatTemplate(tokenizer) if chat else None
        settings = LanguageModelSettings(max_length=8192)
        return EngineLanguageModel(engine, engine, tokenizer, template, settings)

    return make


CODELESS = "gsm8k,math500,aime2025,mmlu,bbh,wmt24,ifeval"


@pytest.mark.parametrize("chat", [True, False])
def test_right_answers_score_full_marks_and_wrong_ones_none(
    chat: bool, data: Path, author: Callable[..., EngineLanguageModel]
) -> None:
    names = CODELESS + (",humaneval" if has_sandbox() else "")
    for right, expected in ((True, 100.0), (False, 0.0)):
        outcomes, missing = run_general_bench(author(right, chat), select([names]), data, GeneralSettings(chat=chat))
        assert missing == {}
        assert {name: outcome.score for name, outcome in outcomes.items()} == {
            name: pytest.approx(expected) for name in outcomes
        }
        assert set(outcomes) == set(names.split(","))
        assert [item.value for item in outcomes["gsm8k"].items] == [expected / 100] * 3
        assert [item.index for item in outcomes["mmlu"].items] == list(range(5))
    assert outcomes["ifeval"].items[0].statistics["instruction_level_strict"] == 0.0


def test_a_chat_is_asked_in_the_template_with_examples_as_turns(
    data: Path, author: Callable[..., EngineLanguageModel]
) -> None:
    model = author(True)
    settings = GeneralSettings(num_fewshot=1, limit=2, system="Be brief.")
    outcomes, _ = run_general_bench(model, select(["gsm8k"]), data, settings)
    assert outcomes["gsm8k"].num_fewshot == 1 and len(outcomes["gsm8k"].items) == 2
    sample = outcomes["gsm8k"].outputs[0]["prompt"]
    assert sample.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nProblem: What is 1 + 1?")
    assert "#### 2<|im_end|>\n<|im_start|>user\nProblem: Kim has 3 socks" in sample


def test_both_papers_name_21_benchmarks_and_what_cannot_run_is_said(
    data: Path, author: Callable[..., EngineLanguageModel]
) -> None:
    (data / "humaneval" / "HumanEval.jsonl.gz").unlink()
    selection = select(["redone2-general"])
    assert len(selection.benchmarks) == len(BENCHMARKS) == 21
    outcomes, missing = run_general_bench(author(True), selection, data, GeneralSettings(limit=1))
    assert set(outcomes) == set(CODELESS.split(",")) and len(missing) == 21 - 7
    assert missing["HumanEval"] == "no file humaneval/HumanEval.jsonl.gz in the folder of data"
    assert missing["LiveCodeBench"].startswith("no task for it")
    assert outcomes["ifeval"].outputs[0]["reason"].startswith("prompt_level_strict 1, instruction_level_strict 2 of 2")
    outcomes["gsm8k"].score, outcomes["gsm8k"].items[0] = 0.0, _worth(outcomes["gsm8k"], 0.0)
    result = benchmark_result(outcomes, missing, selection, label="model", settings={"limit": 1})
    assert result.score == pytest.approx(600 / 7, abs=1e-3)
    assert result.groups["mathematics"] == pytest.approx(200 / 3, abs=1e-3)
    assert "knowledge reasoning" in result.groups and "code" not in result.groups
    assert result.missing == tuple(missing) and "HumanEval" in result.score_rule
    lost = failures(outcomes)
    assert [(row.file, row.index, row.gold) for row in lost] == [("gsm8k", 0, "It is 6.\n#### 6")]
    page = evaluation_html(result, lost, {}, Published("", {}))
    assert "HumanEval" in page and "math match" in page and "Kim has 3 socks" in page


def _worth(outcome: TaskOutcome, value: float) -> Any:
    item = outcome.items[0]
    return type(item)(item.task, item.index, value, True, item.statistics)


def test_nothing_to_run_and_unknown_names_are_refused(data: Path, author: Callable[..., EngineLanguageModel]) -> None:
    with pytest.raises(InputError, match=r"no task can be run \(CMMLU: no file cmmlu/test\.jsonl"):
        run_general_bench(author(True), select(["cmmlu"]), data, GeneralSettings())
    with pytest.raises(InputError, match=r"--tasks gsm8kk: unknown"):
        select(["gsm8k,gsm8kk"])
    with pytest.raises(InputError, match=r"is a whole set"):
        select(["gsm8k", "redone-general"])
    with pytest.raises(InputError, match=r"--tasks names nothing"):
        select([" "])


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("gsm8k/test.jsonl", {"question": "q"}, r"test\.jsonl:1: field 'answer' is missing"),
        ("gsm8k/test.jsonl", {"question": "q", "answer": "none"}, r"test\.jsonl:1: the answer holds no number"),
        ("gsm8k/test.jsonl", {"question": " ", "answer": "1"}, r"test\.jsonl:1: field 'question' is no text"),
        ("gsm8k/test.jsonl", {"question": "\ud83d", "answer": "1"}, r"test\.jsonl:1: .*surrogate"),
        ("mmlu/test.jsonl", {"question": "q", "choices": ["a"], "answer": 0}, r":1: choices must be a list of 2 to 26"),
        ("mmlu/test.jsonl", {"question": "q", "choices": ["a", "b"], "answer": "C"}, r":1: answer 'C' is none"),
        ("mmlu/test.jsonl", {"question": "q", "choices": ["a", "b"], "answer": True}, r":1: answer True is none"),
        ("ifeval/input_data.jsonl", {"key": 1, "prompt": "p", "instruction_id_list": ["a:b"], "kwargs": [{}]},
         r"input_data\.jsonl:1: 'a:b' is no instruction"),
        ("humaneval/HumanEval.jsonl.gz", {"task_id": "x"}, r"HumanEval\.jsonl\.gz:1: no problem of humaneval"),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_with_file_and_line(
    file: str, row: dict[str, Any], message: str, data: Path, author: Callable[..., EngineLanguageModel]
) -> None:
    write_rows(data / file, [row])
    (name,) = [name for name, benchmark in BENCHMARKS.items() if benchmark.file == file]
    with pytest.raises(DataError, match=message):
        run_general_bench(author(True), select([name]), data, GeneralSettings())


def test_every_benchmark_with_a_file_has_a_task_and_every_task_a_benchmark() -> None:
    assert {path.stem for path in TASKS_FOLDER.glob("*.yaml")} == {b.name for b in BENCHMARKS.values() if b.file}


def test_published_files_are_read(real_data: Path) -> None:
    from megatron_redone.evaluation.general import documents

    read = {
        "gsm8k": documents.questions_with_solutions, "math500": documents.questions_with_solutions,
        "ifeval": documents.instructions, "humaneval": documents.humaneval, "mbpp": documents.mbpp,
    }  # fmt: skip
    sizes = {name: len(function(str(real_data), name)["test"]) for name, function in read.items()}
    assert sizes == {"gsm8k": 1319, "math500": 500, "ifeval": 541, "humaneval": 164, "mbpp": 500}
