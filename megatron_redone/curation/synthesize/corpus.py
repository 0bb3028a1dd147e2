"""The pretraining corpus: short documents that hold what the tasks ask about, never in the form they ask it.

Every note, query, comment and sum in it is of the train split: held-out rows use its words in sentences that
it does not hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from megatron_redone.common.errors import InputError
from megatron_redone.common.seeding import rng
from megatron_redone.curation.synthesize import documents, lexicon, phrases
from megatron_redone.curation.synthesize.interaction_corpus import InteractionCorpus, interaction_corpus
from megatron_redone.curation.synthesize.notes import Author
from megatron_redone.curation.synthesize.sums import draw_sum
from megatron_redone.curation.synthesize.texts import LANGUAGES, ExhaustedSplitError, Text, joined, normalised

MAX_REPEATS = 500
"""Documents in a row that may fail or repeat earlier ones before a form counts as exhausted."""
SOURCE = "synthesize"
MIXED = "en-zh"
"""Language of the documents that hold both."""
_GLOSSARY_ENTRIES = 8
_SUMS = 4
_WORDS = (*lexicon.ITEMS, *lexicon.ADJECTIVES, *lexicon.TIMES)

NOTES = (
    documents.topic_card,
    documents.topic_card,
    documents.two_tag_card,
    documents.named_note,
    documents.named_note,
    documents.named_note,
    documents.repost,
    documents.moderated_note,
    documents.moderated_note,
    documents.fairness_note,
    documents.asked_note,
    documents.asked_note,
    documents.query_card,
    documents.query_card,
    documents.double_query_card,
    documents.graded_pair,
    documents.answered_question,
    documents.marked_comment,
    documents.marked_comment,
)
"""Kinds of single notes, drawn evenly."""


def any_note(author: Author) -> Text:
    """A document of one of the kinds of single notes."""
    return author.random.choice(NOTES)(author)


def word_list(author: Author) -> Text:
    """What belongs together: a subtopic with its topic, hashtag and things, or names of one type."""
    if author.random.random() < 0.2:
        kind, names = author.random.choice(list(lexicon.NAMES_BY_TYPE.items()))
        return joined(Text(f"{kind.en}:", f"{kind.zh}："), _listed(author.random.sample(names, len(names))))
    subtopic = author.random.choice(lexicon.SUBTOPICS)
    return joined(
        Text(
            f"{subtopic.category.en} {subtopic.hashtag.en}:",
            f"{subtopic.category.zh} {subtopic.hashtag.zh}：",
        ),
        _listed(author.random.sample(subtopic.items, len(subtopic.items))),
    )


def sums(author: Author) -> Text:
    """A few sums, written out step by step."""
    drawn = [draw_sum(author.random, author.split) for _ in range(_SUMS)]
    return joined(*(Text(f"{one.rationale('en')}.", f"{one.rationale('zh')}。") for one in drawn))


def glossary(random: Random) -> str:
    """Words with their translation, from either language."""
    return "; ".join(_equation(random, word) for word in random.sample(_WORDS, _GLOSSARY_ENTRIES))


def parallel_sentences(author: Author) -> str:
    """A sentence of a note in both languages, in either order."""
    sentence = author.from_frames((*phrases.SENTENCES, *phrases.PAIR_SENTENCES))
    return _equation(author.random, sentence)


def _equation(random: Random, text: Text) -> str:
    left, right = (text.en, text.zh) if random.random() < 0.5 else (text.zh, text.en)
    return f"{left} = {right}"


def _listed(words: Sequence[Text]) -> Text:
    return Text(", ".join(word.en for word in words) + ".", "、".join(word.zh for word in words) + "。")


_INTERACTION = {"single_search": 17, "consecutive_searches": 10, "click_through": 10}
"""Percent of the corpus; `interaction_corpus` makes these."""
_MONOLINGUAL: dict[str, tuple[int, Callable[[Author], Text]]] = {
    "note": (34, any_note),
    "chat": (3, documents.chat),
    "word_list": (3, word_list),
    "general": (5, sums),
}
_MIXED: dict[str, tuple[int, Callable[[Author], str]]] = {
    "glossary": (6, lambda author: glossary(author.random)),
    "parallel": (12, parallel_sentences),
}
FORMS = (*_INTERACTION, *_MONOLINGUAL, *_MIXED)


@dataclass(frozen=True)
class Corpus:
    """The documents, and the log that a part of them is made of."""

    documents: list[dict[str, Any]]
    interactions: InteractionCorpus


def corpus(seed: int, count: int) -> Corpus:
    """`count` different documents `{"id", "text", "form", "language", ...}`, shuffled.

    Percent: 37 interaction (single search 17, consecutive 10, click-through 10), 34 single notes, 3 chats,
    3 word lists, 5 general text (sums), 18 in both languages (glossary 6, sentences 12). Forms of one language
    are half English, half Chinese.

    Raises:
        InputError: a form has fewer different documents than its share.
    """
    drawn = [(form, share) for form, (share, _) in (*_MONOLINGUAL.items(), *_MIXED.items())]
    sizes = dict(_sizes([*_INTERACTION.items(), *drawn], count))
    interactions = interaction_corpus(seed, {form: sizes[form] for form in _INTERACTION}, count)
    seen = {normalised(document["text"]) for document in interactions.documents}
    rows: list[dict[str, Any]] = [*interactions.documents]
    rows += [
        _document(form, index, rng(seed, "corpus", form, index), seen)
        for form, _ in drawn
        for index in range(sizes[form])
    ]
    rng(seed, "corpus", "order").shuffle(rows)
    return Corpus(rows, interactions)


def _sizes(shares: Sequence[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    """Documents of each form: cumulative shares rounded down, so that they add up to `count`."""
    sizes, before, end = [], 0, 0
    for form, share in shares:
        end += share
        after = count * end // 100
        sizes.append((form, after - before))
        before = after
    return sizes


def _document(form: str, index: int, random: Random, seen: set[str]) -> dict[str, str]:
    language = MIXED if form in _MIXED else LANGUAGES[index % len(LANGUAGES)]
    text = new_text(form, language, random, seen, f" after {index} documents")
    digest = hashlib.blake2b(normalised(text).encode(), digest_size=8).hexdigest()
    return {"id": f"corpus-{digest}", "text": text, "form": form, "language": language, "source": SOURCE}


def new_text(form: str, language: str, random: Random, seen: set[str], when: str = "") -> str:
    """A text of a form that is not in `seen`, where its normalised form is then noted.

    Raises:
        InputError: the form has no more different texts.
    """
    author = Author(random, "train")
    for _ in range(MAX_REPEATS):
        try:
            text = _MIXED[form][1](author) if form in _MIXED else _MONOLINGUAL[form][1](author).of(language)
        except ExhaustedSplitError:  # of the words drawn; others are drawn next
            continue
        if (key := normalised(text)) not in seen:
            seen.add(key)
            return text
    raise InputError(
        f"corpus_documents: the form {form!r} repeats itself{when}, and every document "
        "must be new; ask for fewer documents, or add words to the lexicon"
    )
