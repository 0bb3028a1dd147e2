"""Answer formats: readers of what the tasks ask for, and the scorer that rewards keeping a format.

Every reader takes the whole answer, is strict about the format and returns None where the format is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired
from megatron_redone.scoring.normalise import loose, tidy

MAX_LETTERS = 26
MIN_LANGUAGE_SHARE = 0.7

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(
    rf"(?P<han>[{HAN}])|(?P<latin>[A-Za-z\u00c0-\u024f]+(?:['’-][A-Za-z\u00c0-\u024f]+)*)|(?P<other>[^\W\d_])"
)
_WORD = re.compile(rf"[{HAN}]|[^\W{HAN}]+(?:['’.,-][^\W{HAN}]+)*")
_SEPARATORS = {"zh": re.compile("[,，、]"), "en": re.compile(",")}
_CUE_END = re.compile(r"\s*[:：]\s*")


def after_cue(text: str, cues: Sequence[str]) -> str | None:
    """What follows a leading `Cue:` (any of the cues, either colon, any case); None without one."""
    for cue in cues:
        if text[: len(cue)].casefold() == cue.casefold() and (colon := _CUE_END.match(text, len(cue))):
            return text[colon.end() :]
    return None


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that the text is: as it stands, else after `normalise.loose`; None if it is none."""
    for label in labels:
        if tidy(text) == tidy(label):
            return label
    wanted = loose(text)
    return next((label for label in labels if wanted and loose(label) == wanted), None)


def read_letter(text: str, num_options: int) -> str | None:
    """The option letter that the text is: `B`, `b`, `B.` or `(B)`; None if it is no option's."""
    letter = loose(text).strip("()[] ").upper()
    return letter if letter and letter in letters(num_options) else None


def letters(num_options: int) -> list[str]:
    """The first option letters, "A".. at most "Z"."""
    return [chr(ord("A") + index) for index in range(min(num_options, MAX_LETTERS))]


def read_commas(text: str, language: str) -> list[str] | None:
    """The items of a one-line comma list, trimmed and without repeats; None if one is empty.

    Chinese lists may use the full-width comma and the enumeration comma too.
    """
    if "\n" in text.strip():
        return None
    items = [tidy(item) for item in _SEPARATORS.get(language, _SEPARATORS["en"]).split(text)]
    return list(dict.fromkeys(items)) if all(items) else None


def read_bars(text: str, num_parts: int) -> list[str] | None:
    """The parts of `A | B | C`, trimmed; None unless there are exactly that many, none empty, on one line."""
    parts = [tidy(part) for part in re.split(r"[|｜]", text)]
    return parts if len(parts) == num_parts and all(parts) and "\n" not in text.strip() else None


def read_level(text: str, levels: Sequence[int]) -> int | None:
    """The level that the text is, such as `-1` or `2.`; None where it is none of them."""
    digits = loose(text).replace("\u2212", "-")
    return int(digits) if re.fullmatch(r"-?[0-9]{1,3}", digits) and int(digits) in levels else None


def read_line(text: str) -> str | None:
    """The text if it is a single non-empty line, trimmed; else None."""
    line = text.strip()
    return line if line and len(line.splitlines()) == 1 else None


def words_of(text: str) -> list[str]:
    """Words of a text in any mix of languages: each Han character, each run of letters or digits."""
    return _WORD.findall(text)


def num_words(text: str) -> int:
    """How many `words_of` a text there are."""
    return sum(1 for _ in _WORD.finditer(text))


def language_share(text: str, language: str) -> float:
    """Share in 0..1 of the text that is in the language, of what is in any; 0 for a text without letters.

    Units are Han characters for `zh`, Latin words for every other language, and letters of further scripts,
    which belong to none of these. Digits, punctuation and emoji are not counted.
    """
    counts = {"han": 0, "latin": 0, "other": 0}
    for unit in _UNIT.finditer(text):
        counts[str(unit.lastgroup)] += 1
    everything = sum(counts.values())
    return counts["han" if language == "zh" else "latin"] / everything if everything else 0.0


@dataclass(frozen=True)
class Pattern:
    """What a free text has to keep. A field that is None or empty asks for nothing.

    Attributes:
        language: at least 70% of the text is in it, by `language_share`.
        min_words, max_words: bounds of `num_words`, inclusive.
        any_of: at least one of these stands in the text (compared after `normalise.loose`).
        one_line: the text is a single line.
    """

    language: str | None = None
    min_words: int = 1
    max_words: int | None = None
    any_of: tuple[str, ...] = ()
    one_line: bool = False

    def problems(self, text: str) -> dict[str, str]:
        """The rules that the text breaks, by name, each with what was found."""
        problems: dict[str, str] = {}
        words = num_words(text)
        if not text.strip() or words < self.min_words:
            problems["too_short"] = f"{words} words, at least {self.min_words} asked"
        if self.max_words is not None and words > self.max_words:
            problems["too_long"] = f"{words} words, at most {self.max_words} allowed"
        if self.language is not None:
            share = language_share(text, self.language)
            if share < MIN_LANGUAGE_SHARE:
                problems["language"] = f"{share:.0%} of it is {self.language}, at least {MIN_LANGUAGE_SHARE:.0%} asked"
        if self.any_of and not any(loose(cue) in loose(text) for cue in self.any_of):
            problems["cue"] = f"none of the {len(self.any_of)} asked expressions occurs"
        if self.one_line and len(text.strip().splitlines()) > 1:
            problems["lines"] = f"{len(text.strip().splitlines())} lines, one asked"
        return problems


@dataclass(frozen=True)
class PatternReward:
    """1 where the text keeps the reference `Pattern`, else 0; the aggregate is the share that keeps it."""

    name: str = "pattern"

    def score(self, predictions: Sequence[str | None], references: Sequence[Any]) -> list[Score]:
        """One score per text and `Pattern`; statistics: `kept`, and `broken_RULE` for each rule broken."""
        return [_score_pattern(text, pattern) for text, pattern in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)


def _score_pattern(text: str | None, pattern: Pattern) -> Score:
    if text is None:
        return Score(0.0, parsed=False, statistics={"kept": 0.0}, reason=UNREADABLE)
    problems = pattern.problems(text)
    statistics = {"kept": float(not problems)} | {f"broken_{rule}": 1.0 for rule in problems}
    return Score(float(not problems), parsed=True, statistics=statistics, reason="; ".join(problems.values()))
