"""The HTML templates of this room: autoescape on, an undefined name is an error."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(value: object) -> object:
    """Text with control characters and lone surrogates as visible escapes (HTML can hold neither); others unchanged."""
    if type(value) is not str:  # Markup, a subclass, was made here and is clean
        return value
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match.group()):02x}", value.replace("\r\n", "\n"))


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


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("megatron_redone.reporting"),
        autoescape=True,
        finalize=printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "clipped": clipped}
    return environment


ENVIRONMENT = _environment()


def render(template: str, **values: object) -> str:
    """Renders `templates/<template>`."""
    return ENVIRONMENT.get_template(template).render(**values)
