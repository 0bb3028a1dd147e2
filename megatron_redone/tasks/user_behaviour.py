"""User behaviour: what a user searches for next and what a user clicks."""

from __future__ import annotations

from megatron_redone.scoring.ranking import PairwiseOrder
from megatron_redone.scoring.text_metrics import Anls
from megatron_redone.tasks.answers import letter_list, letters_of, parse_line, parse_ranking, plain_text
from megatron_redone.tasks.base import Field, Task
from megatron_redone.tasks.kinds import NOTE_FIELDS, check_note, check_ranking
from megatron_redone.tasks.prompts import optional

CAPABILITY = "user_behaviour"
LANGUAGES = ("en", "zh")


POST_VIEW_SEARCH = Task(
    name="post_view_search",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="generation",
    reward_kind="metric",
    fields=(
        optional("note_type"),
        *NOTE_FIELDS,
        optional("ocr"),
        Field("labels", "texts", default=(), allow_empty=True),
        Field("comments", "texts", joined="lines", default=(), allow_empty=True),
    ),
    templates={
        "en": (
            "Search after viewing: one query.{note_type}\nTitle: {title}\nNote: {content}{ocr}\nLabels: {labels}\n"
            "Comments:\n{comments}"
        ),
        "zh": (
            "看后搜：写一个查询。{note_type}\n标题：{title}\n正文：{content}{ocr}\n标签：{labels}\n评论：\n{comments}"
        ),
    },
    parser=parse_line,
    scorer=Anls(),
    formatter=plain_text,
    format_rule="one line of text",
    check=check_note,
    benchmark="Note-QueryGen",
    paper="Post-View Search",
)

NEXT_QUERY = Task(
    name="next_query",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="generation",
    reward_kind="metric",
    fields=(
        Field("queries", "texts", joined="lines"),
        Field("clicked", "texts", joined="lines", allow_empty=True),
    ),
    templates={
        "en": "Next query of this session:\nQueries:\n{queries}\nClicked:\n{clicked}",
        "zh": "下一个查询：\n已搜：\n{queries}\n已点：\n{clicked}",
    },
    parser=parse_line,
    scorer=Anls(),
    formatter=plain_text,
    format_rule="one line of text",
    paper="Multiple Consecutive Searches",
)

CLICK_RANKING = Task(
    name="click_ranking",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="metric",
    fields=(Field("query"), Field("notes", "texts", joined="letters")),
    templates={
        "en": "Click ranking: order all letters, like B, A, C.\nQuery: {query}\n{notes}",
        "zh": "点击排序：按可能性排，如 B, A, C。\n查询：{query}\n{notes}",
    },
    parser=parse_ranking(letters_of("notes")),
    scorer=PairwiseOrder(),
    formatter=letter_list,
    format_rule="all letters, each once, like `B, A, C`",
    answer_kind="texts",
    options=letters_of("notes"),
    check=check_ranking("notes"),
    paper="Click-Through Rate Estimation",
)

TASKS = (POST_VIEW_SEARCH, NEXT_QUERY, CLICK_RANKING)
