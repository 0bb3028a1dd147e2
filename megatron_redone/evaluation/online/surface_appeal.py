"""A stand-in for engagement where no judge is at hand: forms that re-created titles are said to take.

RedOne 2.0 reports that its re-created titles are less vague and more practical, authentic and interactive. This score
looks for surface signs of that. It is NO measure of engagement: no reader was asked, and a text can earn it
without saying anything. It is here so that the trade-off can be run without a server, and as the yardstick that a judge
has to beat.
"""

from __future__ import annotations

import re

from megatron_redone.data.ngrams import num_cjk, units

_PRACTICAL = re.compile(
    r"\b(?:how|tips?|guide|steps?|ways?|checklist|best|cheap|easy|quick|recipe|ideas?|mistakes?)\b"
    r"|怎么|如何|攻略|教程|步骤|技巧|方法|清单|推荐|省钱|避雷|避坑|干货|实测",
    re.IGNORECASE,
)
_AUTHENTIC = re.compile(r"\b(?:i|my|me|we|our|i'm|i've)\b|我|咱|亲测|自己", re.IGNORECASE)
_INTERACTIVE = re.compile(r"[?？]|\b(?:you|your|who|which)\b|你|谁|吗|呢|大家|姐妹", re.IGNORECASE)
_CONCRETE = re.compile(r"\d|[一二三四五六七八九十百千万两][个天年月步招家款种元分件次]|《|「|\"[^\"]+\"")
_VAGUE = re.compile(
    r"\b(?:something|stuff|things?|nice|some|various)\b|一些|东西|分享一下|日常|随便|有的没的", re.IGNORECASE
)
LENGTHS = {True: (8, 20), False: (5, 14)}
"""Units (characters of Chinese, else words) within which a title counts as of good length."""


def surface_appeal(title: str) -> float:
    """Share 0..1 of six signs that a title shows: practical, authentic, interactive, concrete, not vague, good length.

    An empty title has none.
    """
    found = units(title)
    if not found:
        return 0.0
    low, high = LENGTHS[2 * num_cjk(title) > len(found)]
    signs = (
        bool(_PRACTICAL.search(title)),
        bool(_AUTHENTIC.search(title)),
        bool(_INTERACTIVE.search(title)),
        bool(_CONCRETE.search(title)),
        not _VAGUE.search(title),
        low <= len(found) <= high,
    )
    return sum(signs) / len(signs)
