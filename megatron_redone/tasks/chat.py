"""Dialogue and persona: role-play, replies that keep rules, support, who speaks next, what to remember."""

from __future__ import annotations

from megatron_redone.scoring.constraints import Constraint, KeptConstraints
from megatron_redone.scoring.soft_f1 import SoftF1, text_similarity
from megatron_redone.tasks import answer_lists as lists
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import choose_label, choose_letter, grade, label_set, make_task
from megatron_redone.tasks.list_kinds import write_text
from megatron_redone.tasks.prompts import optional

CAPABILITY = "dialogue"
NUM_SUGGESTIONS = 3
_HISTORY = Field("history", "texts", "lines")
_PERSONA = Field("persona")
_ROLE_WORDS = Field("max_words", "integer", default=60)
_SUGGESTION_WORDS = Field("max_words", "integer", default=15)
_COMMENT_WORDS = Field("max_words", "integer", default=40)
_KEYWORDS = Field(
    "keywords",
    "texts",
    default=(),
    allow_empty=True,
    lead={"en": "\nWords that must occur: ", "zh": "\n必须出现的词："},
)
_EMOJI = Field("num_emoji", "integer", default=1)


def _language(row: Row) -> Constraint:
    return Constraint("language", {"code": row.language})


def _role_constraints(row: Row) -> tuple[Constraint, ...]:
    """In the row's language, within its length, without a name in front, without repeating the chat."""
    said = tuple(line.replace("：", ":").partition(":")[2] or line for line in row.fields["history"])
    return (
        _language(row),
        Constraint("words", {"minimum": 1, "maximum": _ROLE_WORDS.value(row)}),
        Constraint("no_speaker", {}),
        Constraint("not_quoting", {"texts": said}),
    )


def _suggestion_constraints(row: Row) -> tuple[Constraint, ...]:
    return (
        _language(row),
        Constraint("lines", {"count": NUM_SUGGESTIONS}),
        Constraint("distinct_lines", {}),
        Constraint("words_per_line", {"maximum": _SUGGESTION_WORDS.value(row)}),
    )


def _comment_constraints(row: Row) -> tuple[Constraint, ...]:
    keywords = tuple(_KEYWORDS.value(row))
    return (
        _language(row),
        Constraint("lines", {"count": 1}),
        Constraint("words", {"minimum": 1, "maximum": _COMMENT_WORDS.value(row)}),
        Constraint("emoji", {"minimum": _EMOJI.value(row), "maximum": _EMOJI.value(row)}),
        *([Constraint("keywords", {"expressions": keywords})] if keywords else []),
    )


GROUP_CHAT_ROLE_PLAY = write_text(
    "group_chat_role_play",
    CAPABILITY,
    {
        "en": (
            "Role-play: you are the persona in a group chat. Answer the last message as this person would. "
            "Stay in the role, turn down what is improper, and warn of risks instead of giving medical, legal or "
            "money advice."
        ),
        "zh": (
            "角色扮演：你是群聊中的这个角色，以他的口吻回应最后一条消息。保持人设，拒绝不当内容；"
            "遇到医疗、法律、理财问题只提示风险、不给建议。"
        ),
    },
    (_PERSONA, optional("rules", "texts"), _HISTORY, Field("message"), _ROLE_WORDS),
    KeptConstraints(),
    {
        "en": (
            "Reply in English with what is said alone: at most {max_words} words, no name in front, nothing repeated "
            "from the chat."
        ),
        "zh": "用中文只回复说的话：最多{max_words}字，前面不写名字，不重复聊天记录。",
    },
    reward_kind="pattern",
    reference=_role_constraints,
    paper="Role-playing Dialogue",
)

PERSONA_CONSISTENCY = choose_label(
    "persona_consistency",
    CAPABILITY,
    {
        "en": "Persona check: does the reply fit the persona sheet and what was said before?",
        "zh": "人设一致性：回复是否符合人设和之前说过的话？",
    },
    (_PERSONA, optional("history", "texts"), Field("reply")),
    label_set(
        ("consistent", "contradicts a fact", "wrong tone", "breaks the role"),
        ("一致", "与事实矛盾", "语气不符", "跳出角色"),
    ),
)

SUPPORT_STRATEGY = choose_label(
    "support_strategy",
    CAPABILITY,
    {
        "en": "Support: with which strategy should the supporter answer the last message?",
        "zh": "支持策略：支持者应该用哪种策略回应最后一条消息？",
    },
    (Field("situation"), _HISTORY),
    label_set(
        (
            "Question",
            "Restatement or Paraphrasing",
            "Reflection of Feelings",
            "Self-disclosure",
            "Affirmation and Reassurance",
            "Providing Suggestions",
            "Information",
            "Others",
        ),
        ("提问", "复述", "情感反映", "自我表露", "肯定与安慰", "提供建议", "提供信息", "其他"),
    ),
)

