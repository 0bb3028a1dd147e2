"""Information extraction: tags, names, words and sentences of a text or a list of candidates."""

from __future__ import annotations

from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.scoring.normalise import tidy
from megatron_redone.scoring.set_f1 import SetF1
from megatron_redone.tasks.answers import (
    comma_list,
    list_literal,
    options_of,
    parse_choice,
    parse_commas,
    parse_list_literal,
    plain_text,
    without_repeats,
    yes_no,
    yes_no_answer,
)
from megatron_redone.tasks.base import Field, Row, Task
from megatron_redone.tasks.kinds import NOTE_FIELDS, check_note

CAPABILITY = "information_extraction"
LANGUAGES = ("en", "zh")


def _check_spans(row: Row) -> list[str]:
    """Entities are quoted from the text."""
    text = tidy(row.fields["content"])
    return [f"gold entity {span!r} does not stand in 'content'" for span in row.answer if tidy(span) not in text]


def _check_sentences(row: Row) -> list[str]:
    """Answers are original sentences: one, or several that follow one another."""
    text = tidy(" ".join(row.fields["sentences"]))
    return [
        f"gold sentence {part[:40]!r} does not stand in 'sentences'" for part in row.answer if tidy(part) not in text
    ]


HASHTAG_SINGLE = Task(
    name="hashtag_single",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=(*NOTE_FIELDS, Field("candidates", "texts")),
    templates={
        "en": "One hashtag: choose the best option.\nTitle: {title}\nNote: {content}\nOptions: {candidates}",
        "zh": "单个话题：选最合适的一个。\n标题：{title}\n正文：{content}\n选项：{candidates}",
    },
    parser=parse_choice(options_of("candidates")),
    scorer=ExactMatch(),
    formatter=plain_text,
    format_rule="the text of one option",
    options=options_of("candidates"),
    check=check_note,
    benchmark="Note-Hashtag-single",
    paper="Hashtag Prediction (Single Answer)",
)

HASHTAG_MULTIPLE = Task(
    name="hashtag_multiple",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="metric",
    fields=(*NOTE_FIELDS, Field("candidates", "texts")),
    templates={
        "en": ("All hashtags: choose, separated by commas.\nTitle: {title}\nNote: {content}\nOptions: {candidates}"),
        "zh": "多个话题：选出全部，逗号分隔。\n标题：{title}\n正文：{content}\n选项：{candidates}",
    },
    parser=parse_commas,
    scorer=SetF1(),
    formatter=comma_list,
    format_rule="options separated by commas, on one line",
    answer_kind="texts",
    canonical=without_repeats,
    options=options_of("candidates"),
    check=check_note,
    benchmark="Note-Hashtag-multiple",
    paper="Hashtag Prediction (Multiple Answer)",
)

NOTE_NER = Task(
    name="note_ner",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="extraction",
    reward_kind="metric",
    fields=(Field("entity_type"), Field("content")),
    templates={
        "en": "Entities: list each {entity_type}, separated by commas.\nText: {content}",
        "zh": "实体抽取：列出{entity_type}，逗号分隔。\n文本：{content}",
    },
    parser=parse_commas,
    scorer=SetF1(),
    formatter=comma_list,
    format_rule="spans of the text separated by commas, on one line",
    answer_kind="texts",
    canonical=without_repeats,
    check=_check_spans,
    benchmark="Note-NER",
    paper="Note NER (SNS-Bench)",
)

HIGHLIGHT_WORDS = Task(
    name="highlight_words",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="extraction",
    reward_kind="metric",
    fields=(Field("comment"), Field("candidates", "texts", joined="literal", allow_empty=True)),
    templates={
        "en": "Highlight words: a list like ['a', 'b'] or [].\nComment: {comment}\nOptions: {candidates}",
        "zh": "高亮词：列表如 ['a', 'b'] 或 []。\n评论：{comment}\n选项：{candidates}",
    },
    parser=parse_list_literal,
    scorer=SetF1(),
    formatter=list_literal,
    format_rule="a list like ['a', 'b'], or []",
    answer_kind="texts",
    canonical=without_repeats,
    options=options_of("candidates"),
    allow_empty_answer=True,
    empty_text="[]",
    benchmark="Note-CHLW",
    paper="Highlight words of comments (SNS-Bench)",
)

MRC_SIMPLE = Task(
    name="mrc_simple",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="extraction",
    reward_kind="metric",
    fields=(Field("query"), Field("sentences", "texts", joined="lines")),
    templates={
        "en": "Reading: list original sentences like ['a', 'b'], or [].\nQuery: {query}\nNote:\n{sentences}",
        "zh": "阅读理解：原句列表如 ['a', 'b'] 或 []。\n查询：{query}\n正文：\n{sentences}",
    },
    parser=parse_list_literal,
    scorer=SetF1(),
    formatter=list_literal,
    format_rule="a list of original sentences like ['a', 'b'], or []",
    answer_kind="texts",
    canonical=without_repeats,
    options=options_of("sentences"),
    gold_in_options=False,
    allow_empty_answer=True,
    check=_check_sentences,
    empty_text="[]",
    benchmark="Note-MRC-simple",
    paper="Machine Reading Comprehension (Simple)",
)

QUESTION_DOCUMENT_MATCH = Task(
    name="question_document_match",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=(Field("question"), Field("document")),
    templates={
        "en": "Document answers question: Yes or No?\nQuestion: {question}\nDocument: {document}",
        "zh": "文档能否回答：是或否？\n问题：{question}\n文档：{document}",
    },
    parser=parse_choice(yes_no),
    scorer=ExactMatch(),
    formatter=plain_text,
    format_rule="Yes or No (是 or 否)",
    canonical=yes_no_answer,
    options=yes_no,
    paper="Question-Document Match",
)

TASKS = (
    HASHTAG_SINGLE,
    HASHTAG_MULTIPLE,
    NOTE_NER,
    HIGHLIGHT_WORDS,
    MRC_SIMPLE,
    QUESTION_DOCUMENT_MATCH,
)
