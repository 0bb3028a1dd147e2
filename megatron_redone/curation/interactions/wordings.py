"""The words around queries and notes: several variants in English and Chinese, all our own.

Slots: {date} and {minute} (of the search), {clock} (hour of the day in words), {query}, {tags} (of the query), {place}
(number of the note from 1), {title}, {content}, {seconds} (a duration in words), {users}. What the log says goes in as
it is and is never read as a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from megatron_redone.curation.interactions.log import NextAction

Actions = Mapping[NextAction, str]


@dataclass(frozen=True, slots=True)
class VisitWording:
    """How single and consecutive searches are told."""

    opening: str
    opening_unread: str
    """The first round where nothing was opened."""
    later: str
    later_unread: str
    note: str
    untitled: str
    tags: str
    """What stands behind a query or a content that has tags."""
    tag_border: str
    actions: Actions
    border: str
    """Between the parts."""


@dataclass(frozen=True, slots=True)
class ClickThroughWording:
    """How a click-through estimate is told."""

    opening: str
    clicked: str
    """Before the notes clicked most."""
    not_clicked: str
    note: str
    untitled: str
    tags: str
    tag_border: str
    border: str


def _actions(more_notes: str, new_query: str, other_page: str, left: str) -> Actions:
    return {"more_notes": more_notes, "new_query": new_query, "other_page": other_page, "left": left}


_EN_TAGS, _ZH_TAGS = (" (tags: {tags})", ", "), ("（标签：{tags}）", "、")

VISITS: Mapping[tuple[str, str], tuple[VisitWording, ...]] = {
    ("full", "en"): (
        VisitWording(
            '{date} {minute}. A reader typed "{query}"{tags} and opened, one after the other:',
            '{date} {minute}. A reader typed "{query}"{tags} and opened none of the results.',
            'The next search was "{query}"{tags}, and these were opened:',
            'The next search was "{query}"{tags}, and none of its results was opened.',
            "{place}. {title}\n{content}\nRead for {seconds}.",
            "{place}. {content}\nRead for {seconds}.",
            *_EN_TAGS,
            _actions(
                "Then the reader went on through more notes.",
                "Then the reader began a new search.",
                "Then the reader turned to another page.",
                "Then the reader closed the app.",
            ),
            "\n",
        ),
        VisitWording(
            "Search log, {date}, {minute}\nQuery: {query}{tags}\nOpened notes:",
            "Search log, {date}, {minute}\nQuery: {query}{tags}\nOpened notes: none",
            "Query at {minute}: {query}{tags}\nOpened notes:",
            "Query at {minute}: {query}{tags}\nOpened notes: none",
            "- {title} | {content} | {seconds}",
            "- {content} | {seconds}",
            *_EN_TAGS,
            _actions(
                "Next step: more notes", "Next step: another query", "Next step: a different page", "Next step: exit"
            ),
            "\n",
        ),
        VisitWording(
            "Somebody was looking for {query}{tags} at {minute} on {date}. What they picked:",
            "Somebody was looking for {query}{tags} at {minute} on {date}, but picked nothing.",
            "After that they tried {query}{tags} and picked:",
            "After that they tried {query}{tags} and picked nothing.",
            '"{title}", open for {seconds}:\n{content}',
            "A note without a title, open for {seconds}:\n{content}",
            *_EN_TAGS,
            _actions(
                "They kept browsing notes afterwards.",
                "They searched for something new afterwards.",
                "They moved on to a different page afterwards.",
                "They left afterwards.",
            ),
            "\n\n",
        ),
        VisitWording(
            "At {minute} on {date} one user wanted to know about {query}{tags}.",
            "At {minute} on {date} one user wanted to know about {query}{tags}; nothing was clicked.",
            "The next query was {query}{tags}.",
            "The next query was {query}{tags}; nothing was clicked.",
            "Click {place} went to {title}. {content} It held the user for {seconds}.",
            "Click {place} went to this note. {content} It held the user for {seconds}.",
            *_EN_TAGS,
            _actions(
                "More notes followed.",
                "Another query followed.",
                "A visit to another page followed.",
                "Nothing followed: the user was gone.",
            ),
            " ",
        ),
    ),
    ("full", "zh"): (
        VisitWording(
            "{date}{minute}，有人在搜索框里输入“{query}”{tags}，先后打开了：",
            "{date}{minute}，有人在搜索框里输入“{query}”{tags}，结果一篇也没打开。",
            "接着又搜“{query}”{tags}，打开了：",
            "接着又搜“{query}”{tags}，一篇也没打开。",
            "{place}．{title}\n{content}\n看了{seconds}。",
            "{place}．{content}\n看了{seconds}。",
            *_ZH_TAGS,
            _actions(
                "之后，这个人接着翻看别的笔记。",
                "之后，这个人换了新的搜索词。",
                "之后，这个人转到了其他页面。",
                "之后，这个人关掉了应用。",
            ),
            "\n",
        ),
        VisitWording(
            "搜索记录 {date}{minute}\n搜索词：{query}{tags}\n阅读：",
            "搜索记录 {date}{minute}\n搜索词：{query}{tags}\n阅读：无",
            "{minute} 搜索词：{query}{tags}\n阅读：",
            "{minute} 搜索词：{query}{tags}\n阅读：无",
            "· {title}｜{content}｜{seconds}",
            "· {content}｜{seconds}",
            *_ZH_TAGS,
            _actions("下一步：继续浏览", "下一步：另搜其他", "下一步：去往别处", "下一步：离开"),
            "\n",
        ),
        VisitWording(
            "{date}{clock}左右，一位网友想找{query}{tags}，从结果里挑了这些来看：",
            "{date}{clock}左右，一位网友想找{query}{tags}，但结果里没有想看的。",
            "随后改搜{query}{tags}，挑了这些：",
            "随后改搜{query}{tags}，还是没有想看的。",
            "《{title}》，停留{seconds}：\n{content}",
            "一篇没有标题的笔记，停留{seconds}：\n{content}",
            *_ZH_TAGS,
            _actions("看完以后继续刷笔记。", "看完以后又去搜别的。", "看完以后去了其他页面。", "看完以后就走了。"),
            "\n\n",
        ),
        VisitWording(
            "{date}{minute}，用户想了解{query}{tags}。",
            "{date}{minute}，用户想了解{query}{tags}，没有点开任何结果。",
            "用户接着查{query}{tags}。",
            "用户接着查{query}{tags}，没有点开任何结果。",
            "第{place}次点开的是{title}。{content}停了{seconds}。",
            "第{place}次点开的是：{content}停了{seconds}。",
            *_ZH_TAGS,
            _actions("接下来是更多笔记。", "接下来是新的查询。", "接下来是别的页面。", "接下来用户离开了。"),
            "",
        ),
    ),
    ("compact", "en"): (
        VisitWording(
            "{clock}, search: {query}{tags}.",
            "{clock}, search: {query}{tags}.",
            "search: {query}{tags}.",
            "search: {query}{tags}.",
            "clicked {title}: {content} read {seconds}.",
            "clicked {content} read {seconds}.",
            " [{tags}]",
            " ",
            _actions(
                "then viewed more notes.", "then started a new query.", "then went to another page.", "then left."
            ),
            " ",
        ),
    ),
    ("compact", "zh"): (
        VisitWording(
            "{clock}，搜索：{query}{tags}。",
            "{clock}，搜索：{query}{tags}。",
            "搜索：{query}{tags}。",
            "搜索：{query}{tags}。",
            "点开{title}：{content}读了{seconds}。",
            "点开{content}读了{seconds}。",
            "【{tags}】",
            " ",
            _actions("然后继续看笔记。", "然后重新搜索。", "然后去了别的页面。", "然后离开。"),
            "",
        ),
    ),
}
"""By style and language."""

CLICK_THROUGHS: Mapping[tuple[str, str], tuple[ClickThroughWording, ...]] = {
    ("full", "en"): (
        ClickThroughWording(
            '{users} people searched for "{query}"{tags}.',
            "Of what the page showed them, they opened these most:",
            "These were shown as well, and nobody opened them:",
            "{place}. {title}\n{content}",
            "{place}. {content}",
            *_EN_TAGS,
            "\n",
        ),
        ClickThroughWording(
            "Query: {query}{tags}\nUsers: {users}",
            "Top notes by clicks",
            "Notes shown without a click",
            "- {title} | {content}",
            "- {content}",
            *_EN_TAGS,
            "\n",
        ),
        ClickThroughWording(
            "What do people want who look for {query}{tags}? {users} of them had results on their screens.",
            "The favourites, best first:",
            "Passed over by all:",
            '"{title}": {content}',
            "Without a title: {content}",
            *_EN_TAGS,
            "\n\n",
        ),
    ),
    ("full", "zh"): (
        ClickThroughWording(
            "共有{users}人搜过“{query}”{tags}。",
            "在展示给他们的笔记里，点开最多的依次是：",
            "同样展示过、却没有人点开的是：",
            "{place}．{title}\n{content}",
            "{place}．{content}",
            *_ZH_TAGS,
            "\n",
        ),
        ClickThroughWording(
            "搜索词：{query}{tags}\n人数：{users}",
            "点击靠前的笔记",
            "有展示无点击的笔记",
            "· {title}｜{content}",
            "· {content}",
            *_ZH_TAGS,
            "\n",
        ),
        ClickThroughWording(
            "想找{query}{tags}的人爱看什么？{users}位网友看到了搜索结果。",
            "最受欢迎的几篇，从高到低：",
            "大家都跳过的几篇：",
            "《{title}》：{content}",
            "无标题：{content}",
            *_ZH_TAGS,
            "\n\n",
        ),
    ),
    ("compact", "en"): (
        ClickThroughWording(
            "{users} users searched {query}{tags}.",
            "most clicked",
            "not clicked",
            "{place}: {content}",
            "{place}: {content}",
            " [{tags}]",
            " ",
            " ",
        ),
    ),
    ("compact", "zh"): (
        ClickThroughWording(
            "{users}人搜索{query}{tags}。",
            "点击最多",
            "没人点",
            "{place}：{content}",
            "{place}：{content}",
            "【{tags}】",
            " ",
            "",
        ),
    ),
}
"""By style and language."""

_DATES = {"en": ("{:04d}-{:02d}-{:02d}", "{:02d}:{:02d}"), "zh": ("{}年{}月{}日", "{}点{:02d}分")}
_ZH_HOURS = ((5, "凌晨"), (8, "早上"), (12, "上午"), (14, "中午"), (18, "下午"), (24, "晚上"))


def time_slots(time: datetime, language: str) -> dict[str, str]:
    """date, minute and clock of a time."""
    date, minute = _DATES[language]
    return {
        "date": date.format(time.year, time.month, time.day),
        "minute": minute.format(time.hour, time.minute),
        "clock": clock(time.hour, language),
    }


def clock(hour: int, language: str) -> str:
    """The hour of the day, 0..23, in words: `9 pm`, `晚上9点`."""
    on_the_dial = (hour - 1) % 12 + 1
    if language == "zh":
        return next(name for end, name in _ZH_HOURS if hour < end) + f"{on_the_dial}点"
    return f"{on_the_dial} {'am' if hour < 12 else 'pm'}"


def duration(seconds: float, language: str) -> str:
    """A reading time, rounded to the second, with minutes from 100 seconds on: `41 seconds`, `2分5秒`."""
    whole = max(1, round(seconds))
    minutes, rest = divmod(whole, 60) if whole >= 100 else (0, whole)
    if language == "zh":
        return (f"{minutes}分" if minutes else "") + (f"{rest}秒" if rest or not minutes else "")
    parts = [(minutes, "minute"), (rest, "second")]
    return " ".join(f"{count} {unit}{'s' * (count != 1)}" for count, unit in parts if count)
