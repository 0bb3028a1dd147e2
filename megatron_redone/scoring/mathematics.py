r"""Mathematical answers: the last `\boxed{...}` or else the last number of a text, compared by value.

Plain numbers and fractions are compared here, without a symbolic engine; every other answer goes to
math-verify's LaTeX reader and sympy. Both follow math-verify's rule: two exact numbers must be equal, and
where both are inexact (a decimal point or a fraction stands in each) they must be equal after rounding to 6
decimals.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired

MAX_EXPRESSION_CHARACTERS = 256
MAX_POWER = 10_000
TIMEOUT_SECONDS = 5

_PLAIN_FORMS = str.maketrans("０１２３４５６７８９．，／－＋％\u2212", "0123456789.,/-+%-")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(rf"(?:(?<![\w)\]])[-+])?{_DECIMAL}(?:/\d+)?(?:\\?%)?", re.ASCII)
_PLAIN = re.compile(rf"([-+]?{_DECIMAL})(?:/(\d+))?", re.ASCII)
_POWER = re.compile(r"\^|\*\*")
_TOWER = re.compile(r"(?:\^|\*\*)\s*[-+]?\w+\s*(?:\^|\*\*)")


def extract_answer(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, else the last number with its sign, fraction or percent sign.

    None where the text holds neither. Full-width digits and the minus sign U+2212 are read as plain ones.
    """
    text = text.translate(_PLAIN_FORMS)
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed or None
    numbers = [match[0] for match in _NUMBER.finditer(text)]
    return numbers[-1] if numbers else None


def _last_boxed(text: str) -> str | None:
    opening = "\\boxed{"
    start = text.rfind(opening)
    if start < 0:
        return None
    depth = 1
    for index in range(start + len(opening), len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return text[start + len(opening) : index].strip()
    return None


def is_plain_number(text: str) -> bool:
    """Whether the text is an integer, decimal (commas between thousands allowed) or fraction of integers."""
    return _plain_value(text) is not None


def equal_value(prediction: str, reference: str) -> bool:
    """Whether two answers have the same value: the same text, or one equal to it by value.

    Never raises; an answer too costly to compare is not equal.
    """
    if prediction.strip() == reference.strip() != "":
        return True  # also what no reader takes apart, such as a name or a tuple of words
    mine, theirs = _plain_value(prediction), _plain_value(reference)
    if mine is None or theirs is None:
        return _equal_symbolically(prediction.strip(), reference.strip())
    if mine == theirs:
        return True
    inexact = all("." in text or "/" in text for text in (prediction, reference))
    return inexact and round(mine, 6) == round(theirs, 6)


def _plain_value(text: str) -> Fraction | None:
    text = text.strip()
    match = _PLAIN.fullmatch(text) if len(text) <= MAX_EXPRESSION_CHARACTERS else None
    if match is None or (match[2] is not None and int(match[2]) == 0):
        return None
    return Fraction(match[1].replace(",", "")) / int(match[2] or 1)


def _equal_symbolically(prediction: str, reference: str) -> bool:
    if not prediction or too_costly(prediction) or too_costly(reference):
        return False
    # math-verify's time limit is a signal, which only the main thread can set; `too_costly` guards all.
    in_main_thread = threading.current_thread() is threading.main_thread()
    return _verified(prediction, reference, TIMEOUT_SECONDS if in_main_thread else None)


@lru_cache(maxsize=4096)
def _verified(prediction: str, reference: str, timeout_seconds: int | None) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify  # sympy takes most of a second to import

    reader = [LatexExtractionConfig()]  # the LaTeX reader alone: the other one hands text to sympy's `parse_expr`
    gold, mine = (
        parse(f"${text}$", extraction_config=reader, parsing_timeout=timeout_seconds)
        for text in (reference, prediction)
    )
    return bool(verify(gold, mine, timeout_seconds=timeout_seconds))


def too_costly(expression: str) -> bool:
    """Whether evaluation could take long: a long text, a factorial, a tower or a large power."""
    if len(expression) > MAX_EXPRESSION_CHARACTERS or "!" in expression or "\\binom" in expression:
        return True
    if _TOWER.search(expression):
        return True
    plain, nested = 1, 1
    for mark in _POWER.finditer(expression):
        exponent = _exponent_after(expression, mark.end())
        if _POWER.search(exponent):
            return True
        size = max((int(number) for number in re.findall(r"\d+", exponent, re.ASCII)), default=1)
        if expression[: mark.start()].rstrip()[-1:] in (")", "}", "]"):
            nested *= max(size, 1)  # a power of a power: the sizes multiply
        else:
            plain = max(plain, size)
    return plain * nested > MAX_POWER


def _exponent_after(expression: str, start: int) -> str:
    """The bracketed or single exponent that starts there; all that follows where no bracket closes it."""
    rest = expression[start:].lstrip()
    opening = rest[:1]
    if opening not in ("{", "("):
        number = re.match(r"[-+]?\d+", rest, re.ASCII)
        return number[0] if number else opening
    closing = "}" if opening == "{" else ")"
    depth = 0
    for index, character in enumerate(rest):
        depth += (character == opening) - (character == closing)
        if depth == 0:
            return rest[1:index]
    return rest


@dataclass(frozen=True)
class MathMatch:
    """1 where the extracted answer has the gold's value, else 0; the aggregate is accuracy.

    Predictions and references are answers as `extract_answer` gives them.
    """

    name: str = "math_match"

    def score(self, predictions: Sequence[str | None], references: Sequence[str]) -> list[Score]:
        """One score per pair; statistics: `correct`."""
        return [_score_one(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """Accuracy over all items."""
        return mean_value(scores)


def _score_one(prediction: str | None, reference: str) -> Score:
    if prediction is None:
        return Score(0.0, parsed=False, statistics={"correct": 0.0}, reason=UNREADABLE)
    value = float(equal_value(prediction, reference))
    return Score(value, parsed=True, statistics={"correct": value})
