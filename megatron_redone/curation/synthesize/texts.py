"""Texts that exist in English and Chinese at once, and the split each belongs to.

A held-out text must not be known to the model in its other language either, so the split of a text is a
function of its English form alone, and both forms go where it says. The function knows neither the seed nor
the number of rows: a text of the test split is a test text in every data set this package ever writes.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from megatron_redone.common.errors import InputError

SPLITS = ("train", "validation", "diagnosis", "test")
ENGLISH, CHINESE = "en", "zh"
LANGUAGES = (ENGLISH, CHINESE)
Drawn = TypeVar("Drawn")
MAX_DRAWS = 300
"""Draws of one text before its split counts as exhausted; an ordinary draw needs about two to ten."""
_SHARE_ENDS = {"train": 520, "validation": 640, "diagnosis": 820, "test": 1000}


class ExhaustedSplitError(InputError):
    """A wording that fixes nearly everything has no variant in the split; choose other words for it."""


@dataclass(frozen=True, slots=True)
class Text:
    """One wording in both languages."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        """The wording in `language` ("en" or "zh")."""
        return self.en if language == ENGLISH else self.zh


def pairs(lines: str) -> tuple[Text, ...]:
    """Reads "english 中文; english words 中文": the last blank of an entry parts the two languages."""
    entries = (entry.strip().rpartition(" ") for entry in lines.replace("\n", " ").split(";"))
    return tuple(Text(english.strip(), chinese) for english, _, chinese in entries if chinese)


def fill(frame: Text, **slots: Text) -> Text:
    """Puts each slot's English form into the English frame and its Chinese form into the Chinese one."""
    return Text(
        frame.en.format(**{name: text.en for name, text in slots.items()}),
        frame.zh.format(**{name: text.zh for name, text in slots.items()}),
    )


def joined(*texts: Text) -> Text:
    """Texts in a row: a blank between them in English, nothing in Chinese."""
    return Text(" ".join(text.en for text in texts), "".join(text.zh for text in texts))


def normalised(text: str) -> str:
    """The form in which texts are compared: NFKC, case folded, runs of white space as one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def split_of(text: Text) -> str:
    """The split of a text: train 52%, validation 12%, diagnosis 18%, test 18% of all texts, by hash."""
    digest = hashlib.blake2b(normalised(text.en).encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") % 1000
    return next(split for split, end in _SHARE_ENDS.items() if place < end)


def draw_in_split(
    draw: Callable[[Random], Drawn], text_of: Callable[[Drawn], Text], random: Random, split: str
) -> Drawn:
    """Draws until the text falls into `split`.

    Raises:
        ExhaustedSplitError: no draw did, because the wording asked for has too few variants.
    """
    drawn = draw(random)
    for _ in range(MAX_DRAWS):
        if split_of(text_of(drawn)) == split:
            return drawn
        drawn = draw(random)
    raise ExhaustedSplitError(
        f"no text of the split {split!r} among {MAX_DRAWS} draws like {text_of(drawn).en!r}: every split "
        "needs variants of a wording; add words or frames to the lexicon"
    )
