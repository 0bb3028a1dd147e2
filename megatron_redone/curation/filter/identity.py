"""Exact duplicates, and ids that stand for two texts: by sorted hashes on disk, one range of hashes at a time.

datatrove has exact deduplication too; this looks at ids beside texts, and merges arrays instead of single signatures.
Memory of a task that compares: 24 bytes a document, divided by the number of ranges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RECORD = np.dtype([("key", "<u8"), ("other", "<u8"), ("shard", "<u4"), ("index", "<u4")])
"""A document: the hash that decides, another hash, and where it stands."""
Records = npt.NDArray[Any]


def hash_text(text: str) -> int:
    """64 bits of BLAKE2b: of a thousand million texts, two meet by accident with a probability of 3%."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def write_records(path: Path, keys: Sequence[int], others: Sequence[int], shard: int) -> None:
    """The documents of a shard, sorted by key."""
    records = np.zeros(len(keys), RECORD)
    records["key"], records["other"], records["shard"] = keys, others, shard
    records["index"] = np.arange(len(keys))
    save(path, records[np.argsort(records["key"], kind="stable")])


def records_in_range(folder: Path, part: int, num_parts: int) -> Records:
    """The records of all shards whose key lies in the part-th range of keys, by (key, shard, index)."""
    low = part * 2**64 // num_parts
    high = (part + 1) * 2**64 // num_parts
    found = []
    for path in sorted(folder.glob("*.npy")):
        shard = np.load(path, mmap_mode="r")
        keys = np.ascontiguousarray(shard["key"]) if len(shard) else np.zeros(0, np.uint64)
        start = np.searchsorted(keys, np.uint64(low))
        stop = len(keys) if high == 2**64 else np.searchsorted(keys, np.uint64(high))
        found.append(np.array(shard[start:stop]))
    records = np.concatenate(found) if found else np.zeros(0, RECORD)
    ordered: Records = records[np.lexsort((records["index"], records["shard"], records["key"]))]
    return ordered


def later_of_same_key(records: Records, different_only: bool) -> Records:
    """Records whose key stood before; with `different_only` those alone whose `other` is not that of the first."""
    if not len(records):
        return records
    first = np.concatenate([[True], records["key"][1:] != records["key"][:-1]])
    later = ~first
    if different_only:
        later &= (
            records["other"] != records["other"][np.maximum.accumulate(np.where(first, np.arange(len(records)), 0))]
        )
    found: Records = records[later]
    return found


def write_places(path: Path, records: Records, num_shards: int) -> None:
    """Places of documents, as the indices of each shard one after the other, and where each shard's begin."""
    ordered = records[np.lexsort((records["index"], records["shard"]))]
    starts = np.searchsorted(ordered["shard"], np.arange(num_shards + 1))
    save(path.with_suffix(".starts.npy"), starts.astype(np.int64))
    save(path.with_suffix(".index.npy"), np.ascontiguousarray(ordered["index"]))


def read_places(folder: Path, shard: int) -> npt.NDArray[np.uint32]:
    """Sorted indices of one shard that any file of the folder names."""
    found = [np.zeros(0, np.uint32)]
    for path in sorted(folder.glob("*.starts.npy")):
        starts = np.load(path, mmap_mode="r")
        indices = np.load(path.with_name(path.name.replace(".starts.", ".index.")), mmap_mode="r")
        found.append(np.array(indices[starts[shard] : starts[shard + 1]]))
    return np.sort(np.concatenate(found))


def without_places(records: Records, folder: Path, num_shards: int) -> Records:
    """The records that no file of the folder names."""
    if not len(records):
        return records
    named = np.concatenate(
        [np.zeros(0, np.uint64), *(_place_keys(shard, read_places(folder, shard)) for shard in range(num_shards))]
    )
    own = records["shard"].astype(np.uint64) << np.uint64(32) | records["index"].astype(np.uint64)
    kept: Records = records[~np.isin(own, named)]
    return kept


def _place_keys(shard: int, indices: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    return np.uint64(shard << 32) | indices.astype(np.uint64)


def save(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Writes an array so that a kill leaves no part of it under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    temporary.replace(path)
