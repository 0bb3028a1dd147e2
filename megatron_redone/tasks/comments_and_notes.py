"""Content understanding of comments and of whole notes: feeling, stance, form, quality, order."""

from __future__ import annotations

from megatron_redone.tasks.base import Field
from megatron_redone.tasks.kinds import (
    NOTE_FIELDS,
    choose_label,
    choose_labels,
    grade,
    label_set,
    order_letters,
    yes_or_no,
)
from megatron_redone.tasks.prompts import optional

CAPABILITY = "content_understanding"
_COMMENT = (optional("title"), Field("comment"))

COMMENT_SENTIMENT = choose_label(
    "comment_sentiment",
    CAPABILITY,
    {
        "en": "Sentiment: what does the comment, read as a whole, feel towards what the note shows?",
        "zh": "评论情感：整条评论对笔记内容是什么态度？",
    },
    _COMMENT,
    label_set(("positive", "negative", "mixed", "neutral"), ("正面", "负面", "有褒有贬", "中性")),
)

COMMENT_EMOTION = choose_labels(
    "comment_emotion",
    CAPABILITY,
    {
        "en": "Emotions: which emotions does the writer of the comment show?",
        "zh": "评论情绪：评论者流露出哪些情绪？",
    },
    _COMMENT,
    label_set(
        ("joy", "gratitude", "envy", "sadness", "anger", "fear", "surprise", "disgust"),
        ("喜悦", "感激", "羡慕", "悲伤", "愤怒", "害怕", "惊讶", "厌恶"),
    ),
    none=True,
)

IRONY_DETECTION = yes_or_no(
    "irony_detection",
    CAPABILITY,
    {
        "en": "Irony: does the comment mean the opposite of its words, or mock?",
        "zh": "反讽：评论是不是在说反话或挖苦？",
    },
    _COMMENT,
)

COMMENT_STANCE = choose_label(
    "comment_stance",
    CAPABILITY,
    {
        "en": "Stance: is the comment for or against the target, whatever its tone?",
        "zh": "评论立场：不论语气，评论支持还是反对该对象？",
    },
    (Field("target"), Field("comment")),
    label_set(("for", "against", "neither"), ("支持", "反对", "都不是")),
)

COMMENT_INTENT = choose_label(
    "comment_intent",
    CAPABILITY,
    {
        "en": "Purpose: what does the writer of the comment want?",
        "zh": "评论意图：评论者想做什么？",
    },
    _COMMENT,
    label_set(
        ("ask", "wants to buy", "share own experience", "praise", "complain", "correct", "call a friend", "joke"),
        ("提问", "求购", "分享经历", "称赞", "吐槽", "纠错", "喊朋友来看", "玩梗"),
    ),
)

NOTE_LANGUAGE = choose_label(
    "note_language",
    CAPABILITY,
    {
        "en": "Language: which language is the text written in? Loan words and emoji do not make it mixed.",
        "zh": "语种：文本用哪种语言写成？个别外来词和表情不算混用。",
    },
    (Field("text"),),
    label_set(
        ("Chinese", "Cantonese", "English", "Japanese", "Korean", "Spanish", "French", "mixed", "other"),
        ("普通话", "粤语", "英语", "日语", "韩语", "西班牙语", "法语", "混用", "其他"),
    ),
)

NOTE_FORM = choose_label(
    "note_form",
    CAPABILITY,
    {
        "en": "Form: what kind of writing is the note, whatever its topic?",
        "zh": "笔记体裁：不论话题，笔记是哪种写法？",
    },
    NOTE_FIELDS,
    label_set(
        ("tutorial", "review", "comparison", "list", "diary", "request for help", "story", "news"),
        ("教程", "测评", "对比", "合集", "日常记录", "求助", "故事", "资讯"),
    ),
)

NOTE_QUALITY = grade(
    "note_quality",
    CAPABILITY,
    {
        "en": (
            "Note quality: how useful is the note to a reader? 1 nothing in it; 2 thin; 3 fair; "
            "4 useful and clear; 5 rich, first-hand and well ordered."
        ),
        "zh": "笔记质量：对读者有多大用处？1 没有内容；2 单薄；3 一般；4 有用且清楚；5 一手、充实、有条理。",
    },
    (*NOTE_FIELDS, optional("ocr")),
    (1, 2, 3, 4, 5),
)

TITLE_CONTENT_CONSISTENCY = choose_label(
    "title_content_consistency",
    CAPABILITY,
    {
        "en": "Title check: does the note keep what its title promises?",
        "zh": "标题一致性：正文是否兑现了标题？",
    },
    (Field("title"), Field("content")),
    label_set(("consistent", "exaggerated", "contradicted", "unrelated"), ("一致", "夸大", "矛盾", "无关")),
)

NOTE_AUDIENCE = choose_labels(
    "note_audience",
    CAPABILITY,
    {
        "en": "Audience: for whom is the note written?",
        "zh": "受众：笔记写给哪些人看？",
    },
    NOTE_FIELDS,
    label_set(
        ("students", "parents", "office workers", "older people", "pet owners", "beginners", "experts", "everyone"),
        ("学生", "父母", "上班族", "中老年", "养宠人", "新手", "行家", "所有人"),
    ),
    none=False,
)

STEP_ORDERING = order_letters(
    "step_ordering",
    CAPABILITY,
    {
        "en": "Order: put the shuffled steps of this tutorial into the order in which they are done.",
        "zh": "步骤排序：把教程中打乱的步骤按操作顺序排好。",
    },
    (Field("title"),),
    "steps",
)

TASKS = (
    COMMENT_SENTIMENT,
    COMMENT_EMOTION,
    IRONY_DETECTION,
    COMMENT_STANCE,
    COMMENT_INTENT,
    NOTE_LANGUAGE,
    NOTE_FORM,
    NOTE_QUALITY,
    TITLE_CONTENT_CONSISTENCY,
    NOTE_AUDIENCE,
    STEP_ORDERING,
)