DISTRESS_LEVEL = grade(
    "distress_level",
    CAPABILITY,
    {
        "en": "Distress: how much does the writer of the last message suffer now? 1 hardly; 2 a little; 3 clearly; "
        "4 strongly; 5 hardly bearable.",
        "zh": "情绪强度：最后一条消息的作者此刻有多难受？1 几乎没有；2 有一点；3 明显；4 强烈；5 难以承受。",
    },
    (_HISTORY,),
    (1, 2, 3, 4, 5),
)

REPLY_SUGGESTION = write_text(
    "reply_suggestion",
    CAPABILITY,
    {
        "en": "Suggested replies: write three different replies with which the author could answer the comment.",
        "zh": "推荐回复：替作者写三条不同的回复来回应评论。",
    },
    (Field("note"), Field("comment"), _SUGGESTION_WORDS),
    KeptConstraints(),
    {
        "en": "Reply in English with three lines, one reply each, at most {max_words} words a line.",
        "zh": "用中文回复三行，每行一条，每条最多{max_words}字。",
    },
    reward_kind="pattern",
    reference=_suggestion_constraints,
)

STYLED_COMMENT = write_text(
    "styled_comment",
    CAPABILITY,
    {
        "en": "Write a comment under the note in the style asked for.",
        "zh": "写评论：按要求的风格给笔记写一条评论。",
    },
    (Field("note"), Field("reply_style"), _KEYWORDS, _COMMENT_WORDS, _EMOJI),
    KeptConstraints(),
    {
        "en": "Reply in English with one line of at most {max_words} words and exactly {num_emoji} emoji.",
        "zh": "用中文回复一行，最多{max_words}字，正好{num_emoji}个表情符号。",
    },
    reward_kind="pattern",
    reference=_comment_constraints,
)

NEXT_SPEAKER = choose_letter(
    "next_speaker",
    CAPABILITY,
    {
        "en": "Next speaker: who of the members should answer the last message of the group chat?",
        "zh": "接话人：群聊的最后一条消息该由哪位成员来接？",
    },
    (_HISTORY,),
    "members",
)

CHAT_SAFETY_ACTION = choose_label(
    "chat_safety_action",
    CAPABILITY,
    {
        "en": "Safe chat: what should a virtual companion do with this message?",
        "zh": "聊天安全：虚拟伙伴应该怎样对待这条消息？",
    },
    (optional("history", "texts"), Field("message")),
    label_set(
        ("chat on", "answer with a risk warning", "refuse", "refuse and point to help"),
        ("正常聊", "回答并提示风险", "拒绝", "拒绝并引导求助"),
    ),
)

REPLY_SELECTION = choose_letter(
    "reply_selection",
    CAPABILITY,
    {
        "en": "Best reply: which reply suits the chat and the persona best?",
        "zh": "选回复：哪一条最符合对话和人设？",
    },
    (_PERSONA, _HISTORY),
    "replies",
)

COMPANION_MEMORY = make_task(
    "companion_memory",
    CAPABILITY,
    {
        "en": "Memory: what about the user is worth remembering for later chats? Lasting facts, no passing moods.",
        "zh": "记忆提取：这段聊天里关于用户有什么值得长期记住？只记事实，不记一时情绪。",
    },
    (_HISTORY,),
    {"en": "Reply with one short fact a line; or none.", "zh": "每行一条简短事实；没有则回复无。"},
    answer_format="extraction",
    reward_kind="metric",
    parser=lists.or_none(lists.parse_lines),
    scorer=SoftF1(text_similarity),
    formatter=lists.lines_or_none,
    format_rule="one fact a line, or none (无)",
    answer_kind="texts",
    canonical=lists.tidy_lines,
    allow_empty_answer=True,
    empty_text=lists.NONE_WORDS["en"],
)

TASKS = (
    GROUP_CHAT_ROLE_PLAY,
    PERSONA_CONSISTENCY,
    SUPPORT_STRATEGY,
    DISTRESS_LEVEL,
    REPLY_SUGGESTION,
    STYLED_COMMENT,
    NEXT_SPEAKER,
    CHAT_SAFETY_ACTION,
    REPLY_SELECTION,
    COMPANION_MEMORY,
)
