"""Online uses: re-created post titles, rewarded for the facts they keep.

RedOne 2.0 reports titles that drop key facts when they are optimised for style alone; here the reward is the
share of the listed facts that the title keeps, within a length that rules out copying the post; or, where nobody lists
facts, what is found in the original title by rules.
"""

from __future__ import annotations

from megatron_redone.scoring.faithful_rewrite import FaithfulRewrite, Original
from megatron_redone.scoring.faithfulness import FactReference, KeptFacts, has_fact
from megatron_redone.scoring.pattern import Pattern
from megatron_redone.tasks.answers import parse_line, plain_text
from megatron_redone.tasks.base import Field, Row, Task
from megatron_redone.tasks.kinds import CONTENT, NOTE_FIELDS, check_note

CAPABILITY = "online"
MAX_TITLE_WORDS = 20

_MAX_WORDS = Field("max_words", "integer", default=MAX_TITLE_WORDS)
_KEEP = Field("keep", "texts", shown=False)
_NAMES = Field("names", "texts", default=(), shown=False)


def _facts(row: Row) -> FactReference:
    pattern = Pattern(language=row.language, max_words=_MAX_WORDS.value(row), one_line=True)
    return FactReference(facts=tuple(_KEEP.value(row)), pattern=pattern)


def _check_facts(row: Row) -> list[str]:
    """A fact to keep stands in the post."""
    post = row.fields["title"] + "\n" + row.fields["content"]
    missing = [fact for fact in _KEEP.value(row) if not has_fact(post, fact)]
    return check_note(row) + [f"fact {fact!r} of 'keep' stands neither in 'title' nor in 'content'" for fact in missing]


TITLE_RECREATION = Task(
    name="title_recreation",
    capability=CAPABILITY,
    languages=("en", "zh"),
    answer_format="generation",
    reward_kind="metric",
    fields=(*NOTE_FIELDS, _KEEP, _MAX_WORDS),
    templates={
        "en": "New title: keep facts, at most {max_words} words.\nTitle: {title}\nNote: {content}",
        "zh": "新标题：保留事实，最多{max_words}字。\n标题：{title}\n正文：{content}",
    },
    parser=parse_line,
    scorer=KeptFacts(),
    formatter=plain_text,
    format_rule="one line of text",
    reference=_facts,
    check=_check_facts,
    paper="Re-created post titles (RedOne 2.0)",
)


def _original(row: Row) -> Original:
    return Original(row.fields["title"], row.fields["content"], row.language, tuple(_NAMES.value(row)))


TITLE_REWRITE = Task(
    name="title_rewrite",
    capability=CAPABILITY,
    languages=("en", "zh"),
    answer_format="generation",
    reward_kind="metric",
    fields=(Field("title"), CONTENT, _NAMES),
    templates={
        "en": (
            "Rewrite the title so that more readers open the note. Keep its names and numbers, what it denies, and "
            "nothing that the note does not say.\nTitle: {title}\nNote: {content}"
        ),
        "zh": (
            "改写标题，让更多人想点开。保留其中的名称、数字和否定，不写笔记里没有的内容。\n标题：{title}\n正文：{content}"
        ),
    },
    parser=parse_line,
    scorer=FaithfulRewrite(),
    formatter=plain_text,
    format_rule="one line of text",
    reference=_original,
    paper="Re-created post titles (RedOne 2.0), scored for faithfulness",
)

TASKS = (TITLE_RECREATION, TITLE_REWRITE)
