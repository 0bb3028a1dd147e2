"""Information extraction from notes and comments: words, entities, events, routes, opinions, questions, dates."""

from __future__ import annotations

import re

from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.scoring.normalise import loose
from megatron_redone.scoring.ranking import OrderedF1
from megatron_redone.scoring.soft_f1 import SoftF1, text_similarity
from megatron_redone.scoring.text_metrics import Anls
from megatron_redone.tasks import answer_lists as lists
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import NOTE_FIELDS, choose_letter, choose_letters, label_set, make_task, quoted_in
from megatron_redone.tasks.list_kinds import list_columns, list_spans, write_line
from megatron_redone.tasks.prompts import optional

CAPABILITY = "information_extraction"
TEXT = Field("text")
_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
_HASHTAG = re.compile(r"#([^\s#]+)#?")
_MAX_HASHTAGS = 10


def _parse_date(answer: str, row: Row) -> str | None:
    date = answer.strip().rstrip(".。")
    return date if _DATE.fullmatch(date) else None


def _parse_hashtags(answer: str, row: Row) -> list[str] | None:
    """Hashtags between spaces, nothing else; compared without case."""
    tags = [loose(tag) for tag in _HASHTAG.findall(answer)]
    rest = _HASHTAG.sub("", answer).strip()
    return list(dict.fromkeys(tags)) if tags and not rest and len(tags) <= _MAX_HASHTAGS and all(tags) else None


def _gold_hashtags(row: Row) -> list[str]:
    return list(dict.fromkeys(loose(tag.strip("#")) for tag in row.answer))


HIGHLIGHT_WORD_EXTRACTION = list_spans(
    "highlight_word_extraction",
    CAPABILITY,
    {
        "en": (
            "Highlights: quote the words of the comment that other readers would want to search for: things, "
            "problems or names, no small talk."
        ),
        "zh": "高亮抽取：摘出评论中会引起别人搜索兴趣的词：具体的事物、问题或名称，不要闲话。",
    },
    (Field("comment"),),
    (Field("comment"),),
    paper="Highlight Word Detection",
)

NOTE_ENTITIES = list_columns(
    "note_entities",
    CAPABILITY,
    {
        "en": "All entities: quote every named entity of the text with its type.",
        "zh": "全部实体：摘出文中所有命名实体并标出类型。",
    },
    (TEXT,),
    {"en": "entity | label", "zh": "实体 | 标签"},
    within=(TEXT,),
    quoted=(0,),
    allowed=label_set(
        ("person", "place", "organisation", "brand", "product", "work"),
        ("人物", "地点", "机构", "品牌", "产品", "作品"),
    ),
)

EVENT_EXTRACTION = list_columns(
    "event_extraction",
    CAPABILITY,
    {
        "en": (
            "Events: list each event that readers could go to, with its time and place as the text says them; - for "
            "what it does not say."
        ),
        "zh": "活动抽取：列出读者可以参加的活动，时间和地点照原文，没写的填 -。",
    },
    (TEXT,),
    {"en": "event | time | place", "zh": "活动 | 时间 | 地点"},
    scorer=SoftF1(lists.row_similarity),
    within=(TEXT,),
    quoted=(0,),
)

ROUTE_EXTRACTION = make_task(
    "route_extraction",
    CAPABILITY,
    {
        "en": "Route: list the places that the author visits, in the order of the visit.",
        "zh": "路线：按到访顺序列出作者去的地方。",
    },
    NOTE_FIELDS,
    {"en": "Reply with one place a line.", "zh": "每行一个地点。"},
    checks=(quoted_in(*NOTE_FIELDS),),
    answer_format="extraction",
    reward_kind="metric",
    parser=lists.parse_lines,
    scorer=OrderedF1(),
    formatter=lists.lines_or_none,
    format_rule="one place a line",
    answer_kind="texts",
    canonical=lists.tidy_lines,
)

ASPECT_OPINIONS = list_columns(
    "aspect_opinions",
    CAPABILITY,
    {
        "en": "Opinions: list each aspect on which the comment says something good or bad, with the words it uses.",
        "zh": "观点：列出评论评价的每个方面、所用的词和倾向。",
    },
    (Field("comment"),),
    {"en": "aspect | words | label", "zh": "方面 | 用词 | 标签"},
    within=(Field("comment"),),
    quoted=(0, 1),
    allowed=label_set(("positive", "negative", "neutral"), ("正面", "负面", "中性")),
)

