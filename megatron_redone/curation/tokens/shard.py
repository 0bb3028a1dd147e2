"""One output shard: the documents of its pieces as token ids, with a record of what was done. Imports no torch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json, disk_full_reported, sha256_file
from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.held_out import HeldOut, HeldOutSources
from megatron_redone.curation.tokens.config import TokenizeConfig
from megatron_redone.curation.tokens.plan import MIB, ShardPlan
from megatron_redone.data.indexed_writer import IndexedWriter, indexed_writer, with_suffix
from megatron_redone.data.text_files import TextDocument, read_texts
from megatron_redone.data.tokenizer import Tokenizer, load_tokenizer

RECORDS = "shards"
"""Folder of the records and ids of finished shards while the others are made."""
MAX_DOCUMENTS, MAX_CHARACTERS = 512, 1 << 20
"""Most documents of a batch that is encoded at once, and so many characters end it."""
KEPT_MESSAGES = 100
FILE_BITS = 40
"""Place of a document in one number: its file above so many bits, its line below."""
TRAIN, VALIDATION = "train", "validation"
NAME_OF_SPLIT = {TRAIN: "corpus", VALIDATION: "validation"}


@dataclass(frozen=True)
class ShardJob:
    """What a process needs to make a shard."""

    plan: ShardPlan
    folder: Path
    tokenizer: Path
    config: TokenizeConfig
    held_out: HeldOutSources | None = None


@dataclass(frozen=True)
class WrittenFiles:
    """One prefix that a shard wrote: its name, what is in it, and the checksums of its two files."""

    name: str
    documents: int
    tokens: int
    bin_sha256: str
    idx_sha256: str


@dataclass
class ShardRecord:
    """What was made of a shard's lines; rows are lines that are not blank."""

    number: int
    rows: int = 0
    without_id: int = 0
    empty: int = 0
    refused: int = 0
    held_out: dict[str, int] = field(default_factory=dict)
    """Documents that were left out, by reason."""
    messages: list[str] = field(default_factory=list)
    """The first refusals."""
    files: dict[str, WrittenFiles] = field(default_factory=dict)
    """By split; a split without documents has none."""


def document_key(identity: str) -> int:
    """64 bits of a document's id, or of its text where it has no id."""
    return int.from_bytes(hashlib.blake2b(identity.encode("utf-8"), digest_size=8).digest(), "big")


def split_of(key: int, validation_share: float) -> str:
    """The split a document belongs to, whatever else is in the corpus."""
    return VALIDATION if key < int(validation_share * 2**64) else TRAIN


def make_shard(job: ShardJob) -> ShardRecord:
    """The shard's record: of the files that stand if they are as it says, else of files written now."""
    record_path = _record_path(job, ".json")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no record, or one that a crash has torn
        record = read_record(record_path)
        if _stands(record, job.folder) and _record_path(job, ".npy").is_file():
            return record
    record = _write_shard(job)
    atomic_write_json(record_path, dataclasses.asdict(record))
    return record


def read_record(path: Path) -> ShardRecord:
    """Reads what `make_shard` wrote."""
    value: dict[str, Any] = json.loads(path.read_bytes())
    files = {split: WrittenFiles(**written) for split, written in value.pop("files").items()}
    return ShardRecord(**value, files=files)


def _stands(record: ShardRecord, folder: Path) -> bool:
    return all(
        path.is_file() and sha256_file(path) == sha256
        for written in record.files.values()
        for path, sha256 in (
            (with_suffix(folder / written.name, ".bin"), written.bin_sha256),
            (with_suffix(folder / written.name, ".idx"), written.idx_sha256),
        )
    )


def _record_path(job: ShardJob, ending: str) -> Path:
    return job.folder / RECORDS / f"{job.plan.number:05d}{ending}"


