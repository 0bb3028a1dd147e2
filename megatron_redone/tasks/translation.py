"""Translation of notes, titles and comments. The row's language is that of the instruction, not of the
translation.
"""

from __future__ import annotations

from megatron_redone.scoring.text_metrics import BleuChrf
from megatron_redone.tasks.answers import parse_text, plain_text
from megatron_redone.tasks.base import Field, Task

CAPABILITY = "translation"
LANGUAGES = ("en", "zh")

NOTE_TRANSLATION_ZH_EN = Task(
    name="note_translation_zh_en",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="generation",
    reward_kind="metric",
    fields=(Field("text"),),
    templates={"en": "Translate to English:\n{text}", "zh": "译成英文：\n{text}"},
    parser=parse_text,
    scorer=BleuChrf("en"),
    formatter=plain_text,
    format_rule="a translation that is not empty",
    benchmark="RedTrans-Bench",
    paper="SNS Domain Translation (Chinese to English)",
)

NOTE_TRANSLATION_EN_ZH = Task(
    name="note_translation_en_zh",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="generation",
    reward_kind="metric",
    fields=(Field("text"),),
    templates={"en": "Translate to Chinese:\n{text}", "zh": "译成中文：\n{text}"},
    parser=parse_text,
    scorer=BleuChrf("zh"),
    formatter=plain_text,
    format_rule="a translation that is not empty",
    benchmark="RedTrans-Bench",
    paper="SNS Domain Translation (English to Chinese)",
)

TASKS = (NOTE_TRANSLATION_ZH_EN, NOTE_TRANSLATION_EN_ZH)
