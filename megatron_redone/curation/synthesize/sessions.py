"""Sessions of invented users, in the three forms of interaction that tie the notes of a corpus together."""

from __future__ import annotations

from dataclasses import dataclass

from megatron_redone.curation.synthesize.lexicon import SUBTOPIC_OF
from megatron_redone.curation.synthesize.notes import Author, Note, Query
from megatron_redone.curation.synthesize.phrases import ADVERTISING
from megatron_redone.curation.synthesize.texts import Text, fill, joined

_HOURS = (
    Text("8 am", "早上8点"),
    Text("11 am", "上午11点"),
    Text("3 pm", "下午3点"),
    Text("6 pm", "傍晚6点"),
    Text("9 pm", "晚上9点"),
)
_NEXT_ACTIONS = (
    Text("viewed more notes", "继续看笔记"),
    Text("started a new query", "重新搜索"),
    Text("went to another page", "去了别的页面"),
    Text("left", "离开"),
)
_SHARE_OF_MET_QUERIES = 0.85
_LETTERS = "ABCD"
_ADVERT = Text("advert", "广告")
_ROUND = Text("search: {query} [{category}, {wish}].", "搜索：{query}【{category}，{wish}】。")
_VISIT = Text(
    "clicked {title}: {content} [{category} {tag}] read {seconds} seconds.",
    "点开{title}：{content}【{category} {tag}】读了{seconds}秒。",
)
_END = Text("then {action}.", "然后{action}。")


@dataclass(frozen=True, slots=True)
class Visit:
    """A clicked note and how long it was read."""

    note: Note
    seconds: int


def _visit(author: Author, query: Query, meets: bool, num_sentences: int) -> Visit:
    """A note on the thing of the query, read for long, or only on its subtopic, soon closed."""
    (item,) = query.items
    others = author.items(SUBTOPIC_OF[item], num_sentences, item)
    items = (item, *others[1:]) if meets else others
    note = Note(author.title(items[:1]), joined(*(author.sentence(thing) for thing in items)), items)
    return Visit(note, author.random.choice((40, 60) if meets else (5, 10)))


def _round(author: Author, num_visits: int, num_sentences: int) -> tuple[Text, bool]:
    """A query and the clicks after it, each with its category; whether the last note met the query."""
    query = author.query(author.subtopic().items)
    assert query.intent is not None
    own = SUBTOPIC_OF[query.items[0]]
    meets = [author.random.random() < _SHARE_OF_MET_QUERIES for _ in range(num_visits)]
    parts = [fill(_ROUND, query=query.text, category=own.category, wish=query.intent.name)]
    for met in meets:
        visit = _visit(author, query, met, num_sentences)
        parts.append(
            fill(
                _VISIT,
                title=visit.note.title,
                content=visit.note.content,
                category=own.category,
                tag=own.hashtag,
                seconds=Text(str(visit.seconds), str(visit.seconds)),
            )
        )
    return joined(*parts), meets[-1]


def _end(author: Author, met: bool) -> Text:
    """Who found it stays or leaves; who did not, asks anew or goes elsewhere."""
    actions = (_NEXT_ACTIONS[0], _NEXT_ACTIONS[3]) if met else _NEXT_ACTIONS[1:3]
    return fill(_END, action=author.random.choice(actions))


def single_search(author: Author) -> Text:
    """Time, query, the notes clicked in order with their reading times, and what the user did next."""
    hour = author.random.choice(_HOURS)
    visits, met = _round(author, author.random.choice((1, 1, 2)), 2)
    return joined(Text(f"{hour.en},", f"{hour.zh}，"), visits, _end(author, met))


def consecutive_searches(author: Author) -> Text:
    """Two rounds of query and clicked note, then the last action."""
    first, _ = _round(author, 1, 1)
    last, met = _round(author, 1, 1)
    return joined(first, last, _end(author, met))


def click_through(author: Author) -> Text:
    """How many users searched, four notes shown, the three clicked most in order, the one not clicked, and
    the top one once more.

    Notes on the thing of the query come first, then notes of its subtopic; an advertisement or a note on
    another topic is the one that nobody clicks.
    """
    query = author.query(author.subtopic().items)
    (item,) = query.items
    own = SUBTOPIC_OF[item]
    things = [item, *author.items(own, 2, item)]
    far = author.random.choice(author.subtopic(own).items)
    advertised = author.random.random() < 0.5
    ranked = [author.sentence(thing) for thing in things]
    ranked.append(author.from_frames(ADVERTISING, w=own.items) if advertised else author.sentence(far))
    categories = [own.category] * 3 + [_ADVERT if advertised else SUBTOPIC_OF[far].category]
    shown = author.random.sample(range(4), 4)
    letters = [_LETTERS[shown.index(rank)] for rank in range(4)]
    users = author.random.randrange(20, 100)
    notes = [
        Text(
            f"{letters[rank]}: {ranked[rank].en} [{categories[rank].en}]",
            f"{letters[rank]}：{ranked[rank].zh}【{categories[rank].zh}】",
        )
        for rank in shown
    ]
    return joined(
        Text(f"{users} users searched {query.text.en}.", f"{users}人搜索{query.text.zh}。"),
        *notes,
        Text(f"most clicked {', '.join(letters[:3])}.", f"点击最多{'、'.join(letters[:3])}。"),
        Text(f"not clicked {letters[3]}.", f"没人点{letters[3]}。"),
        Text(f"top: {ranked[0].en}", f"第一：{ranked[0].zh}"),
    )
