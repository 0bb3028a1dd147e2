"""Peak memory and speed of each pass of `redone curate filter` on a folder of documents.

    python tools/measure_filter.py DOCUMENTS OUT.json --work FOLDER [--workers 2] [--shard-mib 64]

Rules, exact duplicates and near duplicates run with default settings. Memory is the largest sum of proportional set
sizes (pages that processes share are counted once) of this process and its workers, seen ten times a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from megatron_redone.curation.filter.config import ExecutorConfig, FilterConfig
from megatron_redone.curation.filter.executors import run_locally
from megatron_redone.curation.filter.passes import Inputs, plan_passes
from megatron_redone.curation.filter.pieces import plan_tasks

SECONDS_BETWEEN_LOOKS = 0.1


def resident_mib() -> float:
    """Memory of this process and everything it started, in MiB."""
    total = 0
    here = psutil.Process()
    for process in [here, *here.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total / 2**20


@contextlib.contextmanager
def peak() -> Iterator[list[float]]:
    """A list of one number: the largest `resident_mib` so far."""
    seen, done = [resident_mib()], threading.Event()

    def look() -> None:
        while not done.wait(SECONDS_BETWEEN_LOOKS):
            seen[0] = max(seen[0], resident_mib())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Writes one record: settings, and for each pass seconds and peak MiB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--shard-mib", type=int, default=64)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    pieces = plan_tasks([arguments.documents.resolve()], arguments.shard_mib << 20)
    config = FilterConfig(executor=ExecutorConfig(workers=arguments.workers))
    inputs = Inputs(pieces, (arguments.work / "kept").resolve())
    passes = plan_passes(config, inputs, arguments.work.resolve(), 0)
    found: dict[str, dict[str, float]] = {}
    with peak() as seen:
        began = [time.monotonic()]

        def after(done: object) -> None:
            name = done.name  # type: ignore[attr-defined]
            found[name] = {"seconds": round(time.monotonic() - began[0], 2), "peak_mib": round(seen[0], 1)}
            print(name, found[name], flush=True)
            began[0], seen[0] = time.monotonic(), resident_mib()

        run_locally(passes, arguments.work, config.executor, lambda: None, after)
    documents = json.loads((arguments.documents / "planted.json").read_text(encoding="utf-8"))
    record = {
        "mib": sum(path.stat().st_size for path in arguments.documents.glob("*.jsonl")) >> 20,
        "documents": sum(documents.values()),
        "workers": arguments.workers,
        "tasks": len(pieces),
        "kept": sum(path.stat().st_size for path in (arguments.work / "kept").glob("*.gz")) >> 20,
        "passes": found,
    }
    arguments.out.write_text(json.dumps(record, indent=1), encoding="utf-8")
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
