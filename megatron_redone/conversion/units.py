"""Work in units: done by several processes, kept over a kill, shown with its rate.

A conversion is cut into units that write files of their own, or stretches of files. A finished unit leaves a record
with the checksums of what it wrote; a conversion that is started again checks these and does the rest.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.checkpoint.safetensors_stream import Stretch
from megatron_redone.common.errors import DiskFullError, RedoneError
from megatron_redone.common.files import atomic_write_json, sha256_file
from megatron_redone.common.logging import Progress, get_logger
from megatron_redone.launch.processes import end_with_parent

RECORDS = "units"
PLAN = "plan.json"
MIB = 2**20
Record = dict[str, Any]
"""What a unit leaves: `files` (name -> SHA-256) or `stretches` (name -> fields of a `Stretch`), and whatever the
conversion needs of it at the end."""


@dataclass(frozen=True)
class Unit:
    """A piece of work."""

    number: int
    rows: tuple[int, ...]
    """Rows of the parameter table, by their place in it."""
    num_bytes: int
    """Bytes it writes, about."""


def units_of(sizes: Sequence[int], limit: int, group_of: Callable[[int], int]) -> list[Unit]:
    """Rows in order, gathered to units of at most `limit` bytes (one row may be more), each within one group."""
    groups: dict[int, list[int]] = {}
    for row in range(len(sizes)):
        groups.setdefault(group_of(row), []).append(row)
    units: list[Unit] = []
    for _, members in sorted(groups.items()):
        rows: list[int] = []
        num_bytes = 0
        for row in members:
            if rows and num_bytes + sizes[row] > limit:
                units.append(Unit(len(units), tuple(rows), num_bytes))
                rows, num_bytes = [], 0
            rows.append(row)
            num_bytes += sizes[row]
        units.append(Unit(len(units), tuple(rows), num_bytes))
    return units


def open_work(folder: Path, plan: Record) -> None:
    """Makes the work folder, or keeps what an interrupted conversion of the same plan left in it."""
    path = folder / RECORDS / PLAN
    if path.is_file() and json.loads(path.read_text()) == json.loads(json.dumps(plan)):
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / RECORDS).mkdir(parents=True)
    atomic_write_json(path, plan)


def run_units(
    units: Sequence[Unit], work: Callable[[Unit, Path], Record], folder: Path, processes: int, name: str
) -> list[Record]:
    """Does every unit that is not done, and gives the records of all in order.

    Args:
        work: does one unit in the folder; a picklable function when there are several processes.
        processes: how many work at once.
        name: what the progress calls the conversion.
    Raises:
        DiskFullError: less is free than is still to be written. Whatever `work` raises; finished units stay.
    """
    records = {unit.number: record for unit in units if (record := _kept(folder, unit)) is not None}
    left = [unit for unit in units if unit.number not in records]
    check_space(folder, sum(unit.num_bytes for unit in left))
    if records:
        get_logger("convert").info("%s: %d of %d parts are done already, checked", name, len(records), len(units))
    for unit, record in each_done(left, work, folder, processes, name, sum(unit.num_bytes for unit in units)):
        atomic_write_json(folder / RECORDS / f"{unit.number:05d}.json", record)
        records[unit.number] = json.loads(json.dumps(record))  # as read: a kill changes no byte
    return [records[unit.number] for unit in units]


def close_work(folder: Path) -> None:
    """Removes the records, before the folder gets its name."""
    shutil.rmtree(folder / RECORDS)


def _kept(folder: Path, unit: Unit) -> Record | None:
    """The record of a unit that is done and whose files are unchanged."""
    path = folder / RECORDS / f"{unit.number:05d}.json"
    if not path.is_file():
        return None
    record: Record = json.loads(path.read_text())
    files, stretches = record.get("files", {}), record.get("stretches", {})
    whole = all((folder / name).is_file() and sha256_file(folder / name) == files[name] for name in files)
    return record if whole and all(Stretch(**stretches[name]).stands_in(folder / name) for name in stretches) else None


def check_space(folder: Path, needed: int) -> None:
    """Raises DiskFullError when less than `needed` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"{folder.parent}: {needed / MIB:,.0f} MiB are still to be written and {free / MIB:,.0f} MiB are free; "
            "free space, or write to another disk. What is done stays for the next start."
        )


def each_done(
    units: Sequence[Unit],
    work: Callable[[Unit, Path], Record],
    folder: Path,
    processes: int,
    name: str,
    total_bytes: int,
) -> Iterator[tuple[Unit, Record]]:
    """The units with what `work` gave, as they get done, under a progress bar of `total_bytes`."""
    done = total_bytes - sum(unit.num_bytes for unit in units)
    with contextlib.ExitStack() as stack:
        results = _results(units, work, folder, processes, stack)
        progress = stack.enter_context(Progress(name, max(1, total_bytes // MIB), "MiB"))
        progress.start_at(done // MIB)
        for unit, record in results:
            yield unit, record
            done += unit.num_bytes
            progress.advance(done // MIB - progress.done)


def _results(
    units: Sequence[Unit],
    work: Callable[[Unit, Path], Record],
    folder: Path,
    processes: int,
    stack: contextlib.ExitStack,
) -> Iterator[tuple[Unit, Record]]:
    """What `work` gives, in the order in which it gets done; processes are started here and end with the stack."""
    if processes == 1 or len(units) < 2:
        return ((unit, work(unit, folder)) for unit in units)
    # A forked process has all modules already, where a new one takes seconds to import torch; with other threads about
    # (a lock that one of them holds would stay locked) new ones are started all the same.
    context = multiprocessing.get_context("fork" if threading.active_count() == 1 else "spawn")
    pool = ProcessPoolExecutor(min(processes, len(units)), context, _start, (os.getpid(),))
    stack.enter_context(pool)
    futures = {pool.submit(work, unit, folder): unit for unit in units}
    return _as_completed(futures)


def _as_completed(futures: Mapping[Future[Record], Unit]) -> Iterator[tuple[Unit, Record]]:
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise RedoneError(
            "a process of the conversion was ended from outside (memory?); start the same command again: finished "
            "parts are kept; --processes 1 needs least memory"
        ) from error
    finally:
        for future in futures:
            future.cancel()


def _start(parent: int) -> None:
    """First call in each process: one thread, and its end with the parent's."""
    import torch

    end_with_parent(parent)
    torch.set_num_threads(1)
