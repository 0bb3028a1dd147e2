"""The task-oriented rules (RedOne, 'Continue Pretraining': HTML tags, repeated sentences and the like), one text at a
time. The paper names a few kinds only; which rules there are, and their thresholds, are ours."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from megatron_redone.curation.filter.config import FilterConfig
from megatron_redone.curation.filter.encoding import (
    has_lone_surrogate,
    mojibake_characters,
    nfc,
    num_control,
    without_control,
)
from megatron_redone.curation.filter.language import language_of, script_language
from megatron_redone.curation.filter.markup import num_remains, without_markup
from megatron_redone.curation.filter.pii import masked
from megatron_redone.curation.filter.repetition import repetition_problem
from megatron_redone.data.ngrams import num_cjk, unit_hashes, units

URL = re.compile(r"(?:https?://|www\.)[^\s\u3000-\u9fff\uff00-\uffef<>\"']+", re.IGNORECASE)
_PUNCTUATION = ".,;:!?'\"()[]-–—…/&%@<>*~+=$，。！？、；：“”‘’（）《》【】「」『』〈〉·～﹏￥％＠＋－＝／"
_NO_SYMBOLS = re.compile(rf"[\w\s{re.escape(_PUNCTUATION)}]+")


@dataclass(frozen=True)
class Judgement:
    """What the rules say of one text."""

    text: str
    """The text as it goes on: without markup and control characters, private data masked."""
    num_units: int
    language: str
    reason: str | None = None
    """The rule that drops the text; None: it is kept."""
    detail: str = ""
    """What the rule saw, and its threshold."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """Counts of what was taken out or masked: `tags`, `control`, and kinds of private data."""


def judge(text: str, config: FilterConfig) -> Judgement:
    """Applies the rules in order; the first that fails gives the reason.

    The order goes from what makes a text unreadable for the other rules to what is expensive: encoding, markup, length,
    addresses, symbols, repetition, language. A dropped text is masked too, since samples of it are kept.
    """
    changed: dict[str, int] = {}
    problem = _damage(text, config)
    if problem is None:
        text, problem = _clean(text, config, changed)
    elif has_lone_surrogate(text):
        text = text.encode("utf-8", "replace").decode("utf-8")
    found = units(text)
    language = "und"
    if problem is None:
        problem = _length(len(found), config) or _content(text, config)
    if problem is None:
        mostly_cjk = num_cjk(text) * 2 > len(found)
        repeated = repetition_problem(text, unit_hashes(found), mostly_cjk, config.repetition)
        problem = ("repetition", repeated) if repeated else None
    if problem is None and config.language.keep:
        language, problem = _language(text, config)
    text, masks = masked(text, config.pii.mask, config.pii.phone_regions)
    if problem is not None:
        return Judgement(text, len(found), language, *problem)
    return Judgement(text, len(found), language, changed=changed | masks)


def _damage(text: str, config: FilterConfig) -> tuple[str, str] | None:
    rules, length = config.encoding, max(len(text), 1)
    if has_lone_surrogate(text):
        return "encoding", "half of a surrogate pair"
    for what, count, limit in (
        ("replacement characters", text.count("\ufffd"), rules.max_replacement_share),
        ("control characters", num_control(text), rules.max_control_share),
        ("mojibake", mojibake_characters(text), rules.max_mojibake_share),
    ):
        if count / length > limit:
            return "encoding", f"{what} {count / length:.3f} above {limit}"
    return None


def _clean(text: str, config: FilterConfig, changed: dict[str, int]) -> tuple[str, tuple[str, str] | None]:
    """The text without control characters and, where that is asked for, markup."""
    control = num_control(text)
    if control:
        changed["control"] = control
    text = nfc(without_control(text)).strip()
    remains = num_remains(text) if config.html.action != "keep" else 0
    if not remains:
        return text, None
    if config.html.action == "drop":
        too_many = remains > config.html.max_tags
        return text, ("html", f"{remains} tags above {config.html.max_tags}") if too_many else None
    plain = without_markup(text)
    share = 1.0 - len(plain) / len(html.unescape(text))  # an emoji that is spelt as an entity is no markup
    if share > config.html.max_markup_share:
        return plain, ("html", f"markup {share:.2f} above {config.html.max_markup_share}")
    changed["tags"] = remains
    return plain, None


def _length(num_units: int, config: FilterConfig) -> tuple[str, str] | None:
    if num_units < config.length.min_units:
        return "too_short", f"{num_units} units below {config.length.min_units}"
    if num_units > config.length.max_units:
        return "too_long", f"{num_units} units above {config.length.max_units}"
    return None


def _content(text: str, config: FilterConfig) -> tuple[str, str] | None:
    rules = config.content
    url = url_share(text)
    if url > rules.max_url_share:
        return "urls", f"addresses {url:.2f} above {rules.max_url_share}"
    symbols = symbol_share(URL.sub("", text))
    if symbols > rules.max_symbol_share:
        return "symbols", f"symbols {symbols:.2f} above {rules.max_symbol_share}"
    return None


def url_share(text: str) -> float:
    """Share of the text's characters in web addresses."""
    return sum(len(match.group()) for match in URL.finditer(text)) / max(len(text), 1)


def symbol_share(text: str) -> float:
    """Share of the characters, spaces left out, that are neither letters nor digits nor usual punctuation."""
    seen = sum(map(len, text.split()))
    return len(_NO_SYMBOLS.sub("", text)) / seen if seen else 0.0


def _language(text: str, config: FilterConfig) -> tuple[str, tuple[str, str] | None]:
    rules = config.language
    language, confidence = language_of(text, rules.min_letters)
    if confidence < rules.min_confidence:
        if rules.unclear == "drop":
            return language, ("language_unclear", f"{language} with {confidence:.2f} below {rules.min_confidence}")
        language = script_language(text)
    if language not in rules.keep:
        return language, ("language", f"{language} is none of {', '.join(rules.keep)}")
    return language, None
