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
_LATIN = re.compile("[a-zA-Z]")
_NOT_LANGUAGE = re.compile(r"https?://\S+|www\.\S+|<[A-Z_]+>|[@#]\w+")
CJK_LETTERS = 4
"""So many letters of an alphabet a Han or kana character counts for."""
HAN_BESIDE_KANA = 6
"""Japanese has at least one kana among so many characters; Chinese writers use の now and then."""
IDENTIFIED_CHARACTERS = 500
"""The identifier reads so much of a text: more does not change its answer, and costs."""


def language_of(text: str, min_letters: int) -> tuple[str, float]:
    """(code, probability) of the text's language.

    Addresses, mentions and tags do not count. Texts with fewer letters than `min_letters` are told by script alone,
    with probability 1, since nothing speaks against it; so is Chinese: between Han and Latin names the identifier
    wavers.
    """
    seen = _seen(text)
    by_script = _by_script(seen)
    num_cjk = len(_CJK.findall(seen))
    if by_script == "zh" or len(_LETTER.findall(seen)) + (CJK_LETTERS - 1) * num_cjk < min_letters:
        return by_script, 1.0
    code, probability = _identifier().classify(seen)
    return str(code), float(probability)


def script_language(text: str) -> str:
    """What the script alone says: mostly Han is `zh`, with much kana `ja`, Latin letters `en`, else `und`."""
    return _by_script(_seen(text))


def _seen(text: str) -> str:
    return " ".join(_NOT_LANGUAGE.sub(" ", text[:IDENTIFIED_CHARACTERS]).split())


def _by_script(text: str) -> str:
    letters, num_cjk = len(_LETTER.findall(text)), len(_CJK.findall(text))
    if len(_KANA.findall(text)) * HAN_BESIDE_KANA > num_cjk:
        return "ja"
    if num_cjk and num_cjk * CJK_LETTERS >= letters - num_cjk:
        return "zh"
    latin = len(_LATIN.findall(text))
    return "en" if latin and latin * 2 > letters else UNKNOWN


@functools.cache
def _identifier() -> Any:
    """One process loads its model once."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
