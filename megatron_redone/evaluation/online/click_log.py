"""Logged pages of results as arrays: which note stood where, and what was clicked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import derive_seed

Pairs = npt.NDArray[np.int64]
NONE = -1
"""In place of a pair: beyond the end of a page."""


class LoggedPage(NamedTuple):
    """One search: its session, the query, the notes from the top, and those clicked."""

    session: str
    query: str
    shown: Sequence[str]
    clicked: frozenset[str]


@dataclass(frozen=True)
class ClickLog:
    """Pages as arrays.

    Attributes:
        pair: [pages, places] number of the (query, note) at each place; NONE beyond the end of a page.
        clicked: [pages, places].
        query: [pages] number of the query.
        sessions: of each page.
        pair_numbers: (query, note) -> number.
        query_numbers: query -> number.
    """

    pair: Pairs
    clicked: npt.NDArray[np.bool_]
    query: Pairs
    sessions: tuple[str, ...]
    pair_numbers: Mapping[tuple[str, str], int]
    query_numbers: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.pair)

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """[pages, places] where there is a note."""
        return np.asarray(self.pair != NONE)

    def part(self, chosen: npt.NDArray[np.bool_]) -> ClickLog:
        """The chosen pages [pages], with the same numbers."""
        sessions = tuple(session for session, keep in zip(self.sessions, chosen, strict=True) if keep)
        return ClickLog(
            self.pair[chosen], self.clicked[chosen], self.query[chosen], sessions, self.pair_numbers, self.query_numbers
        )

    def split(self, held_out_share: float, seed: int) -> tuple[ClickLog, ClickLog]:
        """(pages to fit on, held-out pages); the pages of a session stay together.

        Raises:
            DataError: one of the two is empty.
        """
        draws = np.array([derive_seed(seed, "held-out", session) / 2**63 for session in self.sessions])
        held_out = draws < held_out_share
        if held_out.all() or not held_out.any():
            raise DataError(f"{len(self)} pages cannot be divided at held_out_share={held_out_share}; give more logs")
        return self.part(~held_out), self.part(held_out)


def click_log(pages: Iterable[LoggedPage]) -> ClickLog:
    """Numbers the pages' queries and notes.

    Raises:
        DataError: no pages.
    """
    pairs: dict[tuple[str, str], int] = {}
    queries: dict[str, int] = {}
    rows: list[list[int]] = []
    clicks: list[list[bool]] = []
    of_page: list[int] = []
    sessions: list[str] = []
    for page in pages:
        rows.append([pairs.setdefault((page.query, note), len(pairs)) for note in page.shown])
        clicks.append([note in page.clicked for note in page.shown])
        of_page.append(queries.setdefault(page.query, len(queries)))
        sessions.append(page.session)
    if not rows:
        raise DataError("the logs have no pages of results; give sessions with searches")
    width = max(map(len, rows))
    return ClickLog(
        pair=np.array([row + [NONE] * (width - len(row)) for row in rows], np.int64),
        clicked=np.array([row + [False] * (width - len(row)) for row in clicks], bool),
        query=np.array(of_page, np.int64),
        sessions=tuple(sessions),
        pair_numbers=pairs,
        query_numbers=queries,
    )
