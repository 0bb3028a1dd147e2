"""Notes, queries, comments and chats with what the platform knows of each: one short document apiece.

This is the knowledge that the tasks ask for, in sentences of its own, not in the form in which they ask.
"""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.curation.synthesize import lexicon, phrases
from megatron_redone.curation.synthesize.companions import FEELINGS, PERSONAS
from megatron_redone.curation.synthesize.generation_rows import reply_to
from megatron_redone.curation.synthesize.matching_rows import LEVELS, graded_note
from megatron_redone.curation.synthesize.notes import Author, other_than
from megatron_redone.curation.synthesize.texts import Text, fill, joined

_GRADES = dict(
    zip(
        LEVELS,
        (
            Text("advert", "广告"),
            Text("other field", "无关"),
            Text("same field", "同领域"),
            Text("same kind", "同类"),
            Text("exact", "完全符合"),
        ),
        strict=True,
    )
)
_YES, _NO = Text("yes", "是"), Text("no", "否")


def _listed(texts: Sequence[Text]) -> Text:
    return Text(" and ".join(text.en for text in texts), "和".join(text.zh for text in texts))


def topic_card(author: Author) -> Text:
    """A note with its topic, category and hashtag."""
    subtopic = author.random.choice(lexicon.SUBTOPICS)
    note = author.topical_note(subtopic)
    return fill(
        Text(
            "{title}. {content} field {topic}, kind {category}, tag {tag}.",
            "{title}。{content}领域{topic}，门类{category}，话题{tag}。",
        ),
        title=note.title,
        content=note.content,
        topic=subtopic.topic,
        category=subtopic.category,
        tag=subtopic.hashtag,
    )


def two_tag_card(author: Author) -> Text:
    """A note on things of two topics with both hashtags."""
    first = author.subtopic()
    second = author.subtopic(first)
    note = author.note((*author.items(first, 1), *author.items(second, 1)))
    return fill(
        Text("{title}. {content} tags {a} {b}.", "{title}。{content}话题{a} {b}。"),
        title=note.title,
        content=note.content,
        a=first.hashtag,
        b=second.hashtag,
    )


def named_note(author: Author) -> Text:
    """A sentence with names, and of what type each is, in any order."""
    several = [frame for frames in phrases.DOUBLE_NAME_SENTENCES.values() for frame in frames]
    sentence = author.names_sentence(author.random.choice((phrases.NAME_SENTENCES, several)))
    return joined(sentence, *_name_facts(author, sentence))


def moderated_note(author: Author) -> Text:
    """A note and the moderators' class."""
    kind = author.random.choice(phrases.SECURITY)
    items = author.items(author.subtopic(), 1)
    note = author.note(items, author.from_frames(kind.frames, w=author.subtopic().items))
    verdict = fill(Text("moderators say {label}.", "审核员判为{label}。"), label=kind.label)
    return joined(note.content, verdict)


def fairness_note(author: Author) -> Text:
    """A remark about a group and whether it bars people for their gender."""
    appeal, gendered = author.random.choice(((True, True), (True, False), (True, True), (False, True)))
    remark = author.gender_remark(appeal, gendered, author.subtopic().items)
    answer = _YES if appeal and gendered else _NO
    verdict = fill(Text("unfair to a gender, {answer}.", "有性别偏见，{answer}。"), answer=answer)
    return joined(remark, verdict)


def asked_note(author: Author) -> Text:
    """A note, a comment that asks, and what its reader searches next."""
    intent = author.random.choice(phrases.INTENTS)
    query, item = author.next_search(intent)
    note = author.note((item,))
    return joined(
        note.content,
        Text("someone asks:", "有人问："),
        author.from_frames(intent.comments, w=[item]),
        fill(Text("so people search {query}.", "于是大家搜{query}。"), query=query),
    )


def query_card(author: Author) -> Text:
    """A query, its category and what it wants."""
    query = author.query(author.subtopic().items)
    assert query.intent is not None
    category = lexicon.SUBTOPIC_OF[query.items[0]].category
    return fill(
        Text(
            "people search {query}, kind {category}, wish {wish}.",
            "大家搜{query}，门类{category}，想要{wish}。",
        ),
        query=query.text,
        category=category,
        wish=query.intent.name,
    )


def double_query_card(author: Author) -> Text:
    """A query on two things and both categories."""
    first = author.subtopic()
    second = author.subtopic(first)
    return fill(
        Text("people search {query}, kinds {a} and {b}.", "大家搜{query}，门类{a}和{b}。"),
        query=author.double_query(first, second).text,
        a=first.category,
        b=second.category,
    )


def graded_pair(author: Author) -> Text:
    """A query, a note, and how well the note fits."""
    level = author.random.choice(LEVELS)
    query = author.query(author.subtopic().items)
    return fill(
        Text(
            "search {query}, found: {note} fit {grade}, {level}.",
            "搜{query}，看到：{note}匹配{grade}，{level}。",
        ),
        query=query.text,
        note=graded_note(author, query, level),
        grade=_GRADES[level],
        level=Text(str(level), str(level)),
    )


def answered_question(author: Author) -> Text:
    """A question, what somebody wrote under it, and whether that settled it."""
    intent = author.random.choice(phrases.INTENTS)
    question, item = author.question(intent)
    case = author.random.randrange(4)
    told = other_than(author.random, phrases.INTENTS, intent) if case == 1 else intent
    thing = other_than(author.random, lexicon.ITEMS, item) if case == 3 else item
    answer = _YES if case in (0, 2) else _NO
    verdict = fill(Text("settled, {answer}.", "解决了，{answer}。"), answer=answer)
    return joined(question, author.from_frames(told.documents, w=[thing]), verdict)


def marked_comment(author: Author) -> Text:
    """A comment and the words in it that one can search for."""
    count = author.random.choice((0, 1, 1, 2, 2))
    comment, items = author.comment(count)
    words = _listed(items) if items else Text("none", "无")
    return joined(comment, fill(Text("keys: {words}.", "关键：{words}。"), words=words))


def chat(author: Author) -> Text:
    """A message, the reply of a persona, and what the message showed."""
    random = author.random
    feeling, persona = random.randrange(len(FEELINGS)), random.randrange(len(PERSONAS))
    felt = FEELINGS[feeling]
    return joined(
        author.message(felt),
        fill(Text("the {who}:", "{who}："), who=PERSONAS[persona]),
        reply_to(feeling, persona),
        fill(Text("the friend felt {feeling}.", "朋友觉得{feeling}。"), feeling=felt.name),
    )


def repost(author: Author) -> Text:
    """A post and its repost, word for word, with the names in it by type."""
    post = author.names_sentence(phrases.NAME_SENTENCES)
    writer = author.random.choice(lexicon.PEOPLE)
    again = fill(Text("reposted by {writer}: {post}", "{writer}转发：{post}"), writer=writer, post=post)
    return joined(post, again, *_name_facts(author, post))


def _name_facts(author: Author, sentence: Text) -> list[Text]:
    """What names of each type a sentence holds, the types in any order."""
    facts = [
        fill(Text("{kind} {names}.", "{kind}{names}。"), kind=kind, names=_listed(found))
        for kind, names in lexicon.NAMES_BY_TYPE.items()
        if (found := [name for name in names if name.zh in sentence.zh])
    ]
    author.random.shuffle(facts)
    return facts
