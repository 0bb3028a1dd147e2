"""Rows whose answer is written, not chosen: replies, translations, sums."""

from __future__ import annotations

from megatron_redone.curation.synthesize.draft import Draft, Order
from megatron_redone.curation.synthesize.phrases import CATCHWORDS, FEELINGS, PERSONAS, PAIR_SENTENCES, SENTENCES
from megatron_redone.curation.synthesize.sums import draw_sum
from megatron_redone.curation.synthesize.texts import CHINESE, ENGLISH, Text

MAX_REPLY_WORDS = 8
COMBINATIONS = len(FEELINGS) * len(PERSONAS)


def reply_to(feeling: int, persona: int) -> Text:
    """What a persona answers to a feeling: its word, then the comfort that the feeling asks for."""
    word, comfort = CATCHWORDS[persona], FEELINGS[feeling].comfort
    return Text(f"{word.en}, {comfort.en}", f"{word.zh}，{comfort.zh}")


def emotional_companion(order: Order) -> Draft:
    """A reply in the persona's manner that comforts what the message shows."""
    feeling, persona = order.label % len(FEELINGS), order.label // len(FEELINGS) % len(PERSONAS)
    language = order.language
    message = order.author.message(FEELINGS[feeling]).of(language)
    fields = {
        "persona": PERSONAS[persona].of(language),
        "message": message,
        "max_words": MAX_REPLY_WORDS,
        "cues": [CATCHWORDS[persona].of(language), FEELINGS[feeling].cue.of(language)],
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
