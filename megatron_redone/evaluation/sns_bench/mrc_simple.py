"""MRC-simple: the sentences of a note that answer a question, as a list."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from megatron_redone.common.errors import InputError
from megatron_redone.evaluation.benchmark import Metrics, Row, Sums, statistic
from megatron_redone.evaluation.sns_bench.accuracy import shortened
from megatron_redone.evaluation.sns_bench.python_literal import first_list, read_python_literal
from megatron_redone.evaluation.sns_bench.rouge import OfficialStop, rouge_f
from megatron_redone.scoring.base import Score

EPSILON = 1e-4
TEXT_METRICS = ("bleu", "rouge_1", "rouge_2", "rouge_l")
_MAYBE_EMOJI = re.compile(r"[0-9#*]\ufe0f?\u20e3|[^\x00-\x7f]+")
"""Where emoji can be: keycaps begin with an ASCII character, all others hold none. demoji tries its 5,000 emoji at
every digit, so it is asked about these parts only."""


@dataclass(frozen=True)
class ExtractedSentences:
    """The mean of existence-F1, BLEU, ROUGE-1, ROUGE-2 and ROUGE-L, each times the parse rate.

    Existence: is there an answer at all. The text metrics are means over the rows where both sides have one: NLTK's
    sentence BLEU without smoothing and `rouge` over jieba's words, after line breaks and emoji are taken out.
    Where the official code would stop with an error (a text of emoji or full stops only, or one too long for its
    recursion), the row counts as answered, its text metrics are 0, and `official_errors` counts it.
    """

    name: str = "mean of existence-F1, BLEU, ROUGE-1, -2, -L x parse rate"

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Statistics: `parsed`; `tp`, `tn`, `fp` or `fn`; of tp rows the text metrics; `official_errors`."""
        return [_score_one(output, "".join(row["answer"])) for output, row in zip(outputs, rows, strict=True)]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """`existence_f1` and the text metrics without the parse rate, `parse_percent`, and `score` with it."""
        tp = statistic(sums, "tp")
        precision = tp / (tp + statistic(sums, "fp") + EPSILON)
        recall = tp / (tp + statistic(sums, "fn") + EPSILON)
        values: Metrics = {"existence_f1": 100 * 2 * precision * recall / (precision + recall + EPSILON)}
        for name in TEXT_METRICS:
            values[name] = 100 * statistic(sums, name) / (tp + (tp == 0))
        share = statistic(sums, "parsed") / num_items
        mean = sum(values.values()) / (1 + len(TEXT_METRICS))
        return values | {"parse_percent": 100 * share, "score": share * mean}


def _score_one(output: str, gold: str) -> Score:
    try:
        found = _joined(read_python_literal(first_list(output)))
    except (ValueError, TypeError):
        return Score(0.0, False, {"parsed": 0.0}, f"no list of texts in {shortened(output)}")
    if not found and not gold:
        return Score(1.0, True, {"parsed": 1.0, "tn": 1.0})
    if not found or not gold:
        what, reason = ("fn", "an answer was there") if gold else ("fp", "there was no answer")
        return Score(0.0, True, {"parsed": 1.0, what: 1.0}, reason)
    statistics = {"parsed": 1.0, "tp": 1.0}
    try:
        texts = text_metrics(found, gold)
    except OfficialStop as stop:
        return Score(0.2, True, statistics | {"official_errors": 1.0}, f"the official code stops: {stop}")
    value = (1.0 + sum(texts.values())) / (1 + len(texts))
    reason = ", ".join(f"{name} {share:.2f}" for name, share in texts.items())
    return Score(min(value, 1.0), True, statistics | texts, reason)


def _joined(value: Any) -> str:
    """The texts of any Python collection in lines, a bare text letter by letter, as `"\\n".join` makes it of both.

    The order of a set is that of the alphabet; to Python it is a matter of chance.
    """
    return "\n".join(sorted(value) if isinstance(value, set) else value).strip()


def text_metrics(found: str, gold: str) -> dict[str, float]:
    """BLEU, ROUGE-1, -2, -L in 0..1 of two texts.

    Raises:
        OfficialStop: the official code ends with an error.
        InputError: a package of the extra `evaluation` is missing.
    """
    cut, sentence_bleu, _ = _libraries()
    hypothesis, reference = cut(_plain(found)), cut(_plain(gold))
    rouge = rouge_f(" ".join(hypothesis), " ".join(reference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NLTK warns of every pair without a common 4-gram
        bleu = float(sentence_bleu([reference], hypothesis))
    return dict(zip(TEXT_METRICS, (bleu, *rouge), strict=True))


def _plain(text: str) -> str:
    _, _, without_emoji = _libraries()
    text = text.replace("\n", "").replace("\ufffd", "")
    return _MAYBE_EMOJI.sub(lambda match: without_emoji(match.group()), text)


@cache
def _libraries() -> tuple[Any, Any, Any]:
    """jieba's cut into words, NLTK's sentence BLEU, demoji's removal of emoji."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jieba writes patterns that newer Pythons warn of
            import demoji
            import jieba
            from nltk.translate.bleu_score import sentence_bleu
    except ImportError as error:
        raise InputError(
            f"the metrics of MRC-simple need {error.name}; install the extra: pip install 'megatron-redone[evaluation]'"
        ) from error
    jieba.setLogLevel(logging.WARNING)
    return lambda text: list(jieba.cut(text)), sentence_bleu, demoji.replace
