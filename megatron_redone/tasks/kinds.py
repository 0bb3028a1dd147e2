"""Kinds of tasks: constructors that tie a form of answer to its parser, its writer and the words that ask for it.

Each takes what is asked (`ask`, by language), the fields, and further attributes of `Task` by name. The labels of a
choice are a field with a default: a row may bring its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.scoring.normalise import tidy
from megatron_redone.scoring.pattern import read_level
from megatron_redone.scoring.ranking import PairwiseOrder
from megatron_redone.scoring.set_f1 import LevelF1, SetF1
from megatron_redone.tasks import answer_lists as lists, answers
from megatron_redone.tasks.base import Field, Row, Task
from megatron_redone.tasks.prompts import LANGUAGES, ByLanguage, compose

TITLE = Field("title", allow_empty=True)
CONTENT = Field("content", allow_empty=True)
NOTE_FIELDS = (TITLE, CONTENT)

Check = Callable[[Row], list[str]]


def label_set(en: Sequence[str], zh: Sequence[str], name: str = "labels") -> Field:
    """The labels of a task in both languages, in one order; a row may bring others."""
    return Field(name, "texts", default={"en": tuple(en), "zh": tuple(zh)})


def check_note(row: Row) -> list[str]:
    """A post needs a title or a content."""
    if row.fields["title"].strip() or row.fields["content"].strip():
        return []
    return ["fields 'title' and 'content' are both empty"]


def make_task(
    name: str,
    capability: str,
    ask: ByLanguage,
    fields: Sequence[Field],
    form: ByLanguage,
    *,
    checks: Sequence[Check] = (),
    check: Check | None = None,
    **settings: Any,
) -> Task:
    """A task with composed prompts; where the fields are a post's, that it is not empty is checked first."""
    given: list[Check] = [check_note] if TITLE in fields and CONTENT in fields else []
    given.extend([*checks, *([check] if check else [])])
    return Task(
        name=name,
        capability=capability,
        languages=LANGUAGES,
        fields=tuple(fields),
        templates=compose(ask, fields, form),
        check=(lambda row: [problem for check in given for problem in check(row)]) if given else None,
        **settings,
    )


def quoted_in(*fields: Field, column: int | None = None) -> Check:
    """Every gold item (or one of its columns) stands word for word in one of the fields."""

    def check(row: Row) -> list[str]:
        values = [field.value(row) for field in fields]
        texts = [tidy(" ".join(value) if isinstance(value, list | tuple) else value) for value in values]
        names = " or ".join(repr(field.name) for field in fields)
        parts = [item if column is None else item.split("|")[column].strip() for item in row.answer]
        return [
            f"gold {part!r} does not stand in {names}"
            for part in parts
            if not any(tidy(part) in text for text in texts)
        ]

    return check


def choose_label(
    name: str, capability: str, ask: ByLanguage, fields: Sequence[Field], labels: Field, **more: Any
) -> Task:
    """One label of several; exact match."""
    form = {"en": "Reply with one of these labels and nothing else.", "zh": "只回复其中一个标签。"}
    options = answers.options_of(labels)
    return make_task(
        name,
        capability,
        ask,
        (*fields, labels),
        form,
        answer_format="choice",
        reward_kind="exact_match",
        parser=answers.parse_choice(options),
        scorer=ExactMatch(),
        formatter=answers.plain_text,
        format_rule="one of the labels",
        options=options,
        **more,
    )


def choose_labels(
    name: str, capability: str, ask: ByLanguage, fields: Sequence[Field], labels: Field, *, none: bool, **more: Any
) -> Task:
    """All labels that apply, or `none` where that is allowed; set F1."""
    form = {"en": "Reply with all that apply, separated by commas", "zh": "回复所有适用的，用逗号分隔"}
    form = _or_none(form) if none else {"en": form["en"] + ".", "zh": form["zh"] + "。"}
    options = answers.options_of(labels)
    parser = lists.parse_labels(options)
    return make_task(
        name,
        capability,
        ask,
        (*fields, labels),
        form,
        answer_format="choice",
        reward_kind="metric",
        parser=lists.or_none(parser) if none else parser,
        scorer=SetF1(),
        formatter=lists.commas_or_none if none else answers.comma_list,
        format_rule="labels separated by commas, on one line" + (", or none (无)" if none else ""),
        answer_kind="texts",
        canonical=answers.without_repeats,
        options=options,
        allow_empty_answer=none,
        empty_text=lists.NONE_WORDS["en"] if none else "",
        **more,
    )


