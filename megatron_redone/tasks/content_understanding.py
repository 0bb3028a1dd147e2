"""Content understanding: what a post or a query is about, and whether it may be shown."""

from __future__ import annotations

from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.scoring.set_f1 import SetF1
from megatron_redone.tasks.answers import (
    bars,
    comma_list,
    cued,
    options_of,
    parse_after,
    parse_bars,
    parse_choice,
    parse_commas,
    plain_text,
    without_repeats,
    yes_no,
    yes_no_answer,
)
from megatron_redone.tasks.base import Field, Row, Task
from megatron_redone.tasks.kinds import NOTE_FIELDS, check_note, label_set
from megatron_redone.tasks.prompts import optional

CAPABILITY = "content_understanding"
LANGUAGES = ("en", "zh")
_CATEGORY = {"en": "Category", "zh": "类别"}
_INTENT = {"en": "Intent", "zh": "意图"}
_CATEGORIES = Field("categories", "texts")
_INTENTS = label_set(
    [
        f"{granularity}-{category}"
        for category in (
            *("Product", "Person", "Place", "Work", "Resource", "Material", "Recipe", "Knowledge", "Information"),
            *("Experience", "Others"),
        )
        for granularity in ("List-type", "Entity-type", "Single-type")
    ],
    [
        f"{granularity}-{category}"
        for category in ("商品", "人物", "地点", "作品", "资源", "素材", "菜谱", "知识", "资讯", "经验", "其他")
        for granularity in ("列表型", "实体型", "单点型")
    ],
    name="intents",
)
"""RedOne, appendix A.4: three granularities for each of eleven categories."""
_SECURITY_LABELS = label_set(
    ("Political Sensitivity", "Pornography", "No Violation", "Illegal or Policy Violations"),
    ("政治敏感", "色情低俗", "无违规", "违法违规"),
)
"""RedOne, appendix A.4."""


def _check_pairs(row: Row) -> list[str]:
    """Categories and intents are `x-y` pairs."""
    field = _CATEGORIES if row.task == "query_classification" else _INTENTS
    name = field.name
    bad = [item for item in field.value(row) if not all(part.strip() for part in item.partition("-")[::2])]
    return [f"field {name!r} has {bad[0]!r}, expected pairs like 'food-recipe'"] if bad else []


NOTE_TAXONOMY_SINGLE = Task(
    name="note_taxonomy_single",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=(*NOTE_FIELDS, Field("candidates", "texts")),
    templates={
        "en": "Taxonomy: choose one option.\nTitle: {title}\nNote: {content}\nOptions: {candidates}",
        "zh": "单级分类：选一个选项。\n标题：{title}\n正文：{content}\n选项：{candidates}",
    },
    parser=parse_choice(options_of("candidates")),
    scorer=ExactMatch(),
    formatter=plain_text,
    format_rule="the text of one option",
    options=options_of("candidates"),
    check=check_note,
    benchmark="Note-Taxonomy-single",
    paper="Note Taxonomy (Single Answer)",
)

_LEVELS = options_of("candidates_primary", "candidates_secondary", "candidates_tertiary")

NOTE_TAXONOMY_MULTIPLE = Task(
    name="note_taxonomy_multiple",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=(
        *NOTE_FIELDS,
        Field("candidates_primary", "texts"),
        Field("candidates_secondary", "texts"),
        Field("candidates_tertiary", "texts"),
    ),
    templates={
        "en": (
            "Three levels: as A | B | C.\nTitle: {title}\nNote: {content}\nPrimary: {candidates_primary}\n"
            "Secondary: {candidates_secondary}\nTertiary: {candidates_tertiary}"
        ),
        "zh": (
            "三级分类：按 A | B | C 回答。\n标题：{title}\n正文：{content}\n一级：{candidates_primary}\n"
            "二级：{candidates_secondary}\n三级：{candidates_tertiary}"
        ),
    },
    parser=parse_bars(_LEVELS),
    scorer=ExactMatch(),
    formatter=bars,
    format_rule="one option of each level as `A | B | C`",
    answer_kind="texts",
    options=_LEVELS,
    check=check_note,
    benchmark="Note-Taxonomy-multiple",
    paper="Note Taxonomy (Multiple Answer)",
)

QUERY_CLASSIFICATION = Task(
    name="query_classification",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="metric",
    fields=(Field("query"), _CATEGORIES),
    templates={
        "en": "Query categories: one or more, as Category: x-y.\nQuery: {query}\nCategories: {categories}",
        "zh": "查询分类：可多选，格式 类别：x-y。\n查询：{query}\n可选：{categories}",
    },
    parser=parse_after(_CATEGORY, parse_commas),
    scorer=SetF1(),
    formatter=cued(_CATEGORY, comma_list),
    format_rule="`Category: x-y`, several separated by commas (`类别：x-y`)",
    answer_kind="texts",
    canonical=without_repeats,
    options=options_of("categories"),
    check=_check_pairs,
    paper="Query Classification",
)

QUERY_INTENT = Task(
    name="query_intent",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=(Field("query"), _INTENTS),
    templates={
        "en": "Query intent: choose one, as Intent: x-y.\nQuery: {query}\nIntents: {intents}",
        "zh": "查询意图：选一个，格式 意图：x-y。\n查询：{query}\n可选：{intents}",
    },
    parser=parse_after(_INTENT, parse_choice(options_of(_INTENTS))),
    scorer=ExactMatch(),
    formatter=cued(_INTENT, plain_text),
    format_rule="`Intent: x-y` with one of the intents (`意图：x-y`)",
    options=options_of(_INTENTS),
    check=_check_pairs,
    paper="Query Intent Recognition",
)

NOTE_SECURITY = Task(
    name="note_security",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=(*NOTE_FIELDS, optional("ocr"), _SECURITY_LABELS),
    templates={
        "en": "Safety review: choose one label.\nTitle: {title}\nNote: {content}{ocr}\nLabels: {labels}",
        "zh": "安全审核：选一个标签。\n标题：{title}\n正文：{content}{ocr}\n标签：{labels}",
    },
    parser=parse_choice(options_of(_SECURITY_LABELS)),
    scorer=ExactMatch(),
    formatter=plain_text,
    format_rule="one of the labels",
    options=options_of(_SECURITY_LABELS),
    check=check_note,
    paper="Note Security",
)

GENDER_SENSITIVE_APPEAL = Task(
    name="gender_sensitive_appeal",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=NOTE_FIELDS,
    templates={
        "en": "Gender-sensitive appeal: Yes or No?\nTitle: {title}\nNote: {content}",
        "zh": "性别敏感诉求：是或否？\n标题：{title}\n正文：{content}",
    },
    parser=parse_choice(yes_no),
    scorer=ExactMatch(),
    formatter=plain_text,
    format_rule="Yes or No (是 or 否)",
    canonical=yes_no_answer,
    options=yes_no,
    check=check_note,
    benchmark="Note-Gender",
    paper="Gender-sensitive appeal (SNS-Bench)",
)

TASKS = (
    NOTE_TAXONOMY_SINGLE,
    NOTE_TAXONOMY_MULTIPLE,
    QUERY_CLASSIFICATION,
    QUERY_INTENT,
    NOTE_SECURITY,
    GENDER_SENSITIVE_APPEAL,
)
