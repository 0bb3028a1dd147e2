"""MRC-complex: options with reasons that answer a question, as JSON inside `<Result>` tags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from megatron_redone.evaluation.benchmark import Metrics, Row, Sums, statistic
from megatron_redone.evaluation.sns_bench.accuracy import shortened
from megatron_redone.scoring.base import Score

OPEN, CLOSE = "<Result>", "</Result>"
_DROPPED = str.maketrans("", "", ":_`，。：？！()“”；’《》·、,「」（）－～『』|")
"""Marks that the official normalisation drops; its list also names "……", which no single character can equal."""
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True)
class ExtractedOptions:
    """The mean of existence-F1, option-F1 and option-EM, each times the parse rate.

    A row's option-F1 is the mean, over the predicted options, of the best F1 with a gold option; its tokens are
    ideographs, "=", and everything between them as one piece, so an English option is right as a whole or not at all.
    The longest common run of tokens counts. Two empty lists score 1. Reasons do not enter the published score.

    Where no row is found on both sides while there are both rows with wrong and with missed answers, the official code
    divides by zero; the score of such a run is 0, and `official_errors` is 1.
    """

    name: str = "mean of existence-F1, option-F1, option-EM x parse rate"

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Statistics: `parsed`; `tp`, `tn`, `fp` or `fn`; `option_f1`, `option_em` of the parsed rows."""
        return [_score_one(output, row["answer"]) for output, row in zip(outputs, rows, strict=True)]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """`existence_f1`, `option_f1`, `option_em` without the parse rate, `parse_percent`, `score` with it."""
        tp, fp, fn = (statistic(sums, name) for name in ("tp", "fp", "fn"))
        parsed = statistic(sums, "parsed")
        f1 = 2 * tp / (2 * tp + fp + fn + (tp == 0))
        option_f1, option_em = (statistic(sums, name) / (parsed + (parsed == 0)) for name in ("option_f1", "option_em"))
        share = parsed / num_items
        stopped = (tp == 0) & (fp > 0) & (fn > 0)
        score = np.where(stopped, 0.0, 100 * share * (f1 + option_f1 + option_em) / 3)
        return {
            "existence_f1": 100 * f1,
            "option_f1": 100 * option_f1,
            "option_em": 100 * option_em,
            "parse_percent": 100 * share,
            "official_errors": stopped.astype(np.float64),
            "score": score,
        }


def _score_one(output: str, answer: str) -> Score:
    gold, found = read_options(answer), read_options(output)
    if found is None or gold is None:
        return Score(0.0, False, {"parsed": 0.0}, f"no list of Option and Reason in {OPEN} tags: {shortened(output)}")
    kind = ("tp" if found else "fn") if gold else ("fp" if found else "tn")
    f1, em = option_scores(found, gold)
    statistics = {"parsed": 1.0, kind: 1.0, "option_f1": f1, "option_em": em}
    value = (float(kind in ("tp", "tn")) + f1 + em) / 3
    reason = {"fn": "an answer was there", "fp": "there was no answer"}.get(kind, f"option F1 {f1:.2f}, EM {em:.2f}")
    return Score(value, True, statistics, reason)


def read_options(text: str) -> list[str] | None:
    """The options of the last `<Result>...</Result>`, each once, in order; None where the official code cannot read it.

    A fence of backticks around the JSON is taken off, on the left also any of the letters j, s, o, n.
    """
    content = last_result(text)
    if content is None:
        return None
    try:
        items = json.loads(content.strip().lstrip("`json").rstrip("`"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list):
        return None
    options: dict[str, None] = {}
    for item in items:
        if not isinstance(item, dict) or not all(isinstance(item.get(name), str) for name in ("Option", "Reason")):
            return None
        options[item["Option"]] = None
    return list(options)


def last_result(text: str) -> str | None:
    """What the last match of `(?<=<Result>).+?(?=</Result>)` holds, found in linear time."""
    found, position = None, 0
    while True:
        opening = text.find(OPEN, max(position - len(OPEN), 0))
        start = opening + len(OPEN)
        end = text.find(CLOSE, start + 1) if opening >= 0 else -1
        if end < 0:
            return found
        found, position = text[start:end], end


def option_scores(found: Sequence[str], gold: Sequence[str]) -> tuple[float, float]:
    """Mean over the predicted options of the best F1, and of whether one is equal; (1, 1) for two empty lists."""
    if not found and not gold:
        return 1.0, 1.0
    if not found or not gold:
        return 0.0, 0.0
    references = [normalised(option) for option in gold]
    tokens = [pieces(reference) for reference in references]
    best, equal = 0.0, 0
    for option in found:
        text = normalised(option)
        mine = pieces(text)
        best += max(run_f1(reference, mine) for reference in tokens)
        equal += text in references
    return best / len(found), equal / len(found)


def normalised(text: str) -> str:
    """Lower case without the marks that the official code drops; spaces stay."""
    return text.lower().translate(_DROPPED)


def pieces(text: str) -> list[str]:
    """Ideographs and "=" each by itself, what is between them as one piece."""
    found: list[str] = []
    between: list[str] = []
    for character in text:
        code = ord(character)
        if character != "=" and not any(low <= code <= high for low, high in _IDEOGRAPHS):
            between.append(character)
            continue
        if between:
            found.append("".join(between))
            between = []
        found.append(character)
    return [*found, "".join(between)] if between else found


def run_f1(gold: Sequence[str], found: Sequence[str]) -> float:
    """F1 of the longest run of tokens that both hold, by its length over both lengths."""
    if not set(gold).intersection(found):
        return 0.0
    run = SequenceMatcher(None, found, gold, autojunk=False).find_longest_match().size
    precision, recall = run / len(found), run / len(gold)
    return 2 * precision * recall / (precision + recall)
