"""A corpus of any size as shards of token ids: scan, shards over processes, one description.

What makes the result: the files, the settings and the tokenizer. Neither the number of processes nor an interruption
shows in a byte of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import Progress, get_logger
from megatron_redone.curation.held_out import HeldOutSources
from megatron_redone.curation.tokens.config import TokenizeConfig
from megatron_redone.curation.tokens.duplicates import count_duplicates
from megatron_redone.curation.tokens.plan import MIB, ScanJob, plan_shards, run_scan
from megatron_redone.curation.tokens.pool import run_jobs
from megatron_redone.curation.tokens.shard import NAME_OF_SPLIT, RECORDS, ShardJob, ShardRecord, make_shard
from megatron_redone.data.text_files import TextFile, corpus_files, undivided_warning
from megatron_redone.data.token_folder import FORMAT_VERSION, TOKENS_FILE
from megatron_redone.data.tokenizer import Tokenizer, load_tokenizer

LOG = get_logger("curation")
SHOWN_MESSAGES = 5


@dataclass(frozen=True)
class Tokenized:
    """What `tokenize` did.

    Attributes:
        counts: documents, tokens and the like, for a manifest.
        refused: `file:line: reason` of the first refused rows of each shard.
    """

    counts: dict[str, int]
    refused: tuple[str, ...]


def tokenize(
    config: TokenizeConfig,
    corpus: Path,
    tokenizer_folder: Path,
    out: Path,
    max_refused_share: float,
    name: str,
    held_out: HeldOutSources | None = None,
) -> Tokenized:
    """Writes `corpus-NNNNN` and `validation-NNNNN` (.bin and .idx) and `tokens.json` into `out`.

    Shards that an interrupted call left in `out`, made of the same inputs and settings, are checked by their hashes
    and kept.

    Args:
        corpus: a JSONL file, plain or gzipped, or a folder of them (`corpus_files` says which count).
        max_refused_share: of the rows; an empty file counts as one refused row.
        name: what progress and errors call the work.
        held_out: documents that stand in these files are left out and counted.

    Raises:
        DataError: a damaged file, more refused rows than allowed, or no document left.
        Interrupted: a stop was asked for.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    paths = corpus_files(corpus)
    files = _scanned(paths, config, name)
    empty = [f"{file.path}: an empty file; remove it, or copy it again" for file in files if not file.num_bytes]
    plans = plan_shards(files, config.shard_mib * MIB)
    sizes = {file.path: file.num_bytes for file in files}
    if warning := undivided_warning(sizes, len(plans), config.workers, config.shard_mib * MIB):
        LOG.warning("%s: %s", name, warning)
    jobs = [ShardJob(plan, out, tokenizer_folder, config, held_out) for plan in plans]
    num_lines = sum(file.num_lines for file in files) + len(empty)
    records: list[ShardRecord] = []
    with Progress(name, max(1, sum(plan.num_bytes for plan in plans) // MIB), "MiB") as progress:
        for record in run_jobs(make_shard, jobs, config.workers, name):
            records.append(record)
            _check_refused(records, empty, num_lines, max_refused_share, corpus)
            tokens = sum(written.tokens for one in records for written in one.files.values())
            progress.advance(plans[record.number].num_bytes // MIB, {"tokens": tokens})
    records.sort(key=lambda record: record.number)
    _check_refused(records, empty, sum(one.rows for one in records) + len(empty), max_refused_share, corpus)
    tables = [out / RECORDS / f"{plan.number:05d}.npy" for plan in plans]
    duplicates, shown = count_duplicates(tables, paths)
    counts = _counts(records, files, len(empty), duplicates)
    if not counts["documents"]:
        raise DataError(f"{corpus}: no tokens to write ({counts['empty_documents']} empty documents); check the input")
    description = _description(config, tokenizer, files, records, counts)
    atomic_write_json(out / TOKENS_FILE, {**description, "first_duplicate_ids": shown})
    shutil.rmtree(out / RECORDS)
    for left in out.glob(".*.tmp"):  # of a process that was killed
        left.unlink()
    return Tokenized(counts, (*empty, *(message for record in records for message in record.messages)))


def _scanned(paths: Sequence[Path], config: TokenizeConfig, name: str) -> list[TextFile]:
    jobs = [ScanJob(path, config.shard_mib * MIB) for path in paths]
    by_path = {file.path: file for file in run_jobs(run_scan, jobs, config.workers, f"{name}: reading files")}
    return [by_path[path] for path in paths]


def _check_refused(
    records: Sequence[ShardRecord], empty: Sequence[str], num_rows: int, max_refused_share: float, corpus: Path
) -> None:
    refused = sum(record.refused for record in records) + len(empty)
    if refused > max_refused_share * num_rows:
        messages = [*empty, *(message for record in records for message in record.messages)]
        shown = "\n".join(f"  {line}" for line in messages[:SHOWN_MESSAGES])
        raise DataError(
            f"{corpus}: {refused} of {num_rows} rows refused, but at most {max_refused_share:.0%} may be; correct the "
            f"files, or raise max_refused_share; first problems:\n{shown}"
        )


def _counts(
    records: Sequence[ShardRecord], files: Sequence[TextFile], num_empty_files: int, duplicates: int
) -> dict[str, int]:
    by_split = {split: [record.files[split] for record in records if split in record.files] for split in NAME_OF_SPLIT}
    return {
        "documents": sum(written.documents for written in by_split["train"]),
        "tokens": sum(written.tokens for written in by_split["train"]),
        "validation_documents": sum(written.documents for written in by_split["validation"]),
        "validation_tokens": sum(written.tokens for written in by_split["validation"]),
        "shards": len(records),
        "files": len(files),
        "text_bytes": sum(file.num_bytes for file in files),
        "rows": sum(record.rows for record in records),
        "rows_refused": sum(record.refused for record in records) + num_empty_files,
        "empty_documents": sum(record.empty for record in records),
        "documents_without_id": sum(record.without_id for record in records),
        "duplicate_ids": duplicates,
        "held_out/id": sum(record.held_out.get("id", 0) for record in records),
        "held_out/ngrams": sum(record.held_out.get("ngrams", 0) for record in records),
    }


def _description(
    config: TokenizeConfig,
    tokenizer: Tokenizer,
    files: Sequence[TextFile],
    records: Sequence[ShardRecord],
    counts: dict[str, int],
) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "tokenizer": {
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "end_token_id": tokenizer.eos_id,
        },
        "end_token_stored": config.end_token,
        "validation_share": config.validation_share,
        "inputs": [
            {"file": file.path.name, "bytes": file.num_bytes, "lines": file.num_lines, "sha256": file.sha256}
            for file in files
        ],
        "splits": {
            split: {"shards": [_shard(record, split) for record in records if split in record.files]}
            for split in NAME_OF_SPLIT
        },
        "counts": counts,
    }


def _shard(record: ShardRecord, split: str) -> dict[str, Any]:
    written = record.files[split]
    return {
        "name": written.name,
        "documents": written.documents,
        "tokens": written.tokens,
        "bin_sha256": written.bin_sha256,
        "idx_sha256": written.idx_sha256,
    }
