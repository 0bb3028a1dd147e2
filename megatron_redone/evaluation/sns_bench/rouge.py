"""ROUGE as the PyPI package `rouge` 1.0.1 computes it, which SNS-Bench uses over jieba's words.

It differs from the usual definition (and from `rouge-score`): n-grams and words count once, texts are cut into
sentences at every full stop, and ROUGE-L is the summary-level one, where the words of the longest common
subsequences of each reference sentence with all sentences of the answer are united. Which subsequence is taken where
several are longest matters, so the way back through the table is the same here.

The package itself keeps that table as a dictionary of Python integers and walks back by recursion: an answer of some
hundred words without a full stop ends it with a RecursionError, and with it the official scorer. Here the table is bits
of integers (Hyyrö 2004), the walk is a loop, and `OfficialStop` says where the package would have ended.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import pairwise

MAX_STEPS_BACK = 991
"""Steps of the walk back that Python's default limit of 1000 nested calls leaves when nothing else is on the stack than
the scorer itself. Deeper inside a program it is a few fewer; so no answer that could be scored is refused here."""
_EPSILON = 1e-8


class OfficialStop(Exception):
    """The official code ends with an error here."""


def rouge_f(hypothesis: str, reference: str) -> tuple[float, float, float]:
    """F of ROUGE-1, ROUGE-2 and summary-level ROUGE-L of two texts of words between spaces, each in 0..1.

    Raises:
        OfficialStop: nothing but full stops (or nothing at all) on one side, or a walk back that is too long.
    """
    mine, gold = _sentences(hypothesis), _sentences(reference)
    if not mine or not gold:
        raise OfficialStop("ROUGE of a text without a sentence")
    words, gold_words = [word for part in mine for word in part], [word for part in gold for word in part]
    vocabulary, gold_vocabulary = set(words), set(gold_words)
    longest = _f(vocabulary, gold_vocabulary, len(_union_of_subsequences(mine, gold)))
    one = _f(vocabulary, gold_vocabulary, len(vocabulary & gold_vocabulary))
    pairs, gold_pairs = set(pairwise(words)), set(pairwise(gold_words))
    return one, _f(pairs, gold_pairs, len(pairs & gold_pairs)), longest


def _sentences(text: str) -> list[list[str]]:
    """Words by sentence; a sentence of white space alone is one empty word, as in the package."""
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _f(mine: Set[object], gold: Set[object], hits: int) -> float:
    precision = hits / len(mine) if mine else 0.0
    recall = hits / len(gold) if gold else 0.0
    return 2.0 * ((precision * recall) / (precision + recall + _EPSILON))


def _union_of_subsequences(mine: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> set[str]:
    different = dict.fromkeys(map(tuple, mine))  # an answer may repeat one sentence thousands of times
    return {word for of_gold in gold for part in different for word in common_subsequence(of_gold, part)}


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence: that which the walk back from the ends of both finds when it leaves
    out a word of `first` only where the one of `second` must stay.

    The columns of the table are kept for the words of `second`: bit i of column j tells whether the length grows
    with word i of `first`. Time grows with len(second) * len(first) / 64.

    Raises:
        OfficialStop: the walk back takes more than MAX_STEPS_BACK steps.
    """
    if min(len(first), len(second)) > MAX_STEPS_BACK:
        raise OfficialStop("a walk back longer than Python's limit of nested calls")
    if not set(first).intersection(second):
        if len(second) > MAX_STEPS_BACK:  # without a common word the walk is along all of `second`
            raise OfficialStop("a walk back longer than Python's limit of nested calls")
        return set()
    columns = _growth(first, second)
    found: set[str] = set()
    i, j = len(first), len(second)
    for _ in range(MAX_STEPS_BACK):
        if first[i - 1] == second[j - 1]:
            found.add(first[i - 1])
            i, j = i - 1, j - 1
        else:
            upper = (1 << (i - 1)) - 1
            without_first = (columns[j] & upper).bit_count()
            without_second = (columns[j - 1] & (1 << i) - 1).bit_count()
            i, j = (i - 1, j) if without_first > without_second else (i, j - 1)
        if not i or not j:
            return found
    raise OfficialStop("a walk back longer than Python's limit of nested calls")


def _growth(first: Sequence[str], second: Sequence[str]) -> list[int]:
    """For each j in 0..len(second) the bits i where LCS(first[:i+1], second[:j]) exceeds LCS(first[:i], second[:j])."""
    positions: dict[str, int] = {}
    for place, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    still = full  # the complement of the growth, as in the algorithm
    columns = [0]
    for word in second:
        matches = still & positions.get(word, 0)
        still = ((still + matches) | (still - matches)) & full
        columns.append(full ^ still)
    return columns
