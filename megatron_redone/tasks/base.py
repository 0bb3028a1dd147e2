"""Row and Task: one declaration per task that evaluation, reward, diagnosis and training data all use.

A `Row` is one question with its gold answer, as a JSON object in a JSONL file. A `Task` turns a row into chat
messages (`render`), writes the gold answer as the assistant would (`target`), reads an answer back (`parse`)
and scores it (`score`). `validate` refuses a row whose own gold answer could not earn full marks, so a task
cannot ask for what its parser rejects.

Thinking: a row with a rationale asks for a thought in the last line of its prompt (`THOUGHT_REQUESTS`), and its target
has one; so training, rewards and evaluation ask for what they teach. An answer to any row may open with
`<think>...</think>`. Only what follows the last `</think>` is the answer; a `<think>` that is not closed is a format
failure. Templates that open the thought in the prompt leave `</think>` alone in the completion, which is read the
same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from megatron_redone.common.errors import DataError
from megatron_redone.data.conversation import THINK_CLOSE, THINK_OPEN, Message, check_unicode
from megatron_redone.scoring.base import Score, Scorer
from megatron_redone.tasks.fields import Field
from megatron_redone.tasks.row import Row, nearest

__all__ = [
    "Field",
    "Message",
    "Row",
    "Task",
    "answer_after_thought",
    "gold_answer",
    "with_thought",
]

MAX_ANSWER_CHARACTERS = 50_000

THOUGHT_REQUESTS = {
    "en": f"Think first, inside {THINK_OPEN}{THINK_CLOSE}, then answer.",
    "zh": f"先在{THINK_OPEN}{THINK_CLOSE}里思考，再回答。",
}
"""What the prompt of a row with a rationale ends with."""

AnswerKind = Literal["text", "texts", "integer", "number"]
AnswerFormat = Literal["choice", "extraction", "generation"]
RewardKind = Literal["exact_match", "metric", "pattern", "sandbox"]


def answer_after_thought(text: str) -> str | None:
    """What follows the last `</think>` (all of a text without one), trimmed; None for an open thought."""
    _, _, rest = text.rpartition(THINK_CLOSE)
    return None if THINK_OPEN in rest else rest.strip()


def with_thought(answer: str, rationale: str | None) -> str:
    """The assistant's turn: the answer, after its thought if there is one (laid out as Qwen3 does)."""
    return answer if rationale is None else f"{THINK_OPEN}\n{rationale.strip()}\n{THINK_CLOSE}\n\n{answer}"


def gold_answer(row: Row) -> Any:
    """`Row.answer`; a sequence as a list."""
    return list(row.answer) if isinstance(row.answer, list | tuple) else row.answer


