"""Metrics of generated text: sentence BLEU and chrF2 (sacrebleu), and ANLS.

The translation value is the mean of sentence BLEU and chrF2, as SNS-TransBench averages them; both parts are
in the statistics, with what corpus BLEU needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sacrebleu.metrics.bleu import BLEU, BLEUScore
from sacrebleu.metrics.chrf import CHRF

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired, total

MAX_ORDER = 4


@cache
def _bleu(tokenizer: str) -> BLEU:
    return BLEU(tokenize=tokenizer, effective_order=True)


@cache
def _chrf(word_order: int) -> CHRF:
    return CHRF(word_order=word_order)


def tokenizer_of(language: str) -> str:
    """The sacrebleu tokenizer for a target language: `zh` for Chinese, `13a` (the default) otherwise."""
    return "zh" if language == "zh" else "13a"


def sentence_bleu(hypothesis: str, reference: str, language: str) -> float:
    """sacrebleu sentence BLEU in 0..1: effective order, exponential smoothing, tokenizer by language."""
    return _unit(_bleu(tokenizer_of(language)).sentence_score(hypothesis, [reference]).score)


def sentence_chrf(hypothesis: str, reference: str, word_order: int = 0) -> float:
    """sacrebleu sentence chrF2 in 0..1: character order 6, beta 2, no word n-grams; with `word_order` 2 chrF++."""
    return _unit(_chrf(word_order).sentence_score(hypothesis, [reference]).score)


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> tuple[float, str]:
    """sacrebleu corpus BLEU in 0..1 with its defaults but the tokenizer, and the signature to publish beside it."""
    metric = BLEU(tokenize=tokenizer_of(language))
    value = _unit(metric.corpus_score(list(hypotheses), [list(references)]).score)
    return value, str(metric.get_signature())


def corpus_chrf(hypotheses: Sequence[str], references: Sequence[str], word_order: int = 0) -> tuple[float, str]:
    """sacrebleu corpus chrF2 (chrF++ with `word_order` 2) in 0..1, and its signature."""
    metric = CHRF(word_order=word_order)
    value = _unit(metric.corpus_score(list(hypotheses), [list(references)]).score)
    return value, str(metric.get_signature())


def _unit(percent: float) -> float:
    return min(max(percent / 100.0, 0.0), 1.0)  # a perfect sentence comes back as 100.00000000000004


@dataclass(frozen=True)
class BleuChrf:
    """(sentence BLEU + sentence chrF2) / 2 in 0..1 against one reference translation.

    Attributes:
        language: language of the translations, `zh` or another; it chooses BLEU's tokenizer.
    """

    language: str
    name: str = "bleu_chrf"

    def score(self, predictions: Sequence[str | None], references: Sequence[str]) -> list[Score]:
        """One score per pair; statistics: `bleu`, `chrf` (0..1) and the n-gram counts of corpus BLEU."""
        return [self._score_one(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)

    def corpus_bleu(self, scores: Sequence[Score]) -> float:
        """Corpus BLEU in 0..1 of the items, as sacrebleu computes it (unreadable answers count as empty)."""
        orders = range(1, MAX_ORDER + 1)
        result: BLEUScore = BLEU.compute_bleu(
            correct=[int(total(scores, f"bleu_correct_{order}")) for order in orders],
            total=[int(total(scores, f"bleu_total_{order}")) for order in orders],
            sys_len=int(total(scores, "bleu_length")),
            ref_len=int(total(scores, "bleu_reference_length")),
            smooth_method="exp",
        )
        return _unit(result.score)

    def _score_one(self, prediction: str | None, reference: str) -> Score:
        text = prediction or ""
        bleu: BLEUScore = _bleu(tokenizer_of(self.language)).sentence_score(text, [reference])
        statistics = {
            "bleu": _unit(bleu.score),
            "chrf": sentence_chrf(text, reference),
            "bleu_length": float(bleu.sys_len),
            "bleu_reference_length": float(bleu.ref_len),
        }
        for order in range(MAX_ORDER):
            statistics[f"bleu_correct_{order + 1}"] = float(bleu.counts[order])
            statistics[f"bleu_total_{order + 1}"] = float(bleu.totals[order])
        if prediction is None:
            return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
        parts = {name: statistics[name] for name in ("bleu", "chrf")}
        return Score((parts["bleu"] + parts["chrf"]) / 2, parsed=True, statistics=statistics, parts=parts)


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance in characters, by Hyyrö's bit-parallel form of Myers' algorithm (2001).

    The columns of the distance matrix are held as two integers of len(shorter) bits, so that the time grows
    with the longer text only as long as the shorter one is a line or so.
    """
    pattern, text = (first, second) if len(first) <= len(second) else (second, first)
    if not pattern:
        return len(text)
    positions: dict[str, int] = {}
    for index, character in enumerate(pattern):
        positions[character] = positions.get(character, 0) | (1 << index)
    full, last = (1 << len(pattern)) - 1, 1 << (len(pattern) - 1)
    vertical_plus, vertical_minus, distance = full, 0, len(pattern)
    for character in text:
        matches = positions.get(character, 0)
        diagonal = ((((matches & vertical_plus) + vertical_plus) ^ vertical_plus) | matches | vertical_minus) & full
        horizontal_plus = vertical_minus | (full & ~(diagonal | vertical_plus))
        horizontal_minus = diagonal & vertical_plus
        if horizontal_plus & last:
            distance += 1
        elif horizontal_minus & last:
            distance -= 1
        horizontal_plus = ((horizontal_plus << 1) | 1) & full
        horizontal_minus = (horizontal_minus << 1) & full
        vertical_plus = horizontal_minus | (full & ~(diagonal | horizontal_plus))
        vertical_minus = diagonal & horizontal_plus
    return distance


def anls(prediction: str, reference: str) -> float:
    """1 - edit distance / length of the longer text, in characters; 1 for two empty texts."""
    longest = max(len(prediction), len(reference))
    return 1.0 - edit_distance(prediction, reference) / longest if longest else 1.0


@dataclass(frozen=True)
class Anls:
    """1 - edit distance / length of the longer text, in characters, without a threshold; the aggregate is the mean."""

    name: str = "anls"

    def score(self, predictions: Sequence[str | None], references: Sequence[str]) -> list[Score]:
        """One score per pair; statistics: `anls`."""
        return [_score_anls(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)


def _score_anls(prediction: str | None, reference: str) -> Score:
    if prediction is None:
        return Score(0.0, parsed=False, statistics={"anls": 0.0}, reason=UNREADABLE)
    value = anls(prediction, reference)
    return Score(value, parsed=True, statistics={"anls": value})
