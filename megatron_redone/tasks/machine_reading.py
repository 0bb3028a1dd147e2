"""Complex machine reading: rewrite the query, judge the document, find all options with their reasons.

The answer has four blocks, as the papers' prompt and SNS-Bench have them:

    <rewrite_query>...</rewrite_query>
    <relevance_analysis>...</relevance_analysis>
    <AnswerList>["...", ...]</AnswerList>
    <Result>[{"Option": "...", "Reason": "..."}, ...]</Result>

A row's gold answer is that text as it is. Only its options are scored.
"""

from __future__ import annotations

import json
import re
from typing import Any

from megatron_redone.scoring.literal import read_literal
from megatron_redone.scoring.normalise import tidy
from megatron_redone.scoring.reading_options import OptionAgreement
from megatron_redone.tasks.answer_lists import MAX_ITEMS
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import make_task

MAX_OPTION_CHARACTERS = 1_000
_BLOCKS = ("rewrite_query", "relevance_analysis", "AnswerList", "Result")
_ANSWER = re.compile("".join(rf"\s*<{name}>(?P<{name}>.*?)</{name}>\s*" for name in _BLOCKS), re.DOTALL)


def read_blocks(answer: str) -> dict[str, Any] | None:
    """The four blocks, in order and with nothing else around them; None where one is absent or not as asked.

    `options` are those of the last block, which must be those of the third one, in any order.
    """
    found = _ANSWER.fullmatch(answer)
    if found is None:
        return None
    listed, results = _literal(found["AnswerList"]), _literal(found["Result"])
    if not isinstance(listed, list) or not isinstance(results, list) or max(len(listed), len(results)) > MAX_ITEMS:
        return None
    if not all(_is_result(result) for result in results) or not all(isinstance(item, str) for item in listed):
        return None
    options = [tidy(result["Option"]) for result in results]
    if set(options) != {tidy(item) for item in listed} or any(len(item) > MAX_OPTION_CHARACTERS for item in options):
        return None
    query, analysis = tidy(found["rewrite_query"]), tidy(found["relevance_analysis"])
    if not query or not analysis:
        return None
    reasons = [tidy(result["Reason"]) for result in results]
    return {"rewrite_query": query, "relevance_analysis": analysis, "options": options, "reasons": reasons}


def write_blocks(gold: Any, row: Row) -> str:
    """The four blocks as `read_blocks` reads them; nothing for a gold answer that could not be read."""
    if gold is None:
        return ""
    pairs = zip(gold["options"], gold["reasons"], strict=True)
    results = [{"Option": option, "Reason": reason} for option, reason in pairs]
    contents = (
        gold["rewrite_query"],
        gold["relevance_analysis"],
        json.dumps(list(dict.fromkeys(gold["options"])), ensure_ascii=False),
        json.dumps(results, ensure_ascii=False),
    )
    return "\n".join(f"<{name}>{content}</{name}>" for name, content in zip(_BLOCKS, contents, strict=True))


def _literal(text: str) -> Any:
    try:
        return read_literal(text)
    except ValueError:
        return None


def _is_result(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"Option", "Reason"}
        and all(isinstance(part, str) and part.strip() for part in value.values())
    )


def _check_answer(row: Row) -> list[str]:
    if read_blocks(row.answer.strip()) is None:
        return ["answer is not the four blocks with the same options in <AnswerList> and <Result>"]
    return []


MRC_COMPLEX = make_task(
    "mrc_complex",
    "information_extraction",
    {
        "en": (
            "Complex reading: answer the query from the document in four steps.\n"
            "1. Rewrite the query so that it asks for what the level names.\n"
            "2. Say in one or two sentences whether the document answers it; a time or place in the query must fit.\n"
            "3. List every answer of the kind that the level names, in the document's own words; [] if there is none.\n"
            "4. Give each answer a reason quoted from the document."
        ),
        "zh": (
            "复杂阅读：分四步根据文档回答查询。\n"
            "1. 改写查询，使它问的就是答案类型所指的内容。\n"
            "2. 用一两句话说明文档能否回答；查询中的时间、地点必须相符。\n"
            "3. 用文档原词列出该类型的全部答案；没有则为 []。\n"
            "4. 每个答案配一条摘自文档的理由。"
        ),
    },
    (Field("query"), Field("level"), Field("document")),
    {
        "en": (
            "Reply with these four blocks and nothing else:\n<rewrite_query>...</rewrite_query>\n"
            '<relevance_analysis>...</relevance_analysis>\n<AnswerList>["...", ...]</AnswerList>\n'
            '<Result>[{{"Option": "...", "Reason": "..."}}, ...]</Result>'
        ),
        "zh": (
            "只回复以下四段：\n<rewrite_query>...</rewrite_query>\n"
            '<relevance_analysis>...</relevance_analysis>\n<AnswerList>["...", ...]</AnswerList>\n'
            '<Result>[{{"Option": "...", "Reason": "..."}}, ...]</Result>'
        ),
    },
    check=_check_answer,
    answer_format="extraction",
    reward_kind="metric",
    parser=lambda answer, row: read_blocks(answer),
    scorer=OptionAgreement(),
    formatter=write_blocks,
    format_rule="<rewrite_query>, <relevance_analysis>, <AnswerList> and <Result>, the last two with the same options",
    canonical=lambda row: read_blocks(row.answer.strip()),
    benchmark="Note-MRC-complex",
    paper="Machine Reading Comprehension (Complex)",
)

TASKS = (MRC_COMPLEX,)
