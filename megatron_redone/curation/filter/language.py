"""The language of a text: py3langid where there is enough to see, else the script."""

from __future__ import annotations

import functools
import re
from typing import Any

from megatron_redone.data.ngrams import CJK

UNKNOWN = "und"
"""ISO 639 for a language that was not told."""
_LETTER = re.compile(r"[^\W\d_]")
_CJK = re.compile(rf"[{CJK}]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_NOT_LANGUAGE = re.compile(r"https?://\S+|www\.\S+|<[A-Z_]+>|[@#]\w+")
CJK_LETTERS = 4
"""So many letters of an alphabet a Han or kana character counts for."""
IDENTIFIED_CHARACTERS = 500
"""The identifier reads so much of a text: more does not change its answer, and costs."""


def language_of(text: str, min_letters: int) -> tuple[str, float]:
    """(code, probability) of the text's language.

    Addresses, mentions and tags do not count. Short texts are told by script alone: Han without kana is `zh`, with kana
    `ja`, Latin letters `en` with probability 1, since nothing speaks against it.
    """
    seen = " ".join(_NOT_LANGUAGE.sub(" ", text[:IDENTIFIED_CHARACTERS]).split())
    letters = len(_LETTER.findall(seen))
    num_cjk = len(_CJK.findall(seen))
    kana = len(_KANA.findall(seen))
    if letters + (CJK_LETTERS - 1) * num_cjk < min_letters:
        return _by_script(seen, letters, num_cjk, kana)
    code, probability = _identifier().classify(seen)
    if num_cjk > letters / 2 and not kana:
        return "zh", 1.0  # han alone: the identifier takes some of it for Japanese
    return str(code), float(probability)


def _by_script(text: str, letters: int, num_cjk: int, kana: int) -> tuple[str, float]:
    if kana:
        return "ja", 1.0
    if num_cjk * 2 >= letters and num_cjk:
        return "zh", 1.0
    latin = sum("a" <= char.lower() <= "z" for char in text)
    if latin and latin >= letters - num_cjk:
        return "en", 1.0
    return UNKNOWN, 1.0 if letters else 0.0


@functools.cache
def _identifier() -> Any:
    """One process loads its model once."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