def yes_or_no(name: str, capability: str, ask: ByLanguage, fields: Sequence[Field], **more: Any) -> Task:
    """Yes or No (是 or 否); exact match."""
    form = {"en": "Reply with Yes or No and nothing else.", "zh": "只回复“是”或“否”。"}
    return make_task(
        name,
        capability,
        ask,
        fields,
        form,
        answer_format="choice",
        reward_kind="exact_match",
        parser=answers.parse_choice(answers.yes_no),
        scorer=ExactMatch(),
        formatter=answers.plain_text,
        format_rule="Yes or No (是 or 否)",
        canonical=answers.yes_no_answer,
        options=answers.yes_no,
        **more,
    )


def choose_letter(
    name: str, capability: str, ask: ByLanguage, fields: Sequence[Field], items: str, **more: Any
) -> Task:
    """The letter of one item of a lettered list field; exact match."""
    form = {"en": "Reply with one letter and nothing else.", "zh": "只回复一个字母。"}
    fields = (*fields, Field(items, "texts", joined="letters"))
    options = answers.letters_of(items)
    return make_task(
        name,
        capability,
        ask,
        fields,
        form,
        answer_format="choice",
        reward_kind="exact_match",
        parser=answers.parse_letter(options),
        scorer=ExactMatch(),
        formatter=answers.plain_text,
        format_rule="the letter of one item",
        options=options,
        **more,
    )


def choose_letters(
    name: str, capability: str, ask: ByLanguage, fields: Sequence[Field], items: str, **more: Any
) -> Task:
    """The letters of all items that fit, or `none`; set F1."""
    form = _or_none({"en": "Reply with their letters, such as A, C", "zh": "回复字母，如 A, C"})
    fields = (*fields, Field(items, "texts", joined="letters"))
    options = answers.letters_of(items)
    return make_task(
        name,
        capability,
        ask,
        fields,
        form,
        answer_format="choice",
        reward_kind="metric",
        parser=lists.or_none(lists.parse_letters(options)),
        scorer=SetF1(),
        formatter=lambda gold, row: answers.letter_list(gold, row) if gold else lists.NONE_WORDS[row.language],
        format_rule="letters of the items separated by commas, or none (无)",
        answer_kind="texts",
        canonical=lists.sorted_letters,
        options=options,
        allow_empty_answer=True,
        empty_text=lists.NONE_WORDS["en"],
        **more,
    )


def order_letters(
    name: str, capability: str, ask: ByLanguage, fields: Sequence[Field], items: str, **more: Any
) -> Task:
    """All letters of a lettered list field in order; share of pairs in the right order."""
    form = {"en": "Reply with all letters in order, such as B, A, C.", "zh": "按顺序回复全部字母，如 B, A, C。"}
    fields = (*fields, Field(items, "texts", joined="letters"))
    options = answers.letters_of(items)
    return make_task(
        name,
        capability,
        ask,
        fields,
        form,
        checks=(check_ranking(items),),
        answer_format="choice",
        reward_kind="metric",
        parser=answers.parse_ranking(options),
        scorer=PairwiseOrder(),
        formatter=answers.letter_list,
        format_rule="all letters, each once, like `B, A, C`",
        answer_kind="texts",
        options=options,
        **more,
    )


def check_ranking(items: str) -> Check:
    """The gold order names every item once."""

    def check(row: Row) -> list[str]:
        wanted = answers.letters_of(items)(row)[0]
        return [] if sorted(row.answer) == wanted else [f"answer must rank all of {', '.join(wanted)}, each once"]

    return check


def grade(
    name: str, capability: str, ask: ByLanguage, fields: Sequence[Field], levels: tuple[int, ...], **more: Any
) -> Task:
    """One level of an ordered scale, which `ask` explains; F1 by level."""
    shown = {"en": ", ".join(map(str, levels)), "zh": "、".join(map(str, levels))}
    form = {"en": f"Reply with one of {shown['en']} and nothing else.", "zh": f"只回复{shown['zh']}中的一个数字。"}
    return make_task(
        name,
        capability,
        ask,
        fields,
        form,
        answer_format="choice",
        reward_kind="metric",
        parser=lambda answer, row: read_level(answer, levels),
        scorer=LevelF1(levels),
        formatter=answers.plain_text,
        format_rule=f"one of {shown['en']}",
        answer_kind="integer",
        options=lambda row: [[str(level) for level in levels]],
        **more,
    )


def _or_none(form: ByLanguage) -> dict[str, str]:
    return {"en": form["en"] + "; or none.", "zh": form["zh"] + "；没有则回复无。"}
