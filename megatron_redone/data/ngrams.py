"""Texts as units (words, and single characters of scripts that are written without spaces) and their n-grams as hashes.

Near-duplicate search, repetition rules and decontamination all see a text this way, so that a Chinese text and an
English one are judged by the same code.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Characters that count as one unit each: Han, kana. The inside of a regular expression's brackets."""
_UNIT = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['’][^\W_{CJK}]+)*")
_CJK = re.compile(rf"[{CJK}]")
_MIXERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_BASE = np.uint64(0xD6E8FEB86659FD93)


def units(text: str) -> list[str]:
    """Words in lower case, and each Han or kana character by itself; width variants are made equal (NFKC).

    Punctuation, symbols, spaces and underscores belong to no unit.
    """
    return _UNIT.findall(unicodedata.normalize("NFKC", text).lower())


def num_cjk(text: str) -> int:
    """How many characters of the text are Han or kana."""
    return len(_CJK.findall(text))


def unit_hashes(found: Sequence[str]) -> Hashes:
    """[m] 64-bit hashes of units, the same in every process and on every machine.

    Spread from 32 bits: two units are taken for each other once in four thousand million pairs.
    """
    checksums = (zlib.crc32(unit.encode("utf-8", "surrogatepass")) for unit in found)
    return _mixed(np.fromiter(checksums, np.uint64, len(found)))


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """[m - n + 1] hashes of the n-grams of units; empty where there are fewer than n units.

    Args:
        hashes: [m] from `unit_hashes`.
    """
    count = len(hashes) - n + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    total = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(n):
            total = total * _BASE + hashes[offset : offset + count]
    return _mixed(total)


def _mixed(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the value (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        values = values + _MIXERS[0]
        values = (values ^ (values >> np.uint64(30))) * _MIXERS[1]
        values = (values ^ (values >> np.uint64(27))) * _MIXERS[2]
    return values ^ (values >> np.uint64(31))
