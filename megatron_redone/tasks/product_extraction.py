"""Information extraction from product texts and recipes: attributes, prices, comparisons, ingredients."""

from __future__ import annotations

from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import NOTE_FIELDS
from megatron_redone.tasks.list_kinds import list_columns

CAPABILITY = "information_extraction"
PRODUCT = Field("product")
_TEXT = Field("content")
_ATTRIBUTES = Field("attributes", "texts")


def _check_attributes(row: Row) -> list[str]:
    names = [item.split("|")[0].strip() for item in row.answer]
    return [f"attribute {name!r} is not among those asked" for name in names if name not in row.fields["attributes"]]


PRODUCT_ATTRIBUTES = list_columns(
    "product_attributes",
    CAPABILITY,
    {
        "en": "Product card: fill in the attributes asked for, in the text's words; leave out what it does not say.",
        "zh": "商品属性：按原文填写所问属性，文中没有的不填。",
    },
    (PRODUCT, _ATTRIBUTES),
    {"en": "attribute | value", "zh": "属性 | 值"},
    within=(PRODUCT,),
    quoted=(1,),
    check=_check_attributes,
)

PRICE_EXTRACTION = list_columns(
    "price_extraction",
    CAPABILITY,
    {
        "en": (
            "Prices: list what can be bought with its price and for how much of it, as the note says; - for an amount "
            "not said."
        ),
        "zh": "价格抽取：照原文列出可买的东西、价格和对应的数量，没写数量填 -。",
    },
    NOTE_FIELDS,
    {"en": "thing | price | amount", "zh": "东西 | 价格 | 数量"},
    within=NOTE_FIELDS,
    quoted=(0, 1),
)

COMPARISON_EXTRACTION = list_columns(
    "comparison_extraction",
    CAPABILITY,
    {
        "en": "Comparisons: list which product the text finds better than which, and in what.",
        "zh": "对比抽取：列出文中认为哪个产品在哪方面优于哪个。",
    },
    (_TEXT,),
    {"en": "better | worse | aspect", "zh": "更好 | 更差 | 方面"},
    within=(_TEXT,),
    quoted=(0, 1),
)

RECIPE_INGREDIENTS = list_columns(
    "recipe_ingredients",
    CAPABILITY,
    {
        "en": "Ingredients: list what the recipe needs and how much, as written; - for an amount not said.",
        "zh": "食材：照原文列出菜谱所需食材和用量，没写用量填 -。",
    },
    NOTE_FIELDS,
    {"en": "ingredient | amount", "zh": "食材 | 用量"},
    within=NOTE_FIELDS,
    quoted=(0,),
)

TASKS = (PRODUCT_ATTRIBUTES, PRICE_EXTRACTION, COMPARISON_EXTRACTION, RECIPE_INGREDIENTS)
