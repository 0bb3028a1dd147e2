"""Signs that a text was damaged on its way: lost bytes, control characters, wrong encodings."""

from __future__ import annotations

import re
import unicodedata

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HAN_RUN = re.compile("[\u2e80-\u9fff\uf900-\ufaff\ue000-\uf8ff\u20ac]{6,}")
# Six bytes of Han in UTF-8, read as GBK, are three characters: this asks for four letters of UTF-8 in a row.
_UTF8_HAN = re.compile(rb"(?:[\xe4-\xe9][\x80-\xbf]{2}){4,}")
# What is left where UTF-8's replacement mark was read as GBK, and memory that no text was written to.
_TRACES = re.compile("(?:锟斤拷|锟斤|斤拷|烫烫烫|屯屯屯|ï»¿|ï¿½)")


def has_lone_surrogate(text: str) -> bool:
    """Whether half of a surrogate pair stands in the text: it cannot be written as UTF-8."""
    return _SURROGATE.search(text) is not None


def num_control(text: str) -> int:
    """Control characters other than tab and line ends, and code points that are no characters."""
    return len(_CONTROL.findall(text))


def without_control(text: str) -> str:
    """The text without them, with Unix line ends and no byte-order mark."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text).replace("\ufeff", "")


def mojibake_characters(text: str) -> int:
    """About how many characters of the text come from a reading in a wrong encoding."""
    found = sum(len(match.group()) for match in _TRACES.finditer(text))
    found += sum(_utf8_as_gbk(run.group()) for run in _HAN_RUN.finditer(text))
    return found + _utf8_as_latin(text)


def _utf8_as_gbk(run: str) -> int:
    """Characters of a run of Han that are UTF-8 bytes of other Han: their GBK bytes form valid UTF-8 for long."""
    covered = sum(len(match.group()) for match in _UTF8_HAN.finditer(run.encode("gb18030", "ignore")))
    return covered // 2


def _utf8_as_latin(text: str) -> int:
    """Characters in sequences that ftfy knows as UTF-8 read in an encoding of one byte a character.

    ftfy is sure only of sequences that it can turn back; lone ones (an accented letter and a sign, as some languages
    write them) do not count.
    """
    if text.isascii():
        return 0
    from ftfy import badness, chardata

    if not badness.is_bad(text):
        return 0
    return sum(len(match.group()) for match in chardata.UTF8_DETECTOR_RE.finditer(text))


def nfc(text: str) -> str:
    """Composed characters, so that equal texts have equal bytes."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
