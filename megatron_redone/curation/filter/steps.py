"""What every task of a pass is made of, as datatrove runs it: reading, judging by rules, shards, the account."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from megatron_redone.common.files import disk_full_reported
from megatron_redone.curation.filter.account import Account
from megatron_redone.curation.filter.config import FilterConfig
from megatron_redone.curation.filter.pieces import Piece
from megatron_redone.curation.filter.reading import Refusal, read_piece
from megatron_redone.curation.filter.rules import judge

Documents = Iterable[Document]
CORPUS_PREFIX = "corpus-"
GZIP_LEVEL = 1
"""Text between passes is read once or twice; the highest level would cost more than all rules."""


def shard_name(rank: int, prefix: str = "") -> str:
    """File name of a shard."""
    return f"{prefix}{rank:05d}.jsonl.gz"


class Step(PipelineStep):
    """A step of ours. Everything in it is plain data: datatrove copies it to the process that runs the task."""

    type = "FILTER"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@dataclass(frozen=True)
class Accounts:
    """Where the accounts of tasks go, and what they are made with."""

    folder: Path
    config: FilterConfig
    seed: int

    def new(self) -> Account:
        """An empty account."""
        return Account(self.seed, self.config.samples_per_reason, self.config.sample_characters)

    def write(self, name: str, account: Account, rank: int) -> None:
        """Writes the account of a task that has seen its last document."""
        account.write(self.folder / name / f"{rank:05d}.json")


def drop(account: Account, document: Document, reason: str, detail: str) -> None:
    """Counts a document as dropped."""
    fields = document.metadata
    account.drop(reason, detail, document.id, document.text, fields["units"], fields["place"])


class ReadAndJudge(Step):
    """Reads the pieces of a task and applies the rules."""

    def __init__(self, pieces: list[list[Piece]], accounts: Accounts) -> None:
        super().__init__("rules")
        self.pieces, self.accounts = pieces, accounts

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields the documents that pass."""
        account = self.accounts.new()
        for item in itertools.chain.from_iterable(read_piece(piece) for piece in self.pieces[rank]):
            if isinstance(item, Refusal):
                account.line(item.label, item.message, item.is_line)
                continue
            account.line(item.place.rpartition(":")[0])
            judged = judge(item.text, self.accounts.config)
            account.count("read", item.text, judged.num_units)
            if judged.reason is not None:
                account.drop(judged.reason, judged.detail, item.id, judged.text, judged.num_units, item.place)
                continue
            account.change(judged.changed)
            known = {"place": item.place, "units": judged.num_units, "language": judged.language}
            yield Document(judged.text, item.id, metadata={**known, "fields": item.fields})
        self.accounts.write(self.name, account, rank)


class WriteShard(Step):
    """Writes the documents of a task as one compressed file, whole or not at all, and hands them on."""

    prefix = ""
    """Begins the name of each file."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.folder = str(folder)

    def line(self, document: Document) -> dict[str, Any]:
        """What is written of a document."""
        return {"id": document.id, "text": document.text, "metadata": document.metadata}

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields what comes."""
        path = Path(self.folder) / shard_name(rank, self.prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with (
            disk_full_reported(path),
            temporary.open("wb") as raw,
            gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as file,
        ):
            for document in data:
                file.write(_json_line(self.line(document)))
                yield document
        temporary.replace(path)


def _json_line(value: dict[str, Any]) -> bytes:
    """A line of JSON; what UTF-8 cannot hold (half of a surrogate pair in some field) is escaped."""
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(value) + "\n").encode("ascii")


class ReadShard(Step):
    """Reads what `WriteShard` wrote."""

    def __init__(self, folder: Path) -> None:
        super().__init__("read")
        self.folder = str(folder)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields the documents of the task's shard."""
        with gzip.open(Path(self.folder) / shard_name(rank), "rb") as file:
            for raw in file:
                value = json.loads(raw)
                yield Document(value["text"], value["id"], metadata=value["metadata"])


class CountKept(Step):
    """Counts what is kept, and keeps samples of it."""

    def __init__(self, accounts: Accounts) -> None:
        super().__init__("kept")
        self.accounts = accounts

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields what comes."""
        account = self.accounts.new()
        for document in data:
            fields = document.metadata
            account.count("kept", document.text, fields["units"])
            account.change({f"kept/{fields['language']}": 1})
            account.sample("kept", "", document.id, document.text, fields["place"])
            yield document
        self.accounts.write(self.name, account, rank)


class WriteCorpus(WriteShard):
    """Writes documents as they are handed on: id, text, the fields they came with, and where they come from."""

    prefix = CORPUS_PREFIX

    def line(self, document: Document) -> dict[str, Any]:
        """`source` and `language` stay where the document has its own."""
        known = {"source": document.metadata["place"], "language": document.metadata["language"]}
        own: dict[str, Any] = document.metadata["fields"]
        return {"id": document.id, "text": document.text} | known | own
