"""The schema of interaction logs: one session a line, and one note a line. Imports no torch.

A session is what one user did without a break:

    {"id": "s17", "user": "u4", "language": "en", "next_action": "left", "searches": [
      {"time": "2025-03-04T21:15:00", "query": "best tent", "shown": ["n3", "n8", "n1"],
       "clicks": [{"note": "n8", "seconds": 41}]}]}

A note is what they are shown: {"id": "n8", "title": "tent story", "content": "today i tried the tent."}.
Both may carry `tags`, labels that the platform knows of a query or a note. Users are counted, never named in a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.config.base import StrictModel

Name = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
Tags = tuple[Name, ...]
Language = Literal["en", "zh"]
NextAction = Literal["more_notes", "new_query", "other_page", "left"]
"""What the user did after the last search: viewed more notes, began another query, went to another page, left."""


class LoggedNote(StrictModel):
    """One line of the notes."""

    id: Name
    title: str = ""
    content: Name
    tags: Tags = ()


class Click(StrictModel):
    """A note that was opened."""

    note: Name
    seconds: float = Field(ge=0)
    """How long it was read."""


class Search(StrictModel):
    """A query, the notes shown for it, and those opened."""

    time: datetime
    query: Name
    shown: tuple[Name, ...] = Field(min_length=1)
    """Ids of notes, from the top of the page."""
    clicks: tuple[Click, ...] = ()
    """In the order of opening."""
    tags: Tags = ()

    def rule_violations(self) -> Iterator[str]:
        """What is clicked was shown, once."""
        shown = set(self.shown)
        if len(shown) < len(self.shown):
            yield "shown names a note twice; each note of a page once"
        for note in dict.fromkeys(click.note for click in self.clicks if click.note not in shown):
            yield f"clicks name the note {note!r}, which is not among `shown`; log what was shown with it"


class Session(StrictModel):
    """One line of the logs."""

    id: Name
    user: Name
    language: Language | None = None
    """Language of the document made of it; null: Chinese where the query has Chinese characters, else English."""
    searches: tuple[Search, ...] = Field(min_length=1)
    next_action: NextAction

    def rule_violations(self) -> Iterator[str]:
        """Time goes forward, and is told in one way."""
        if len({search.time.tzinfo is None for search in self.searches}) > 1:
            yield "some times have a time zone and some have none; give all or none one"
            return
        times = [search.time for search in self.searches]
        if times != sorted(times):
            yield "searches are not in the order of their times; sort them"


def write_log(path: Path, records: Iterable[Session | LoggedNote]) -> int:
    """Writes sessions or notes, one a line; returns how many."""
    return write_jsonl(path, (record.model_dump(mode="json") for record in records))
