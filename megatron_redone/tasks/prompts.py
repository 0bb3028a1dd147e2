"""Prompts made of parts: what is asked, the row's fields under their headings, and the format of the answer.

A task that is built in `kinds.py` states only what is asked. Headings stand here once, and the format comes from
the kind of answer, beside its parser, so that a prompt cannot ask for what the parser does not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from megatron_redone.tasks.fields import Field

LANGUAGES = ("en", "zh")
ByLanguage = Mapping[str, str]

_HEADINGS = {
    "actions": ("Actions in order", "行为记录"),
    "aspects": ("Aspects", "方面"),
    "appeal": ("Appeal", "申诉"),
    "attributes": ("Attributes", "属性"),
    "author_reply": ("Reply of the author", "作者回复"),
    "bio": ("Bio", "简介"),
    "candidate_notes": ("Candidate notes", "候选笔记"),
    "candidates": ("Options", "选项"),
    "choices": ("Choices", "选项"),
    "claim": ("Claim", "说法"),
    "clicked": ("Clicked", "已点"),
    "comment": ("Comment", "评论"),
    "comments": ("Comments", "评论"),
    "content": ("Note", "正文"),
    "decision": ("Decision", "处理结果"),
    "document": ("Document", "文档"),
    "entities": ("Entities", "实体"),
    "evidence": ("Evidence", "依据"),
    "expression": ("Expression", "表达"),
    "first_note": ("Note 1", "笔记一"),
    "first_query": ("Query 1", "查询一"),
    "glossary": ("Glossary", "术语表"),
    "history": ("Chat so far", "聊天记录"),
    "instruction": ("Task", "任务"),
    "interests": ("Interests", "兴趣"),
    "knowledge": ("Knowledge", "已知信息"),
    "labels": ("Labels", "标签"),
    "level": ("Level", "答案类型"),
    "meanings": ("Meanings", "释义"),
    "members": ("Members", "成员"),
    "mention": ("Mention", "提及"),
    "message": ("Message", "消息"),
    "nickname": ("Nickname", "昵称"),
    "note": ("Note", "笔记"),
    "note_type": ("Kind of note", "笔记类型"),
    "notes": ("Notes", "笔记"),
    "ocr": ("Text in images", "图中文字"),
    "passage": ("Passage", "文章"),
    "paths": ("Paths", "路径"),
    "persona": ("Persona", "人设"),
    "posted": ("Posted on", "发布日期"),
    "prefix": ("Typed so far", "已输入"),
    "product": ("Product", "商品"),
    "queries": ("Queries", "查询"),
    "query": ("Query", "查询"),
    "question": ("Question", "问题"),
    "quote": ("Sentence", "原句"),
    "reason": ("Reason", "理由"),
    "replies": ("Replies", "回复"),
    "reply": ("Reply", "回复"),
    "report": ("Report", "举报"),
    "reply_style": ("Style", "风格"),
    "rules": ("Rules", "规则"),
    "second_note": ("Note 2", "笔记二"),
    "second_query": ("Query 2", "查询二"),
    "sentences": ("Sentences", "句子"),
    "session": ("Session", "会话"),
    "situation": ("Situation", "情境"),
    "steps": ("Steps", "步骤"),
    "target": ("Target", "对象"),
    "text": ("Text", "文本"),
    "title": ("Title", "标题"),
    "titles": ("Titles", "标题"),
    "topic": ("Topic", "话题"),
    "transcript": ("Transcript", "直播文字"),
    "translation": ("Translation", "译文"),
    "translations": ("Translations", "译文"),
}


def heading(name: str, language: str) -> str:
    """The heading of a field, with its colon."""
    english, chinese = _HEADINGS[name]
    return f"{english}: " if language == "en" else f"{chinese}："


def optional(name: str, kind: str = "text") -> Field:
    """A text, or a list shown line by line, that may be left out; its heading goes with it."""
    if kind == "text":
        return Field(name, default="", allow_empty=True, lead={code: "\n" + heading(name, code) for code in LANGUAGES})
    lead = {code: "\n" + heading(name, code).rstrip() + "\n" for code in LANGUAGES}
    return Field(name, "texts", "lines", default=(), allow_empty=True, lead=lead)


def compose(ask: ByLanguage, fields: Sequence[Field], form: ByLanguage) -> dict[str, str]:
    """The templates: `ask`, each shown field under its heading, `form` as the last line.

    A field whose placeholder stands in `ask` or `form` gets no heading of its own.
    """
    return {code: _compose(ask[code], fields, form[code], code) for code in LANGUAGES}


def _compose(ask: str, fields: Sequence[Field], form: str, language: str) -> str:
    text = ask
    for field in fields:
        place = f"{{{field.name}}}"
        if not field.shown or place in ask + form:
            continue
        if field.lead is not None:
            text += place
            continue
        title = heading(field.name, language)
        below = field.kind == "texts" and field.joined not in ("commas", "literal")
        text += "\n" + (title.rstrip() + "\n" if below else title) + place
    return f"{text}\n{form}" if form else text
