"""The HTML templates of this room: autoescape on, an undefined name is an error."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# Control characters, marks that turn the direction of the text around them, and what UTF-8 cannot hold.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Text with an escape like `\\x00` for each character that harms a page or a terminal."""
    return _UNPRINTABLE.sub(_escape, text.replace("\r\n", "\n"))


def _finalize(value: object) -> object:
    """What templates do to a value before they escape it. Markup, a subclass of str, is clean already."""
    return printable(value) if type(value) is str else value


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 05 s`, `1 h 12 min`; below ten seconds with one decimal."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clipped(text: str, length: int) -> str:
    """At most `length` characters, and how many more there were."""
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length} more characters)"


def breakable(text: str) -> Markup:
    """A name that may be broken after each underscore, escaped."""
    return Markup("_<wbr>").join(printable(text).split("_"))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("megatron_redone.reporting"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": breakable, "duration": duration, "clipped": clipped}
    return environment


ENVIRONMENT = _environment()


def render(template: str, **values: object) -> str:
    """Renders `templates/<template>`."""
    return ENVIRONMENT.get_template(template).render(**values)