@dataclass(frozen=True, eq=False)
class Task:
    """One task of the catalogue.

    Attributes:
        name, capability: as in the catalogue.
        languages: languages that have a template.
        answer_format: choice, extraction or generation.
        reward_kind: how the paper would class its reward.
        fields: the fields of a row.
        templates: the user's turn by language, with `{name}` for each shown field.
        parser: reads an answer without its thought (trimmed, not empty); None where the format is not kept.
        scorer: reward and metric.
        formatter: writes a gold answer of a row in the asked format.
        format_rule: the asked format in words, for the reason of a refused answer.
        answer_kind: type of `Row.answer`.
        canonical: the gold answer of a row as the parser returns it.
        reference: what the scorer compares with, if it is not the gold answer.
        options: the choices of a row: one list per slot of the answer; None for open answers.
        gold_in_options: whether the gold answer must be among the options.
        allow_empty_answer: whether an empty list (or, for a text, "": a row without a gold answer, which rewards and
            evaluation can use and training on gold answers refuses) is a valid gold answer.
        check: further problems of a row with valid fields, task by task.
        empty_text: the shortest answer that says "nothing", for the always-empty baseline.
        benchmark: name of the SNS-Bench or SNS-TransBench file that asks the same, "" if none does.
        paper: what the papers call it (RedOne: table 1 and appendix A; RedOne 2.0: section 4), "" for ours.
    """

    name: str
    capability: str
    languages: tuple[str, ...]
    answer_format: AnswerFormat
    reward_kind: RewardKind
    fields: tuple[Field, ...]
    templates: Mapping[str, str]
    parser: Callable[[str, Row], Any | None]
    scorer: Scorer
    formatter: Callable[[Any, Row], str]
    format_rule: str
    answer_kind: AnswerKind = "text"
    canonical: Callable[[Row], Any] = gold_answer
    reference: Callable[[Row], Any] | None = None
    options: Callable[[Row], list[list[str]]] | None = None
    gold_in_options: bool = True
    allow_empty_answer: bool = False
    check: Callable[[Row], list[str]] | None = None
    empty_text: str = ""
    benchmark: str = ""
    paper: str = ""

    def render(self, row: Row) -> list[Message]:
        """The chat up to and including the user's turn, which asks for a thought where the row has a rationale.

        The row must be valid (`validate`).
        """
        shown = {item.name: item.text(row) for item in self.fields if item.shown}
        question = self.templates[row.language].format(**shown)
        request = "" if row.rationale is None else f"\n{THOUGHT_REQUESTS[row.language]}"
        return [{"role": "user", "content": question + request}]

    def template_text(self, language: str) -> str:
        """The template as a person reads it: braces that stand for themselves are single."""
        return self.templates[language].replace("{{", "{").replace("}}", "}")

    def answer_text(self, row: Row) -> str:
        """The gold answer in the asked format, without a thought."""
        return self.formatter(self.gold(row), row)

    def target(self, row: Row) -> str:
        """The gold answer as the assistant writes it, after its thought where the row has a rationale."""
        return with_thought(self.answer_text(row), row.rationale)

    def gold(self, row: Row) -> Any:
        """The gold answer as `parse` returns it."""
        return self.canonical(row)

    def parse(self, text: str, row: Row) -> Any | None:
        """The answer in a model's text, or None where it does not keep the format; raises on no text."""
        answer = answer_after_thought(text)
        if not answer or len(answer) > MAX_ANSWER_CHARACTERS:
            return None
        return self.parser(answer, row)

    def score(self, texts: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """One score per text and row, in order; an unreadable answer scores 0 and says why.

        Raises:
            ValueError: the two lengths differ.
        """
        predictions = [self.parse(text, row) for text, row in zip(texts, rows, strict=True)]
        scores = self.scorer.score(predictions, [(self.reference or self.canonical)(row) for row in rows])
        return [
            score if score.parsed else replace(score, reason=self._failure(text))
            for score, text in zip(scores, texts, strict=True)
        ]

    def validate(self, row: Row) -> list[str]:
        """Every problem of the row, each in a sentence; empty for a valid row."""
        if row.task != self.name:
            return [f"task is {row.task!r}, expected {self.name!r}"]
        if row.language not in self.templates:
            return [f"language {row.language!r} is not one of {', '.join(self.languages)}"]
        names = {item.name: item for item in self.fields}
        problems = [f"unknown field {name!r}{nearest(name, names)}" for name in row.fields if name not in names]
        problems += [problem for item in self.fields for problem in item.problems(row)]
        problems += _answer_problems(self, row)
        if problems:
            return problems
        problems = _option_problems(self, row) + (self.check(row) if self.check else [])
        return problems or _format_problems(self, row)

    def _failure(self, text: str) -> str:
        answer = answer_after_thought(text)
        if answer is None:
            return f"format failure: the thought is not closed by {THINK_CLOSE}"
        if not answer:
            return "format failure: empty answer"
        if len(answer) > MAX_ANSWER_CHARACTERS:
            return f"format failure: {len(answer)} characters, at most {MAX_ANSWER_CHARACTERS} are read"
        return f"format failure: expected {self.format_rule}"


def _answer_problems(task: Task, row: Row) -> list[str]:
    """The type of the gold answer, and whether it is empty."""
    answer, found = row.answer, type(row.answer).__name__
    if task.answer_kind == "texts":
        if not isinstance(answer, list | tuple) or not all(isinstance(item, str) for item in answer):
            return [f"answer is {found}, expected a list of texts"]
        if not answer and not task.allow_empty_answer:
            return ["answer is an empty list; this task asks for at least one item"]
        return ["answer has an empty item"] if not all(item.strip() for item in answer) else []
    if task.answer_kind == "integer":
        return [] if type(answer) is int else [f"answer is {answer!r}, expected an integer"]
    if task.answer_kind == "number" and type(answer) is int:
        return []
    if not isinstance(answer, str):
        return [f"answer is {found}, expected a text"]
    return [] if answer.strip() or (answer == "" and task.allow_empty_answer) else ["answer is empty"]


def _option_problems(task: Task, row: Row) -> list[str]:
    """Gold answers that are not among the row's options, slot by slot."""
    if task.options is None or not task.gold_in_options:
        return []
    slots, gold = task.options(row), task.gold(row)
    items = [str(item) for item in gold] if isinstance(gold, list) else [str(gold)]
    if len(slots) == 1:
        slots = slots * len(items)
    if len(items) != len(slots):
        return [f"answer has {len(items)} items, expected {len(slots)}"]
    return [
        f"gold answer {item!r} is not among its {len(options)} options{nearest(item, options)}"
        for item, options in zip(items, slots, strict=True)
        if item not in options
    ]


def _format_problems(task: Task, row: Row) -> list[str]:
    """A gold answer that its own format or scorer refuses, such as an item with a comma in a comma list."""
    if row.rationale is not None and not row.rationale.strip():
        return ["rationale is empty; leave it out"]
    for name, text in (("answer", task.answer_text(row)), ("rationale", row.rationale or "")):
        if THINK_OPEN in text or THINK_CLOSE in text:
            return [f"{name} contains {THINK_OPEN} or {THINK_CLOSE}; a thought goes to `rationale`, untagged"]
    text = task.target(row)
    try:
        check_unicode(task.render(row)[0]["content"], "fields")
        check_unicode(text, "answer")
    except DataError as error:
        return [str(error)]
    if row.answer == "":  # let pass above, so this task has rows without a gold answer
        return ["a row without a gold answer has a rationale; leave it out"] if row.rationale else []
    if task.parse(text, row) != task.gold(row):
        return [f"the gold answer cannot be read back from the asked format: expected {task.format_rule}"]
    if task.reward_kind == "sandbox":
        return []  # a file of rows is no reason to run its code; `check` has read its syntax
    score = task.score([text], [row])[0]
    if score.value > 1.0 - 1e-9:
        return []
    return [f"the gold answer scores {score.value:.2f} by its own scorer: {score.reason}"]
