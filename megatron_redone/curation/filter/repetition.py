"""How much of a text stood in it before: lines, sentences, n-grams of units."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from megatron_redone.curation.filter.config import RepetitionRules
from megatron_redone.data.ngrams import Hashes, ngram_hashes

ONE_UNIT_AGAIN = 4
"""A text that is one unit so often, and nothing else, repeats itself however short it is."""
_SENTENCE_END = re.compile(r"[。！？!?；;\n]+|(?<=[.…])\s+")


def repetition_problem(text: str, hashes: Hashes, mostly_cjk: bool, rules: RepetitionRules) -> str | None:
    """What repeats too much, as `WHAT SHARE above LIMIT`; None for a text that does not.

    After the rules of Gopher (Rae et al. 2021, table A1), with two departures: shares of characters that are repeated
    count from the second time on, and n-grams are of units, so that Chinese needs no word segmentation.

    Args:
        hashes: [m] of the text's units.
        mostly_cjk: whether n-grams are counted in characters instead of words.
    """
    if len(hashes) < rules.min_units:
        again_and_again = len(hashes) >= ONE_UNIT_AGAIN and len(np.unique(hashes)) == 1
        return f"one unit {len(hashes)} times" if again_and_again else None
    n = rules.ngram_characters if mostly_cjk else rules.ngram_words
    for what, share, limit in (
        ("lines", repeated_share(text.split("\n")), rules.max_line_share),
        ("sentences", repeated_share(_SENTENCE_END.split(text)), rules.max_sentence_share),
        (f"{n}-grams", repeated_ngram_share(hashes, n), rules.max_ngram_share),
    ):
        if share > limit:
            return f"{what} {share:.2f} above {limit}"
    return None


def repeated_share(parts: Sequence[str]) -> float:
    """Share of the parts' characters that lie in parts which stood before; spaces around a part do not count."""
    seen: set[str] = set()
    total = repeated = 0
    for part in parts:
        stripped = part.strip()
        total += len(stripped)
        if stripped in seen:
            repeated += len(stripped)
        seen.add(stripped)
    return repeated / total if total else 0.0


def repeated_ngram_share(hashes: Hashes, n: int) -> float:
    """Share of the text's n-grams of units that stood before in it; 0 where there are none."""
    grams = ngram_hashes(hashes, n)
    return 1.0 - len(np.unique(grams)) / len(grams) if len(grams) else 0.0
