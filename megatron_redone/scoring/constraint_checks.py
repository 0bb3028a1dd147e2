"""Verifiable constraints of a text, one function a kind.

Each takes the text and its own settings and says what is wrong, or "" where the constraint is kept. The kinds
cover those of IFEval (Zhou et al. 2023) and some that replies and comments on a social network need; names and
readings are ours, and where IFEval's own code reads a text in another way the docstring says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from megatron_redone.scoring.normalise import loose, tidy
from megatron_redone.scoring.pattern import MIN_LANGUAGE_SHARE, language_share, num_words

_SENTENCE_END = re.compile(r"[.!?](?!\w)|[。！？…\n]")
_BULLET = re.compile(r"(?:[-•]|\*(?!\*))\s*\S")
_HIGHLIGHT = re.compile(r"\*\*[^*\n]+\*\*|\*[^*\n]+\*")
_TITLE = re.compile(r"<<[^<>\n]*\w[^<>\n]*>>|《[^《》\n]*\w[^《》\n]*》")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")
_HASHTAG = re.compile(r"#[^\s#]+#?")
_PICTURE = "[\u2600-\u27bf\u2b50\u2b55\U0001f300-\U0001f3fa\U0001f400-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]?"
_EMOJI = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|{_PICTURE}(?:\u200d{_PICTURE})*")
_FENCE = re.compile(r"\A```(?:json)?\s*(?P<body>.*?)\s*```\Z", re.DOTALL)
_SPEAKER = re.compile(r"\A\s*[\w .·]{1,30}[:：](?!//)")
_SEPARATORS = {"blank_line": re.compile(r"\n\s*\n"), "stars": re.compile(r"\s*\*\*\*\s*")}
_QUOTES = (('"', '"'), ("“", "”"), ("「", "」"))
MIN_QUOTED_CHARACTERS = 12


def _between(found: int, minimum: int | None, maximum: int | None, unit: str) -> str:
    if minimum is not None and found < minimum:
        return f"{found} {unit}, at least {minimum} asked"
    if maximum is not None and found > maximum:
        return f"{found} {unit}, at most {maximum} allowed"
    return ""


def words(text: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """A number of words; each Han character counts as one."""
    return _between(num_words(text), minimum, maximum, "words")


def sentences(text: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """A number of sentences, ended by . ! ? 。 ！ ？ … or a line end (IFEval asks a trained splitter)."""
    found = [part for part in _SENTENCE_END.split(text) if num_words(part)]
    return _between(len(found), minimum, maximum, "sentences")


def paragraphs(text: str, count: int, separator: str = "blank_line") -> str:
    """Exactly so many paragraphs, parted by blank lines or (`stars`) by ***."""
    return _between(len(_paragraphs(text, separator)), count, count, "paragraphs")


def paragraph_opening(text: str, count: int, paragraph: int, word: str) -> str:
    """So many paragraphs parted by blank lines, of which one opens with the word."""
    found = _paragraphs(text, "blank_line")
    if len(found) != count:
        return f"{len(found)} paragraphs, {count} asked"
    opening = loose(found[paragraph - 1])
    wanted = loose(word)
    opens = opening == wanted or (opening.startswith(wanted) and not opening[len(wanted)].isascii())
    opens = opens or bool(re.match(re.escape(wanted) + r"(?![0-9a-z])", opening))
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


def keywords(text: str, expressions: tuple[str, ...]) -> str:
    """All of the expressions occur."""
    missing = [item for item in expressions if not _count(text, item)]
    return f"{missing[0]!r} does not occur" if missing else ""


def forbidden(text: str, expressions: tuple[str, ...]) -> str:
    """None of the expressions occurs."""
    present = [item for item in expressions if _count(text, item)]
    return f"{present[0]!r} occurs and must not" if present else ""


def keyword_count(text: str, expression: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """The expression occurs a number of times."""
    return _between(_count(text, expression), minimum, maximum, f"times {expression!r}")


def letter_count(text: str, letter: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """The character occurs a number of times, in either case."""
    return _between(text.casefold().count(letter.casefold()), minimum, maximum, f"times {letter!r}")


def language(text: str, code: str) -> str:
    """Most of the text is written in Chinese (`zh`) or in Latin letters (`en`)."""
    share = language_share(text, code)
    asked = f"at least {MIN_LANGUAGE_SHARE:.0%} asked"
    return "" if share >= MIN_LANGUAGE_SHARE else f"{share:.0%} of it is {code}, {asked}"


def bullets(text: str, count: int) -> str:
    """Exactly so many list items that open with -, * or •."""
    return _between(sum(1 for line in _lines(text) if _BULLET.match(line.lstrip())), count, count, "list items")


def sections(text: str, marker: str, count: int) -> str:
    """At least so many sections, each opened by the marker and a number, such as `SECTION 1`."""
    found = re.findall(rf"{re.escape(marker)}\s*\d+", text)
    return _between(len(found), count, None, "sections")


def highlights(text: str, minimum: int) -> str:
    """At least so many parts in *stars*."""
    return _between(len(_HIGHLIGHT.findall(text)), minimum, None, "parts in stars")


def title(text: str) -> str:
    """A title in <<double angle brackets>> (or 《》)."""
    return "" if _TITLE.search(text) else "no title in double angle brackets"


def placeholders(text: str, minimum: int) -> str:
    """At least so many [placeholders] in square brackets."""
    return _between(len(_PLACEHOLDER.findall(text)), minimum, None, "placeholders")


def postscript(text: str, marker: str) -> str:
    """A line that opens with the marker, such as `P.S.`, and goes on."""
    wanted = _plain(marker)
    found = any(line.startswith(wanted) and line != wanted for line in map(_plain, _lines(text)))
    return "" if found else f"no line opens with {marker!r}"


def json_only(text: str) -> str:
    """The whole text is JSON, in a code fence or bare."""
    fenced = _FENCE.fullmatch(text.strip())
    try:
        json.loads(fenced["body"] if fenced else text)
    except (ValueError, RecursionError):
        return "it is not JSON as a whole"
    return ""


def no_comma(text: str) -> str:
    """No comma of any width."""
    return "a comma occurs" if re.search("[,，]", text) else ""


def starts_with(text: str, expression: str) -> str:
    """The text opens with the expression (IFEval's repeated request is one of these)."""
    return "" if _plain(text).startswith(_plain(expression)) else f"it does not open with {_short(expression)}"


def ends_with(text: str, expression: str) -> str:
    """The text ends with the expression; closing quotes are let pass."""
    end = _plain(text).rstrip("\"'”’」")
    return "" if end.endswith(_plain(expression).rstrip("\"'”’」")) else f"it does not end with {_short(expression)}"


def quoted(text: str) -> str:
    """The whole text stands in double quotes."""
    body = text.strip()
    kept = any(len(body) > 2 and body.startswith(first) and body.endswith(last) for first, last in _QUOTES)
    return "" if kept else "it does not stand in double quotes as a whole"


def upper_case(text: str) -> str:
    """Every letter that has a capital form is a capital."""
    return "" if text == text.upper() and text != text.lower() else "not all letters are capitals"


def lower_case(text: str) -> str:
    """No capital letter."""
    return "" if text == text.lower() and text != text.upper() else "a letter is a capital, or there is none"


def capital_words(text: str, minimum: int | None = None, maximum: int | None = None) -> str:
    """A number of words all in capitals."""
    found = [word for word in re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text) if word.isupper()]
    return _between(len(found), minimum, maximum, "words in capitals")


def one_of(text: str, expressions: tuple[str, ...]) -> str:
    """One of the expressions occurs."""
    return "" if any(_count(text, item) for item in expressions) else "none of the allowed answers occurs"


def two_responses(text: str) -> str:
    """Two different answers, parted by a line of six stars."""
    parts = [tidy(part) for part in text.split("******")]
    parts = parts[1:] if len(parts) > 2 and not parts[0] else parts
    parts = parts[:-1] if len(parts) > 2 and not parts[-1] else parts
    kept = len(parts) == 2 and all(parts) and parts[0] != parts[1]
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


def _paragraphs(text: str, separator: str) -> list[str]:
    return [part.strip() for part in _SEPARATORS[separator].split(text) if part.strip()]


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _plain(text: str) -> str:
    return tidy(text).casefold()


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _count(text: str, expression: str) -> int:
    """How often an expression occurs in any case; one of Latin letters stands between word ends."""
    wanted = _plain(expression)
    before = r"(?<![0-9a-z_])" if wanted[:1].isascii() and wanted[:1].isalnum() else ""
    after = r"(?![0-9a-z_])" if wanted[-1:].isascii() and wanted[-1:].isalnum() else ""
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
