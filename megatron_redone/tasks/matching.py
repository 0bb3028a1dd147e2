"""Semantic matching of many with many, notes with notes, products, topics, entities and comments."""

from __future__ import annotations

from megatron_redone.scoring.set_f1 import SetF1
from megatron_redone.tasks import answer_lists as lists
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import (
    choose_label,
    choose_letter,
    choose_letters,
    label_set,
    make_task,
    order_letters,
    yes_or_no,
)

CAPABILITY = "semantic_matching"
_TWO_NOTES = (Field("first_note"), Field("second_note"))


def _match_pairs(row: Row) -> list[str]:
    """The gold lines as pairs; lines that cannot be read stay as they are."""
    pairs = lists.parse_matches("\n".join(row.answer), row)
    return list(row.answer) if pairs is None else pairs


def _check_matches(row: Row) -> list[str]:
    if lists.parse_matches("\n".join(row.answer), row) is None:
        return ["answer must be one line like 'Q1: N3, N7' for each query, with numbers of the row's notes"]
    return []


QUERY_NOTE_MATCHING = make_task(
    "query_note_matching",
    CAPABILITY,
    {
        "en": "Matching: match each query with the note or notes that answer it.",
        "zh": "多对多匹配：为每个查询找出能回答它的一条或几条笔记。",
    },
    (Field("queries", "texts", joined="queries"), Field("candidate_notes", "texts", joined="candidates")),
    {
        "en": "Reply with one line a query, such as:\nQ1: N3, N7\nQ2: N2",
        "zh": "每个查询一行，例如：\nQ1: N3, N7\nQ2: N2",
    },
    check=_check_matches,
    answer_format="choice",
    reward_kind="metric",
    parser=lists.parse_matches,
    scorer=SetF1(),
    formatter=lists.write_matches,
    format_rule="one line `Q1: N3, N7` for each query",
    answer_kind="texts",
    canonical=_match_pairs,
    paper="Query-Note Retrieval (Matching)",
)

COMMENT_NOTE_RELEVANCE = choose_label(
    "comment_note_relevance",
    CAPABILITY,
    {
        "en": "Comment and note: what does the comment speak of?",
        "zh": "评论与笔记：评论在说什么？",
    },
    (Field("note"), Field("comment")),
    label_set(
        ("the content of the note", "the author", "another comment", "something else"),
        ("笔记内容", "作者本人", "其他评论", "无关的事"),
    ),
)

QUERY_RELATION = choose_label(
    "query_relation",
    CAPABILITY,
    {
        "en": "Two queries: how does the second one relate to the first?",
        "zh": "查询关系：查询二与查询一是什么关系？",
    },
    (Field("first_query"), Field("second_query")),
    label_set(
        ("same need", "narrower", "broader", "related", "unrelated"),
        ("同一需求", "更窄", "更宽", "相关", "无关"),
    ),
)

DUPLICATE_NOTE = choose_label(
    "duplicate_note",
    CAPABILITY,
    {
        "en": "Duplicates: is one of these two notes made from the other?",
        "zh": "重复笔记：两条笔记中有没有一条出自另一条？",
    },
    _TWO_NOTES,
    label_set(
        ("copy", "reworded copy", "same topic written apart", "different"),
        ("照搬", "改写", "同题各写", "不同"),
    ),
)

CROSS_LANGUAGE_MATCH = yes_or_no(
    "cross_language_match",
    CAPABILITY,
    {
        "en": "Two languages: do the two notes say the same thing, each in its own language?",
        "zh": "跨语言匹配：两条不同语言的笔记说的是同一件事吗？",
    },
    _TWO_NOTES,
)

NOTE_PRODUCT_MATCH = choose_label(
    "note_product_match",
    CAPABILITY,
    {
        "en": "Product link: is the linked product the one that the note speaks of?",
        "zh": "挂链商品：挂的商品是笔记里说的那个吗？",
    },
    (Field("note"), Field("product")),
    label_set(
        ("the same product", "another variant", "other product of the kind", "unrelated"),
        ("同款", "同款不同规格", "同类不同款", "无关"),
    ),
)

ANSWER_RANKING = order_letters(
    "answer_ranking",
    CAPABILITY,
    {
        "en": "Best replies: order the replies to this question from the most to the least helpful.",
        "zh": "回复排序：把对问题的回复从最有帮助到最没帮助排好。",
    },
    (Field("question"),),
    "replies",
)

ENTITY_LINKING = choose_letter(
    "entity_linking",
    CAPABILITY,
    {
        "en": "Linking: which entry of the knowledge base does the mention in the text stand for?",
        "zh": "实体链接：文中的提及对应知识库里的哪一条？",
    },
    (Field("text"), Field("mention")),
    "entities",
    check=lambda row: [] if row.fields["mention"] in row.fields["text"] else ["field 'mention' stands not in 'text'"],
)

RELATED_NOTE = choose_letter(
    "related_note",
    CAPABILITY,
    {
        "en": "Read next: which note would help a reader of this note most without repeating it?",
        "zh": "相关笔记：看完这条笔记，哪一条最有补充而不重复？",
    },
    (Field("note"),),
    "candidates",
)

TOPIC_PAGE_FILTER = choose_letters(
    "topic_page_filter",
    CAPABILITY,
    {
        "en": "Topic page: which of the notes belong on the page of this topic?",
        "zh": "话题页筛选：哪些笔记应当放进这个话题页？",
    },
    (Field("topic"),),
    "notes",
)

TASKS = (
    QUERY_NOTE_MATCHING,
    COMMENT_NOTE_RELEVANCE,
    QUERY_RELATION,
    DUPLICATE_NOTE,
    CROSS_LANGUAGE_MATCH,
    NOTE_PRODUCT_MATCH,
    ANSWER_RANKING,
    ENTITY_LINKING,
    RELATED_NOTE,
    TOPIC_PAGE_FILTER,
)
