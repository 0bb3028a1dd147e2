"""Rows whose answer is written, not chosen: replies, translations, sums."""

from __future__ import annotations

from megatron_redone.curation.synthesize.companions import CATCHWORDS, FEELINGS, PERSONAS
from megatron_redone.curation.synthesize.draft import Draft, Order
from megatron_redone.curation.synthesize.phrases import PAIR_SENTENCES, SENTENCES
from megatron_redone.curation.synthesize.sums import draw_sum
from megatron_redone.curation.synthesize.texts import CHINESE, ENGLISH, Text, fill

MAX_REPLY_WORDS = {ENGLISH: 8, CHINESE: 12}
"""English words, Chinese characters."""
_REPLY = Text("{comfort}, {word}.", "{comfort}，{word}。")
_CUE = Text("{cue}, {word}", "{cue}，{word}")


def reply_to(feeling: int, persona: int) -> Text:
    """What a persona answers to a feeling: the comfort that the feeling asks for, then the persona's word."""
    return fill(_REPLY, comfort=FEELINGS[feeling].comfort, word=CATCHWORDS[persona])


def emotional_companion(order: Order) -> Draft:
    """A reply in the persona's manner that comforts what the message shows.

    The cue joins the ends of both, so that neither half of the answer earns the reward alone.
    """
    feeling, persona = order.label % len(FEELINGS), order.label // len(FEELINGS) % len(PERSONAS)
    language = order.language
    message = order.author.message(FEELINGS[feeling]).of(language)
    fields = {
        "persona": PERSONAS[persona].of(language),
        "message": message,
        "max_words": MAX_REPLY_WORDS[language],
        "cues": [fill(_CUE, cue=FEELINGS[feeling].cue, word=CATCHWORDS[persona]).of(language)],
    }
    return Draft(fields, reply_to(feeling, persona).of(language), (message,))


def note_translation_zh_en(order: Order) -> Draft:
    """A sentence of a note, from Chinese to English."""
    return _translation(order, CHINESE, ENGLISH)


def note_translation_en_zh(order: Order) -> Draft:
    """A sentence of a note, from English to Chinese."""
    return _translation(order, ENGLISH, CHINESE)


def _translation(order: Order, source: str, target: str) -> Draft:
    text = order.author.from_frames((*SENTENCES, *PAIR_SENTENCES))
    return Draft({"text": text.of(source)}, text.of(target), (text.of(source),))


def arithmetic(order: Order) -> Draft:
    """A sum with its steps."""
    drawn = draw_sum(order.author.random, order.author.split)
    question = drawn.question(order.language)
    return Draft({"question": question}, str(drawn.answer), (question,), drawn.rationale(order.language))
