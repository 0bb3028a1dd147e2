"""The steps that leave out repeated documents: exact ones by hashes on disk, near ones as MinHash says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from datatrove.data import Document

from megatron_redone.curation.filter.account import Account
from megatron_redone.curation.filter.identity import (
    hash_text,
    later_of_same_key,
    read_places,
    records_in_range,
    without_places,
    write_places,
    write_records,
)
from megatron_redone.curation.filter.steps import Accounts, Documents, Step, drop


class WriteRecords(Step):
    """Hashes of ids and texts, for `FindRepeated`. The last step of its task."""

    def __init__(self, folder: Path) -> None:
        super().__init__("hashes")
        self.folder = str(folder)

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Consumes the documents."""
        ids, texts = [], []
        for document in data:
            ids.append(hash_text(document.id))
            texts.append(hash_text(document.text))
        folder = Path(self.folder)
        write_records(folder / "ids" / f"{rank:05d}.npy", ids, texts, rank)
        write_records(folder / "texts" / f"{rank:05d}.npy", texts, ids, rank)
        return iter(())


class FindRepeated(Step):
    """Later documents of the same id with another text, or of the same text; each task takes one range of hashes.

    Args:
        what: `ids` or `texts`.
        without: folder of places that do not count, or None.
    """

    def __init__(self, what: str, records: Path, places: Path, num_shards: int, without: Path | None = None) -> None:
        super().__init__(f"repeated {what}")
        self.what, self.records, self.places, self.num_shards = what, str(records), str(places), num_shards
        self.without = str(without) if without is not None else None

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Writes the places of repeated documents."""
        records = records_in_range(Path(self.records) / self.what, rank, world_size)
        if self.without is not None:
            records = without_places(records, Path(self.without), self.num_shards)
        repeated = later_of_same_key(records, different_only=self.what == "ids")
        write_places(Path(self.places) / f"{rank:05d}", repeated, self.num_shards)
        return iter(())


class DropRepeated(Step):
    """Leaves out what `FindRepeated` found; with `accounted` it is counted as well."""

    def __init__(self, ids: Path, texts: Path, accounts: Accounts, accounted: bool = True) -> None:
        super().__init__("exact")
        self.ids, self.texts, self.accounts, self.accounted = str(ids), str(texts), accounts, accounted

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields the documents that are first of their text, and of their id."""
        account = self.accounts.new()
        ids = set(read_places(Path(self.ids), rank).tolist())
        texts = set(read_places(Path(self.texts), rank).tolist())
        for index, document in enumerate(data):
            if index in ids:
                drop(account, document, "repeated_id", "the id stood before with another text")
                place = document.metadata["place"]
                account.line(
                    place.rpartition(":")[0],
                    f"{place}: id={document.id!r} stood before with another text; ids must be unique",
                    is_line=False,
                )
            elif index in texts:
                drop(account, document, "exact_duplicate", "the same text stood before")
            else:
                yield document
        if self.accounted:
            self.accounts.write(self.name, account, rank)


class NearDuplicateRecorder:
    """What datatrove's MinHash filter hands the documents to that it drops (its exclusion writer)."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._account: Account | None = None
        self._rank = 0

    def __enter__(self) -> NearDuplicateRecorder:
        self._account = self.accounts.new()
        return self

    def write(self, document: Document, rank: int) -> None:
        """Counts one document."""
        assert self._account is not None
        self._rank = rank
        drop(self._account, document, "near_duplicate", "MinHash: much of an earlier text")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._account is not None
        if kind is None and self._account.tallies:
            self.accounts.write("minhash", self._account, self._rank)
        self._account = None
