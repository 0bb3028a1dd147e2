"""Dialogue and persona."""

from __future__ import annotations

from megatron_redone.scoring.pattern import Pattern, PatternReward
from megatron_redone.tasks.answers import parse_text, plain_text
from megatron_redone.tasks.base import Field, Row, Task

CAPABILITY = "dialogue"
MAX_REPLY_WORDS = 30

_MAX_WORDS = Field("max_words", "integer", default=MAX_REPLY_WORDS)
_CUES = Field("cues", "texts", default=(), allow_empty=True, shown=False)


def _reply_pattern(row: Row) -> Pattern:
    """In the row's language, within its length, with one of its words of comfort where it lists some."""
    return Pattern(language=row.language, max_words=_MAX_WORDS.value(row), any_of=tuple(_CUES.value(row)))


EMOTIONAL_COMPANION = Task(
    name="emotional_companion",
    capability=CAPABILITY,
    languages=("en", "zh"),
    answer_format="generation",
    reward_kind="pattern",
    fields=(Field("persona"), Field("message"), _MAX_WORDS, _CUES),
    templates={
        "en": "Comforting reply in at most {max_words} words.\nPersona: {persona}\nMessage: {message}",
        "zh": "安慰回复，最多{max_words}字。\n人设：{persona}\n消息：{message}",
    },
    parser=parse_text,
    scorer=PatternReward(),
    formatter=plain_text,
    format_rule="a reply that is not empty",
    reference=_reply_pattern,
    paper="Emotional Companion Dialogue",
)

TASKS = (EMOTIONAL_COMPANION,)