def _write_shard(job: ShardJob) -> ShardRecord:
    tokenizer = _tokenizer(job.tokenizer)
    record = ShardRecord(job.plan.number)
    keys, places = array("Q"), array("Q")
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                indexed_writer(job.folder / f"{name}-{job.plan.number:05d}", tokenizer.vocab_size)
            )
            for split, name in NAME_OF_SPLIT.items()
            if split == TRAIN or job.config.validation_share
        }
        for batch in _batches(job, record):
            batch_keys = array("Q", (document_key(_identity(document)) for _, document in batch))
            keys.extend(batch_keys)
            places.extend(file << FILE_BITS | document.line for file, document in batch)
            _add(writers, batch, batch_keys, tokenizer, job)
        record.empty = sum(writer.num_empty for writer in writers.values())
        for split, writer in writers.items():
            if writer.num_documents:
                counts = writer.finish()
                record.files[split] = WrittenFiles(
                    writer.prefix.name,
                    counts.num_documents,
                    counts.num_tokens,
                    writer.sha256[".bin"],
                    writer.sha256[".idx"],
                )
    _write_keys(_record_path(job, ".npy"), keys, places)
    return record


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> Tokenizer:
    """Loaded once in each process."""
    return load_tokenizer(folder)


@functools.lru_cache(maxsize=1)
def _held_out(sources: tuple[Path, ...], settings: str) -> HeldOut:
    """Read once in each process."""
    return HeldOut(sources, HeldOutConfig.model_validate_json(settings))


def _identity(document: TextDocument) -> str:
    return document.text if document.id is None else document.id


def _batches(job: ShardJob, record: ShardRecord) -> Iterator[list[tuple[int, TextDocument]]]:
    """Documents with the numbers of their files; refusals go into the record."""
    config = job.config
    sources = job.held_out
    held_out = _held_out(sources.paths, sources.config.model_dump_json()) if sources is not None else None
    batch: list[tuple[int, TextDocument]] = []
    characters = 0
    for number, piece in job.plan.pieces:
        for document in read_texts(piece, config.text_key, config.id_key, config.max_document_mib * MIB):
            record.rows += 1
            if isinstance(document, str):
                record.refused += 1
                record.messages += [document][: KEPT_MESSAGES - len(record.messages)]
                continue
            near = held_out.reason_for(document.id, document.text) if held_out is not None else None
            if near is not None:
                record.held_out[near] = record.held_out.get(near, 0) + 1
                continue
            record.without_id += document.id is None
            batch.append((number, document))
            characters += len(document.text)
            if len(batch) >= MAX_DOCUMENTS or characters >= MAX_CHARACTERS:
                yield batch
                batch, characters = [], 0
    if batch:
        yield batch


def _add(
    writers: dict[str, IndexedWriter],
    batch: Sequence[tuple[int, TextDocument]],
    keys: Sequence[int],
    tokenizer: Tokenizer,
    job: ShardJob,
) -> None:
    documents = tokenizer.encode_batch([document.text for _, document in batch])
    if job.config.end_token:
        for ids in documents:
            if ids:
                ids.append(tokenizer.eos_id)
    splits = [split_of(key, job.config.validation_share) for key in keys]
    try:
        for split, writer in writers.items():
            writer.add([ids for ids, own in zip(documents, splits, strict=True) if own == split])
    except DataError as error:
        paths = {number: piece.path for number, piece in job.plan.pieces}
        for ids, (number, document) in zip(documents, batch, strict=True):
            if ids and not (min(ids) >= 0 and max(ids) < tokenizer.vocab_size):
                raise DataError(
                    f"{paths[number]}:{document.line}: the tokenizer gives ids from {min(ids)} to {max(ids)}, outside "
                    f"its own 0..{tokenizer.vocab_size - 1}; its files do not belong together"
                ) from error
        raise


def _write_keys(path: Path, keys: array[int], places: array[int]) -> None:
    """Keys [n] and places [n] as one array [2, n] in the order of the keys."""
    table = np.stack([np.frombuffer(keys, dtype=np.uint64), np.frombuffer(places, dtype=np.uint64)])
    order = np.argsort(table[0], kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_reported(path):
        np.save(path, table[:, order], allow_pickle=False)