KEY_SENTENCES = choose_letters(
    "key_sentences",
    CAPABILITY,
    {
        "en": "Key sentences: which sentences alone would tell a reader what the note says?",
        "zh": "关键句：哪些句子单独就能说清笔记的内容？",
    },
    (optional("title"),),
    "sentences",
)

FAQ_PAIRS = list_columns(
    "faq_pairs",
    CAPABILITY,
    {
        "en": "Questions and answers: which questions of readers does the note answer? Quote the answers from it.",
        "zh": "问答对：笔记回答了读者的哪些问题？答案摘自笔记。",
    },
    NOTE_FIELDS,
    {"en": "question | answer", "zh": "问题 | 答案"},
    scorer=SoftF1(lists.row_similarity),
    within=NOTE_FIELDS,
    quoted=(1,),
)

HASHTAG_GENERATION = make_task(
    "hashtag_generation",
    CAPABILITY,
    {
        "en": "Tags: write the hashtags that bring the right readers to this note, ten at most.",
        "zh": "写话题：写出能吸引对口读者的话题标签，最多十个。",
    },
    NOTE_FIELDS,
    {"en": "Reply with hashtags only, such as #tea #teaware.", "zh": "只回复话题标签，如 #茶 #茶具。"},
    answer_format="generation",
    reward_kind="metric",
    parser=_parse_hashtags,
    scorer=SoftF1(text_similarity),
    formatter=lambda gold, row: " ".join(f"#{tag}" for tag in gold),
    format_rule="hashtags separated by spaces, ten at most",
    answer_kind="texts",
    canonical=_gold_hashtags,
)

DATE_NORMALISATION = write_line(
    "date_normalisation",
    CAPABILITY,
    {
        "en": "Date: on which day is that of which the sentence speaks?",
        "zh": "日期换算：句中所说的是哪一天？",
    },
    (Field("posted"), Field("quote")),
    ExactMatch(),
    reward_kind="exact_match",
    answer_format="extraction",
    form={"en": "Reply with a date as YYYY-MM-DD.", "zh": "回复日期，格式 YYYY-MM-DD。"},
    parser=_parse_date,
    format_rule="a date as YYYY-MM-DD",
)

OCR_CORRECTION = write_line(
    "ocr_correction",
    CAPABILITY,
    {
        "en": "Picture text: correct what the text recogniser misread in this line; change nothing else.",
        "zh": "图文纠错：改正文字识别读错的地方，其余不动。",
    },
    (optional("title"), Field("ocr")),
    Anls(),
    answer_format="extraction",
)

COMMENT_REFERENCE = choose_letter(
    "comment_reference",
    CAPABILITY,
    {
        "en": "Reference: of which thing in the note does the comment speak?",
        "zh": "指代：评论说的是笔记中的哪一样？",
    },
    (Field("note"), Field("comment")),
    "candidates",
)

OPEN_QUESTIONS = choose_letters(
    "open_questions",
    CAPABILITY,
    {
        "en": "Unanswered: which comments ask the author something that neither the note nor the author has answered?",
        "zh": "待答问题：哪些评论问了作者，而笔记和作者都没有回答？",
    },
    (Field("note"), optional("author_reply")),
    "comments",
)

_ROLES = label_set(
    ("thing", "brand", "attribute", "place", "time", "person", "need"),
    ("事物", "品牌", "属性", "地点", "时间", "人物", "需求"),
)

QUERY_TERM_ROLES = list_columns(
    "query_term_roles",
    CAPABILITY,
    {
        "en": "Roles: give each meaningful term of the query the role that it plays.",
        "zh": "词角色：标出查询中每个有意义的词的角色。",
    },
    (Field("query"),),
    {"en": "term | label", "zh": "词 | 标签"},
    within=(Field("query"),),
    quoted=(0,),
    allowed=_ROLES,
)

TASKS = (
    HIGHLIGHT_WORD_EXTRACTION,
    NOTE_ENTITIES,
    EVENT_EXTRACTION,
    ROUTE_EXTRACTION,
    ASPECT_OPINIONS,
    KEY_SENTENCES,
    FAQ_PAIRS,
    HASHTAG_GENERATION,
    DATE_NORMALISATION,
    OCR_CORRECTION,
    COMMENT_REFERENCE,
    OPEN_QUESTIONS,
    QUERY_TERM_ROLES,
)
