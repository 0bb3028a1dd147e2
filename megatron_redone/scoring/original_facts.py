"""What a rewritten text must not change: numbers, names and negations, found in the original without a model.

Rules, English and Chinese. They read the surface: a name that is neither quoted, tagged, capitalised, in Latin letters
inside Chinese, nor listed by the caller is not seen, and neither is a paraphrase of a number ("a dozen"). A negation is
seen as present or absent; what it negates is not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_DIGITS = {**dict(zip("零一二三四五六七八九", range(10), strict=True)), "〇": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_MEASURES = "个天年月日号块元次岁斤克米只人款种步招家条件份分秒钟小杯盒瓶套张本部集周星倍成折层楼度点公里"
_CHINESE_NUMBER = re.compile(rf"第?([{''.join([*_DIGITS, *_TENS, *_MYRIADS])}]+)(?=[{_MEASURES}])")
_NUMBER = re.compile(
    r"(?P<money>[$¥€£]\s?)?(?<![A-Za-z\d.])(?P<digits>\d{1,3}(?:,\d{3}){1,9}(?:\.\d{1,9})?|\d{1,18}(?:\.\d{1,9})?)"
    r"(?P<scale>[kKwW](?![A-Za-z])|[千万亿]|\s?(?:thousand|million)\b)?(?P<percent>\s?%)?"
)
_SCALES = {"k": 10**3, "w": 10**4, "千": 10**3, "万": 10**4, "亿": 10**8, "thousand": 10**3, "million": 10**6}
_NUMBER_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18,
    "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
_NUMBER_WORD = re.compile(rf"\b({'|'.join(_NUMBER_WORDS)})\b", re.IGNORECASE)

_NEGATION_EN = re.compile(r"\b(?:not|no|never|without|nothing|none|nobody|neither|nor|cannot)\b|n't\b", re.IGNORECASE)
_NO_NEGATION_EN = re.compile(
    r"\bnot only\b|\bno doubt\b|\bno wonder\b|\bno matter\b|\bcan(?:'t|not) wait\b|\bwhy not\b|\bnot to mention\b"
    r"|\bno\. ?\d|\bno problem\b|\bnothing but\b|\bnone other\b",
    re.IGNORECASE,
)
_NEGATION_ZH = re.compile(r"[不没无未勿莫别非]")
# Longer words stand before those that they begin with.
_NO_NEGATION_ZH = re.compile(
    "不得不|不得了|不好意思|不可思议|不错|不仅|不但|不过|不同|不断|不久|不禁|不管|不论|不愧|不由|不妨|不止|不少|不二|差不多"
    "|对不起|了不起|忍不住|并非不|未必不|毫无疑问|无所不|无论|无数|无比|无敌|无限|无非|无不|别人|别墅|别致|别样|特别|区别|级别"
    "|类别|性别|告别|分别|个别|识别|离别|非常|非洲|非得|未来|莫名|莫过于|沉没|淹没|没错|没准"
)
_QUOTED = re.compile(r"《([^《》]{1,60})》|「([^「」]{1,60})」|“([^“”]{1,60})”|\"([^\"]{1,60})\"")
_TAGGED = re.compile(r"[@＠]([\w.-]{2,40})|[#＃]([^\s#＃]{1,40})[#＃]?")
_LATIN = re.compile(r"[A-Za-z][A-Za-z0-9+.&'-]*[A-Za-z0-9+]")
_CAPITALISED = re.compile(r"\b[A-Z][A-Za-z0-9'&-]+(?:\s+[A-Z][A-Za-z0-9'&-]+)*")
_MIXED = re.compile(r"\b(?:[a-z]+[A-Z]\w*|[A-Z]{2,}\d*|[A-Za-z]+\d+\w*)\b")
_COMMON = re.compile("ok|vs|diy|ps|no|the|and|for|of|to|in|on|my|it|is|an?|this|that|tips|how|why|what|when")


@dataclass(frozen=True)
class Facts:
    """What was found.

    Attributes:
        numbers: values; a percentage counts as its own kind of number.
        names: plain forms, see `plain`.
        negated: whether a negation stands in it.
    """

    numbers: frozenset[tuple[Fraction, bool]]
    names: frozenset[str]
    negated: bool


def plain(text: str) -> str:
    """NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def facts_of(text: str, language: str, names: Sequence[str] = ()) -> Facts:
    """The facts of a text in English (`en`) or Chinese (`zh`).

    Args:
        names: further names that count where they stand in the text.
    """
    text = unicodedata.normalize("NFKC", text)
    found = {plain(name) for name in names if plain(name) in plain(text)}
    return Facts(_numbers(text, language), frozenset(found | _names(text, language)), is_negated(text, language))


def is_negated(text: str, language: str) -> bool:
    """Whether a negation stands in the text, phrases that only look like one left out."""
    if language == "zh":
        return bool(_NEGATION_ZH.search(_NO_NEGATION_ZH.sub(" ", text)))
    text = text.replace("\u2019", "'")
    return bool(_NEGATION_EN.search(_NO_NEGATION_EN.sub(" ", text)))


def _numbers(text: str, language: str) -> frozenset[tuple[Fraction, bool]]:
    found = set()
    for match in _NUMBER.finditer(text):
        value = Fraction(match["digits"].replace(",", ""))
        if match["scale"]:
            value *= _SCALES[match["scale"].strip().casefold()]
        found.add((value, bool(match["percent"])))
    if language == "zh":
        numerals = (match[1] for match in _CHINESE_NUMBER.finditer(text))
        values = (_chinese_value(numeral) for numeral in numerals if numeral != "一")  # 一 is mostly an article
        found |= {(Fraction(value), False) for value in values if value is not None}
    else:
        found |= {(Fraction(_NUMBER_WORDS[match[1].casefold()]), False) for match in _NUMBER_WORD.finditer(text)}
    return frozenset(found)


def _chinese_value(numerals: str) -> int | None:
    """The value of Chinese numerals such as 三千五百 or 二十; None for what is no number, such as 千万 by itself."""
    total = section = digit = 0
    seen_digit = False
    for numeral in numerals:
        if numeral in _DIGITS:
            digit, seen_digit = _DIGITS[numeral], True
        elif numeral in _TENS:
            section += (digit or (1 if numeral == "十" else 0)) * _TENS[numeral]
            seen_digit = seen_digit or numeral == "十"
            digit = 0
        else:
            total += (section + digit) * _MYRIADS[numeral]
            section = digit = 0
    return total + section + digit if seen_digit else None


def _names(text: str, language: str) -> set[str]:
    found = {next(group for group in match.groups() if group) for match in _QUOTED.finditer(text)}
    found |= {next(group for group in match.groups() if group) for match in _TAGGED.finditer(text)}
    if language == "zh":
        found |= set(_LATIN.findall(text))
    else:
        found |= set(_MIXED.findall(text)) | _capitalised(text)
    return {name for name in map(plain, found) if len(name) > 1 and not _COMMON.fullmatch(name)}


def _capitalised(text: str) -> set[str]:
    """Runs of capitalised words inside sentences; none in a title where every word has a capital."""
    words = re.findall(r"[A-Za-z][A-Za-z']*", text)
    if words and sum(word[0].isupper() for word in words) > 0.6 * len(words):
        return set()
    starts = {match.end() for match in re.finditer(r"(?:^|[.!?:;|\n\"“(]\s*|[^\w\s,'-]\s*)", text)}
    return {match[0] for match in _CAPITALISED.finditer(text) if match.start() not in starts or " " in match[0]}
