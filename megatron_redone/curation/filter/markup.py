"""HTML remains: how many there are, and the text without them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_TAGS = """
    a abbr article aside b blockquote body br button center code div dd dl dt em embed font footer form frame h1 h2
    h3 h4 h5 h6 head header hr html i iframe img input ins label li link main meta nav noscript object ol option p
    param pre s script section select small source span strike strong style sub sup svg table tbody td textarea
    tfoot th thead title tr u ul video
"""
_REMAINS = re.compile(
    rf"</?(?:{'|'.join(_TAGS.split())})(?:\s[^<>]*)?/?>|<!--.*?-->|<!doctype[^>]*>|&(?:[a-z]{{2,8}}|#\d{{1,7}}|#x[0-9a-f]{{1,6}});",
    re.IGNORECASE | re.DOTALL,
)
_ENDS_A_LINE = frozenset(
    """
    article aside blockquote br center dd div dl dt footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre
    section table title tr ul
    """.split()  # noqa: SIM905
)
_UNSEEN = frozenset(("script", "style", "noscript", "iframe", "object", "svg"))
_BLANK_LINES = re.compile(r"\n[ \t\xa0]*(?:\n[ \t\xa0]*)+")


def num_remains(text: str) -> int:
    """Tags of HTML, comments and entities. `<3` and `a < b` are none."""
    if "<" not in text and "&" not in text:
        return 0
    return sum(1 for _ in _REMAINS.finditer(text))


def without_markup(text: str) -> str:
    """The text that a browser would show: no tags, no scripts and styles, entities as characters."""
    reader = _Reader()
    reader.feed(_known_tags_only(text))
    reader.close()
    return _BLANK_LINES.sub("\n\n", "".join(reader.parts)).strip()


def _known_tags_only(text: str) -> str:
    """Escapes each `<` that opens no known tag, so that `<3` and `<name>` stay in the text."""
    keeps = {match.start() for match in _REMAINS.finditer(text)}
    return "".join("&lt;" if char == "<" and at not in keeps else char for at, char in enumerate(text))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag in _ENDS_A_LINE:
            self.parts.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _ENDS_A_LINE:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _ENDS_A_LINE:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)
