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
_LETTERS = "ABCD"
_ROUND = Text("search: {query}.", "搜索：{query}。")
_VISIT = Text("clicked {title}: {content} read {seconds} seconds.", "点开{title}：{content}读了{seconds}秒。")
_END = Text("then {action}.", "然后{action}。")


@dataclass(frozen=True, slots=True)
class Visit:
    """A clicked note and how long it was read."""

    note: Note
    seconds: int


def _visit(author: Author, query: Query, meets: bool, num_sentences: int) -> Visit:
    """A note on the thing of the query, read for long, or only on its subtopic, soon closed."""
    (item,) = query.items
    own = SUBTOPIC_OF[item]
    others = author.items(own, num_sentences, item)
    items = (item, *others[1:]) if meets else others
    shortest, longest = (30, 60) if meets else (5, 15)
    return Visit(author.note(items), author.random.randrange(shortest, longest + 1, 5))


def _round(author: Author, num_visits: int, num_sentences: int) -> tuple[Text, bool]:
    """A query and the clicks after it; whether the last note met the query."""
    query = author.query(author.subtopic().items)
    meets = [author.random.random() < 0.7 for _ in range(num_visits)]
    parts = [fill(_ROUND, query=query.text)]
    for met in meets:
        visit = _visit(author, query, met, num_sentences)
        seconds = Text(str(visit.seconds), str(visit.seconds))
        parts.append(fill(_VISIT, title=visit.note.title, content=visit.note.content, seconds=seconds))
    return joined(*parts), meets[-1]


def _end(author: Author, met: bool) -> Text:
    """Who found it stays or leaves; who did not, asks anew or goes elsewhere."""
    actions = (_NEXT_ACTIONS[0], _NEXT_ACTIONS[3]) if met else _NEXT_ACTIONS[1:3]
    return fill(_END, action=author.random.choice(actions))


def single_search(author: Author) -> Text:
    """Time, query, the notes clicked in order with their reading times, and what the user did next."""
    hour = author.random.choice(_HOURS)
    visits, met = _round(author, author.random.randint(1, 2), 2)
    return joined(Text(f"{hour.en},", f"{hour.zh}，"), visits, _end(author, met))


def consecutive_searches(author: Author) -> Text:
    """Two rounds of query and clicked note, then the last action."""
    first, _ = _round(author, 1, 2)
    last, met = _round(author, 1, 2)
    return joined(first, last, _end(author, met))


def click_through(author: Author) -> Text:
    """How many users searched, four notes shown, the three clicked most in order, and the one not clicked.

    Notes on the thing of the query come first, then notes of its subtopic; an advertisement or a note on
    another topic is the one that nobody clicks.
    """
    query = author.query(author.subtopic().items)
    (item,) = query.items
    own = SUBTOPIC_OF[item]
    near, near_too = author.items(own, 2, item)
    ranked = [author.sentence(thing) for thing in (item, near, near_too)]
    if author.random.random() < 0.5:
        ranked.append(author.from_frames(ADVERTISING, w=own.items))
    else:
        ranked.append(author.sentence(author.random.choice(author.subtopic(own).items)))
    shown = author.random.sample(ranked, len(ranked))
    letter = {note: _LETTERS[shown.index(note)] for note in ranked}
    users = author.random.randrange(20, 100)
    clicked = [letter[note] for note in ranked[:3]]
    return joined(
        Text(f"{users} users searched {query.text.en}.", f"{users}人搜索{query.text.zh}。"),
        *(Text(f"{letter[note]}: {note.en}", f"{letter[note]}：{note.zh}") for note in shown),
        Text(f"most clicked {', '.join(clicked)}.", f"点击最多{'、'.join(clicked)}。"),
        Text(f"not clicked {letter[ranked[3]]}.", f"没人点{letter[ranked[3]]}。"),
    )
