"""Verifiable constraints of a text, one function a kind.

Each takes the text and its own settings and says what is wrong, or "" where the constraint is kept. The kinds
cover those of IFEval (Zhou et al. 2023), read as its published checker reads them, and some that replies and
comments on a social network need. Where a Chinese text has marks of its own they count too; settings that only the
published reading has are named so, and `ifeval_constraints.py` sets them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from megatron_redone.scoring.english import likeliest_language, num_punkt_sentences, treebank_words
from megatron_redone.scoring.normalise import loose, tidy
from megatron_redone.scoring.pattern import HAN, MIN_LANGUAGE_SHARE, language_share, num_words

_WORD = re.compile(rf"[{HAN}]|[^\W{HAN}]+")
_SENTENCE_END = re.compile(r"[.!?](?!\w)|[。！？…\n]")
_BULLETS = (re.compile(r"^\s*\*[^*].*$", re.MULTILINE), re.compile(r"^\s*-.*$", re.MULTILINE))
_HIGHLIGHTS = (re.compile(r"\*([^\n*]*)\*"), re.compile(r"\*\*([^\n*]*)\*\*"))
_TITLE = re.compile(r"<<[^\n]+>>|《[^《》\n]*\w[^《》\n]*》")
_PLACEHOLDER = re.compile(r"\[.*?\]")
_HASHTAG = re.compile(r"#[^\s#]+#?")
_PICTURE = "[\u2600-\u27bf\u2b50\u2b55\U0001f300-\U0001f3fa\U0001f400-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]?"
_EMOJI = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|{_PICTURE}(?:\u200d{_PICTURE})*")
_FENCES = ("```json", "```Json", "```JSON", "```")
_POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
_SPEAKER = re.compile(r"\A\s*[\w .·]{1,30}[:：](?!//)")
_SEPARATORS = {"blank_line": re.compile(r"\n\n"), "stars": re.compile(r"\s?\*\*\*\s?")}
_QUOTES = (('"', '"'), ("“", "”"), ("「", "」"))
MIN_QUOTED_CHARACTERS = 12


def _between(found: int, minimum: int | None, maximum: int | None, unit: str) -> str:
    if minimum is not None and found < minimum:
        return f"{found} {unit}, at least {minimum} asked"
    if maximum is not None and found > maximum:
        return f"{found} {unit}, at most {maximum} allowed"
    return ""


def words(text: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """A number of words, runs of letters and digits; each Han character counts as one."""
    return _between(len(_WORD.findall(text)), minimum, maximum, "words")


def sentences(text: str, minimum: int | None = None, maximum: int | None = None, splitter: str = "marks") -> str:
    """A number of sentences, ended by . ! ? 。 ！ ？ … or a line end; or (`punkt`) by the English Punkt model.

    Punkt (Kiss and Strunk 2006) is what IFEval asks; it knows abbreviations, and a line end alone ends nothing.
    """
    if splitter == "punkt":
        return _between(num_punkt_sentences(text), minimum, maximum, "sentences")
    found = [part for part in _SENTENCE_END.split(text) if num_words(part)]
    return _between(len(found), minimum, maximum, "sentences")


def paragraphs(text: str, count: int, separator: str = "blank_line") -> str:
    """Exactly so many paragraphs, parted by blank lines or (`stars`) by ***; none between two *** is a fault."""
    parts = _SEPARATORS[separator].split(text)
    if separator == "stars" and not all(part.strip() for part in parts[1:-1]):
        return "an empty paragraph between two ***"
    return _between(sum(1 for part in parts if part.strip()), count, count, "paragraphs")


def paragraph_opening(text: str, count: int, paragraph: int, word: str) -> str:
    """So many paragraphs parted by blank lines, of which one opens with the word.

    As in IFEval a paragraph of white space alone is not counted, yet it has a number.
    """
    parts = _SEPARATORS["blank_line"].split(text)
    found = sum(1 for part in parts if part.strip())
    if found != count:
        return f"{found} paragraphs, {count} asked"
    opening = parts[paragraph - 1].strip()
    first = re.split(r"[.,?!'\"]", opening.split()[0].lstrip("'").lstrip('"'))[0].lower() if opening else ""
    opens = first == word.lower() or (not word.isascii() and opening.startswith(word))
    return "" if opens else f"paragraph {paragraph} does not open with {word!r}"


def lines(text: str, count: int) -> str:
    """Exactly so many lines that are not empty."""
    return _between(len(_lines(text)), count, count, "lines")


def words_per_line(text: str, maximum: int) -> str:
    """At most so many words in every line."""
    return _between(max(map(num_words, _lines(text)), default=0), None, maximum, "words in a line")


def distinct_lines(text: str) -> str:
    """No line says what another one says."""
    found = [loose(line) for line in _lines(text)]
    return "" if len(set(found)) == len(found) else "a line stands there twice"


def keywords(text: str, expressions: tuple[str, ...], inside_words: bool = False) -> str:
    """All of the expressions occur; IFEval lets them stand inside words."""
    missing = [item for item in expressions if not _count(text, item, inside_words)]
    return f"{missing[0]!r} does not occur" if missing else ""


def forbidden(text: str, expressions: tuple[str, ...]) -> str:
    """None of the expressions occurs."""
    present = [item for item in expressions if _count(text, item)]
    return f"{present[0]!r} occurs and must not" if present else ""


def keyword_count(
    text: str, expression: str, minimum: int | None = None, maximum: int | None = None, inside_words: bool = False
) -> str:
    """The expression occurs a number of times; IFEval counts it inside words too."""
    return _between(_count(text, expression, inside_words), minimum, maximum, f"times {expression!r}")


def letter_count(text: str, letter: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """The character occurs a number of times, in either case."""
    return _between(text.lower().count(letter.lower()), minimum, maximum, f"times {letter!r}")


def language(text: str, code: str) -> str:
    """Most of the text is written in Chinese (`zh`) or in Latin letters (`en`); else py3langid names the language."""
    if code not in ("en", "zh"):
        found = likeliest_language(text)
        return "" if found == code else f"it is {found}, not {code}"
    share = language_share(text, code)
    asked = f"at least {MIN_LANGUAGE_SHARE:.0%} asked"
    return "" if share >= MIN_LANGUAGE_SHARE else f"{share:.0%} of it is {code}, {asked}"


def bullets(text: str, count: int) -> str:
    """Exactly so many list items that open with - or *, the marks of Markdown."""
    return _between(sum(len(bullet.findall(text)) for bullet in _BULLETS), count, count, "list items")


def sections(text: str, marker: str, count: int) -> str:
    """At least so many sections, each opened by the marker and a number, such as `SECTION 1`."""
    found = re.findall(rf"{re.escape(marker)}\s?\d+", text)
    return _between(len(found), count, None, "sections")


def highlights(text: str, minimum: int) -> str:
    """At least so many parts in *stars* or **two stars**."""
    found = sum(1 for highlight in _HIGHLIGHTS for inside in highlight.findall(text) if inside.strip())
    return _between(found, minimum, None, "parts in stars")


def title(text: str) -> str:
    """A title in <<double angle brackets>> (or 《》)."""
    found = any(match.lstrip("<").rstrip(">").strip() for match in _TITLE.findall(text))
    return "" if found else "no title in double angle brackets"


def placeholders(text: str, minimum: int) -> str:
    """At least so many [placeholders] in square brackets."""
    return _between(len(_PLACEHOLDER.findall(text)), minimum, None, "placeholders")


def postscript(text: str, marker: str) -> str:
    """The marker, such as `P.S.`; of P.S. and P.P.S. the letters may stand apart."""
    wanted = _POSTSCRIPTS.get(marker.strip()) or re.escape(marker.strip().lower())
    return "" if re.search(wanted, text.lower()) else f"{marker!r} does not occur"


def json_only(text: str) -> str:
    """The whole text is JSON, in a code fence or bare."""
    body = text.strip()
    for fence in _FENCES:
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return "it is not JSON as a whole"
    return ""


def no_comma(text: str) -> str:
    """No comma of any width."""
    return "a comma occurs" if re.search("[,，]", text) else ""


def starts_with(text: str, expression: str) -> str:
    """The text opens with the expression (IFEval's repeated request is one of these)."""
    opens = text.strip().lower().startswith(expression.strip().lower())
    return "" if opens else f"it does not open with {_short(expression)}"


def ends_with(text: str, expression: str) -> str:
    """The text ends with the expression, in any case; double quotes around the text are let pass."""
    end = text.strip().strip('"“”「」').lower()
    return "" if end.endswith(expression.strip().lower()) else f"it does not end with {_short(expression)}"


def quoted(text: str, straight: bool = False) -> str:
    """The whole text stands in double quotes of any form; IFEval knows straight ones only."""
    body = text.strip()
    forms = _QUOTES[:1] if straight else _QUOTES
    kept = any(len(body) > 1 and body.startswith(first) and body.endswith(last) for first, last in forms)
    return "" if kept else "it does not stand in double quotes as a whole"


def upper_case(text: str) -> str:
    """Every letter that has a capital form is a capital."""
    return "" if text.isupper() else "not all letters are capitals"


def lower_case(text: str) -> str:
    """No capital letter."""
    return "" if text.islower() else "a letter is a capital, or there is none"


def capital_words(text: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """A number of words all in capitals, cut as a treebank cuts them: COVID-19 is one, I'M are two."""
    return _between(sum(word.isupper() for word in treebank_words(text)), minimum, maximum, "words in capitals")


def one_of(text: str, expressions: tuple[str, ...], literal: bool = False) -> str:
    """One of the expressions occurs; with `literal` in just this case, also inside words, as IFEval reads it."""
    found = any(item in text if literal else _count(text, item) for item in expressions)
    return "" if found else "none of the allowed answers occurs"


def two_responses(text: str) -> str:
    """Two different answers, parted by six stars, which may stand before the first and after the last as well."""
    parts = [part.strip() for part in text.split("******")]
    answers = [part for part in parts if part]
    kept = all(parts[1:-1]) and len(answers) == 2 and answers[0] != answers[1]
    return "" if kept else "not two different answers parted by ******"


def emoji(text: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """A number of emoji; one with a skin colour, a joined one and a flag count as one each."""
    return _between(len(_EMOJI.findall(text)), minimum, maximum, "emoji")


def hashtags(text: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """A number of #hashtags."""
    return _between(len(_HASHTAG.findall(text)), minimum, maximum, "hashtags")


def no_speaker(text: str) -> str:
    """The text does not open with a speaker's name and a colon."""
    return "it opens with a speaker's name and a colon" if _SPEAKER.match(text) else ""


def not_quoting(text: str, texts: tuple[str, ...]) -> str:
    """It does not repeat whole one of the texts that has at least 12 characters."""
    body = loose(text)
    repeated = [item for item in map(loose, texts) if len(item) >= MIN_QUOTED_CHARACTERS and item in body]
    return f"it repeats {_short(repeated[0])}" if repeated else ""


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _plain(text: str) -> str:
    return tidy(text).casefold()


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _count(text: str, expression: str, inside_words: bool = False) -> int:
    """How often an expression occurs in any case; one of letters stands between word ends (Han needs none)."""
    if inside_words:
        return len(re.findall(re.escape(expression.strip()), text, re.IGNORECASE)) if expression.strip() else 0
    wanted = _plain(expression)
    edge = rf"[^\W{HAN}]"
    before = rf"(?<!{edge})" if re.match(edge, wanted[:1]) else ""
    after = rf"(?!{edge})" if re.match(edge, wanted[-1:]) else ""
    return len(re.findall(before + re.escape(wanted) + after, _plain(text))) if wanted else 0


CHECKS: dict[str, Callable[..., str]] = {
    check.__name__: check
    for check in (
        words, sentences, paragraphs, paragraph_opening, lines, words_per_line, distinct_lines, keywords, forbidden,
        keyword_count, letter_count, language, bullets, sections, highlights, title, placeholders, postscript,
        json_only, no_comma, starts_with, ends_with, quoted, upper_case, lower_case, capital_words, one_of,
        two_responses, emoji, hashtags, no_speaker, not_quoting,
    )
}  # fmt: skip
"""Every kind of constraint by name."""
