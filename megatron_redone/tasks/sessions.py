"""User behaviour in sessions: clicks, intents, interests, satisfaction, queries that lead to a note."""

from __future__ import annotations

from megatron_redone.scoring.soft_f1 import SoftF1, text_similarity
from megatron_redone.scoring.text_metrics import Anls
from megatron_redone.tasks import answer_lists as lists
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import (
    NOTE_FIELDS,
    choose_label,
    choose_labels,
    choose_letter,
    grade,
    label_set,
    make_task,
    yes_or_no,
)
from megatron_redone.tasks.list_kinds import write_line
from megatron_redone.tasks.prompts import optional

CAPABILITY = "user_behaviour"
_SESSION = Field("session", "texts", "lines")
_MAX_QUERIES = 5


def _parse_queries(answer: str, row: Row) -> list[str] | None:
    queries = lists.parse_lines(answer, row)
    return queries if queries and len(queries) <= _MAX_QUERIES else None


def _parse_completion(answer: str, row: Row) -> str | None:
    """One line that goes on from what was typed."""
    lines = lists.parse_lines(answer, row)
    typed = "".join(row.fields["prefix"].split()).casefold()
    whole = lines is not None and len(lines) == 1 and "".join(lines[0].split()).casefold().startswith(typed)
    return lines[0] if whole and lines else None


QUERY_GENERATION = make_task(
    "query_generation",
    CAPABILITY,
    {
        "en": "Queries: write the searches for which this note would be a good result, five at most.",
        "zh": "查询生成：写出能搜到这条笔记的查询，最多五个。",
    },
    (*NOTE_FIELDS, optional("ocr")),
    {"en": "Reply with one query a line.", "zh": "每行一个查询。"},
    answer_format="generation",
    reward_kind="metric",
    parser=_parse_queries,
    scorer=SoftF1(text_similarity),
    formatter=lists.lines_or_none,
    format_rule="one query a line, five at most",
    answer_kind="texts",
    canonical=lists.tidy_lines,
    paper="Query generation",
)

NEXT_CLICK = choose_letter(
    "next_click",
    CAPABILITY,
    {
        "en": "Next click: after this session, which of the notes does the user open?",
        "zh": "预测点击：看过以上会话，用户接下来会点开哪条笔记？",
    },
    (_SESSION,),
    "notes",
)

SESSION_INTENT_CHANGE = choose_label(
    "session_intent_change",
    CAPABILITY,
    {
        "en": "Change of intent: what does the last query of the session do to the one before it?",
        "zh": "意图变化：最后一个查询相对前一个做了什么？",
    },
    (Field("queries", "texts", "lines"),),
    label_set(
        ("narrows it", "widens it", "rewords it", "moves to a neighbouring need", "starts something new"),
        ("收窄", "放宽", "换个说法", "转到相邻需求", "换了话题"),
    ),
)

INTEREST_INFERENCE = choose_labels(
    "interest_inference",
    CAPABILITY,
    {
        "en": "Interests: which of these lasting interests do the actions of the user show?",
        "zh": "兴趣推断：用户行为体现了下面哪些长期兴趣？",
    },
    (Field("actions", "texts", "lines"),),
    Field("interests", "texts"),
    none=True,
)

SESSION_NEXT_ACTION = choose_label(
    "session_next_action",
    CAPABILITY,
    {
        "en": "Next action: what does the user do after the last note of the session?",
        "zh": "下一步：看完最后一条笔记，用户会做什么？",
    },
    (_SESSION,),
    label_set(
        ("views more notes", "starts a new query", "goes to another page", "leaves"),
        ("继续看笔记", "发起新查询", "去别的页面", "离开"),
    ),
    paper="Multiple Consecutive Searches (last action)",
)

READING_TIME = grade(
    "reading_time",
    CAPABILITY,
    {
        "en": (
            "Time on the note: how long does this user stay on the note? 0 under 3 seconds; 1 up to 15 seconds; "
            "2 up to a minute; 3 longer."
        ),
        "zh": "阅读时长：该用户会在笔记上停留多久？0 不到3秒；1 15秒以内；2 一分钟以内；3 更久。",
    },
    (Field("interests", "texts"), Field("query"), Field("note")),
    (0, 1, 2, 3),
)

CLICK_PREDICTION = yes_or_no(
    "click_prediction",
    CAPABILITY,
    {
        "en": "One more click: would the user, who opened the notes below, open this one too?",
        "zh": "点击预测：点开过下列笔记的用户会点开这一条吗？",
    },
    (Field("clicked", "texts", "lines"), Field("note")),
)

PURCHASE_STAGE = choose_label(
    "purchase_stage",
    CAPABILITY,
    {
        "en": "Purchase: how far is this user on the way to buying something?",
        "zh": "购买阶段：这位用户的购买进行到哪一步？",
    },
    (Field("actions", "texts", "lines"),),
    label_set(
        ("not buying", "getting ideas", "comparing", "ready to buy", "using what was bought"),
        ("没有购买意向", "找灵感", "比较", "准备下单", "买后使用"),
    ),
)

QUERY_COMPLETION = write_line(
    "query_completion",
    CAPABILITY,
    {
        "en": "Completion: which query is the user typing? Keep what is typed.",
        "zh": "查询补全：用户正在输入什么查询？保留已输入的部分。",
    },
    (optional("queries", "texts"), Field("prefix")),
    Anls(),
    form={"en": "Reply with the whole query and nothing else.", "zh": "只回复完整的查询。"},
    parser=_parse_completion,
    format_rule="one line that opens with what was typed",
)

NEGATIVE_FEEDBACK = choose_label(
    "negative_feedback",
    CAPABILITY,
    {
        "en": "Not interested: why does the user, with this history, hide the note?",
        "zh": "负反馈：结合历史行为，用户为什么点了“不感兴趣”？",
    },
    (Field("actions", "texts", "lines"), Field("note")),
    label_set(
        ("seen too often", "topic not of interest", "dislikes the author", "advertising", "makes uneasy"),
        ("看太多了", "话题不感兴趣", "不喜欢作者", "广告", "引起不适"),
    ),
)

SEARCH_SATISFACTION = yes_or_no(
    "search_satisfaction",
    CAPABILITY,
    {
        "en": "Satisfaction: did the user find in this session what was searched for?",
        "zh": "搜索满意度：用户在这次会话里找到想要的了吗？",
    },
    (_SESSION,),
)

TASKS = (
    QUERY_GENERATION,
    NEXT_CLICK,
    SESSION_INTENT_CHANGE,
    INTEREST_INFERENCE,
    SESSION_NEXT_ACTION,
    READING_TIME,
    CLICK_PREDICTION,
    PURCHASE_STAGE,
    QUERY_COMPLETION,
    NEGATIVE_FEEDBACK,
    SEARCH_SATISFACTION,
)
