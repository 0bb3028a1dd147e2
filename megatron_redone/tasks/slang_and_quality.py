"""Translation beyond notes: titles, comments with their marks, glossaries, slang, choice and quality."""

from __future__ import annotations

from megatron_redone.scoring.kept_terms import KeptTermsTranslation, TermReference
from megatron_redone.scoring.short_answers import AnyMatch
from megatron_redone.scoring.text_metrics import BleuChrf
from megatron_redone.tasks.base import Field, Row, Task
from megatron_redone.tasks.kinds import choose_labels, choose_letter, grade, label_set
from megatron_redone.tasks.list_kinds import write_line, write_text

CAPABILITY = "translation"
_TEXT = Field("text")
_MARKS = Field("marks", "texts", shown=False)
_GLOSSARY = Field("glossary", "texts", "lines")
_NAMES = {"en": ("English", "英文"), "zh": ("Chinese", "中文")}
_ONLY = {"en": "Reply with the translation and nothing else.", "zh": "只回复译文。"}
_ONE_LINE = {"en": "Reply with the translation on one line and nothing else.", "zh": "只用一行回复译文。"}


def _renderings(row: Row) -> tuple[str, ...]:
    return tuple(line.partition("=")[2].strip() for line in row.fields["glossary"])


def _check_marks(row: Row) -> list[str]:
    return [
        f"mark {mark!r} of 'marks' stands not in 'text'"
        for mark in row.fields["marks"]
        if mark not in row.fields["text"]
    ]


def _check_glossary(row: Row) -> list[str]:
    return [
        f"glossary line {line!r} is not `term = rendering` with a term of the text"
        for line in row.fields["glossary"]
        if not line.partition("=")[2].strip() or line.partition("=")[0].strip() not in row.fields["text"]
    ]


def _title(source: str, target: str) -> Task:
    english, chinese = _NAMES[target]
    return write_line(
        f"title_translation_{source}_{target}",
        CAPABILITY,
        {
            "en": f"Title into {english}: translate it as a title that people would click, with its tone and emoji.",
            "zh": f"标题译成{chinese}：译成让人想点开的标题，保留语气和表情。",
        },
        (_TEXT,),
        BleuChrf(target),
        form=_ONE_LINE,
    )


def _comment(source: str, target: str) -> Task:
    english, chinese = _NAMES[target]
    return write_text(
        f"comment_translation_{source}_{target}",
        CAPABILITY,
        {
            "en": (
                f"Comment into {english}: translate it in the same spoken tone; emoji, [stickers], @names and "
                "#hashtags stay as they are."
            ),
            "zh": f"评论译成{chinese}：保留口语语气；表情、[贴纸]、@用户和#话题照抄。",
        },
        (_TEXT, _MARKS),
        KeptTermsTranslation(target),
        _ONLY,
        format_rule="a translation that is not empty",
        reference=lambda row: TermReference(str(row.answer), tuple(row.fields["marks"])),
        check=_check_marks,
    )


def _with_glossary(source: str, target: str) -> Task:
    english, chinese = _NAMES[target]
    return write_text(
        f"glossary_translation_{source}_{target}",
        CAPABILITY,
        {
            "en": f"With glossary into {english}: translate the text; terms of the glossary are rendered as it says.",
            "zh": f"按术语表译成{chinese}：翻译文本，术语必须按表翻译。",
        },
        (_TEXT, _GLOSSARY),
        KeptTermsTranslation(target),
        _ONLY,
        format_rule="a translation that is not empty",
        reference=lambda row: TermReference(str(row.answer), _renderings(row)),
        check=_check_glossary,
    )


SLANG_MEANING = choose_letter(
    "slang_meaning",
    CAPABILITY,
    {
        "en": "Slang: what does the expression mean in this text?",
        "zh": "网络用语：这个表达在文中是什么意思？",
    },
    (_TEXT, Field("expression")),
    "meanings",
    check=lambda row: (
        [] if row.fields["expression"] in row.fields["text"] else ["field 'expression' stands not in 'text'"]
    ),
)

ABBREVIATION_EXPANSION = write_line(
    "abbreviation_expansion",
    CAPABILITY,
    {
        "en": "Written out: what does the abbreviation stand for in this text?",
        "zh": "缩写还原：文中的缩写完整写出来是什么？",
    },
    (_TEXT, Field("expression")),
    AnyMatch(),
    reward_kind="exact_match",
    form={"en": "Reply with the full form and nothing else.", "zh": "只回复完整写法。"},
    answer_kind="texts",
    canonical=lambda row: str(row.answer[0]),
    reference=lambda row: list(row.answer),
)

TRANSLATION_CHOICE = choose_letter(
    "translation_choice",
    CAPABILITY,
    {
        "en": "Best translation: which one says the same in a way that people would post?",
        "zh": "选译文：哪一条意思相同又像真人会发的？",
    },
    (_TEXT,),
    "translations",
)

TRANSLATION_QUALITY = grade(
    "translation_quality",
    CAPABILITY,
    {
        "en": (
            "Translation quality: 1 wrong; 2 understood with effort; 3 right but stiff; 4 right and fluent; "
            "5 right, fluent and with the tone, jokes and slang of the original."
        ),
        "zh": "译文质量：1 错误；2 勉强能懂；3 正确但生硬；4 正确流畅；5 正确流畅，且保留原文的语气、玩笑和用语。",
    },
    (_TEXT, Field("translation")),
    (1, 2, 3, 4, 5),
)

TRANSLATION_ERRORS = choose_labels(
    "translation_errors",
    CAPABILITY,
    {
        "en": "Translation errors: which errors does the translation make?",
        "zh": "译文错误：译文有哪些错误？",
    },
    (_TEXT, Field("translation")),
    label_set(
        ("mistranslation", "omission", "addition", "untranslated", "tone lost", "meme taken literally"),
        ("误译", "漏译", "增译", "未译", "语气丢失", "梗被直译"),
    ),
    none=True,
)

TASKS = (
    _title("zh", "en"),
    _title("en", "zh"),
    _comment("zh", "en"),
    _comment("en", "zh"),
    _with_glossary("zh", "en"),
    _with_glossary("en", "zh"),
    SLANG_MEANING,
    ABBREVIATION_EXPANSION,
    TRANSLATION_CHOICE,
    TRANSLATION_QUALITY,
    TRANSLATION_ERRORS,
)
