"""How fast the sandbox is: a first program, programs in ready boxes, programs a second, unit tests a second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from megatron_redone.scoring.sandbox.boxes import BoxServer
from megatron_redone.scoring.sandbox.limits import Limits
from megatron_redone.scoring.sandbox.pool import Program, Sandbox, TestedProgram, choose_backend

PROGRAM = """
import math, sys
given = [int(word) for word in sys.stdin.read().split()]
print(sum(given), math.prod(given))
"""
STDIN, STDOUT = b"2 3 5 7", "17 210\n"
TESTED = TestedProgram(
    "def digits(n):\n    return [int(c) for c in str(n)]\n",
    ["assert digits(407) == [4, 0, 7]", "assert digits(0) == [0]"],
    entry_point="digits",
)
COLD_STARTS = 5


def measure_sandbox(num_programs: int) -> list[dict[str, Any]]:
    """One row a measurement, of the backend that is chosen on this machine.

    Each row has `what`, `backend`, `workers`, `num_programs`; latencies have `median_ms` and `quartile_ms` (first and
    third), rates `programs_per_second`. Latencies are of one program after another; "cold start" starts a
    server for each, "pooled" sends it to a box that is ready. A rate counts from the first program to the last result.

    Raises:
        SandboxUnavailableError: no backend is safe here.
        RuntimeError: a program gave another result than it must: the figures would mean nothing.
    """
    backend, limits = choose_backend(), Limits(wall_seconds=30.0)
    rows = [_latency("cold start", backend, [_cold_seconds(backend, limits) for _ in range(COLD_STARTS)])]
    server = BoxServer(backend, limits)
    try:
        _run_one(server)
        rows.append(_latency("pooled", backend, [_seconds(lambda: _run_one(server)) for _ in range(num_programs)]))
    finally:
        server.close()
    for workers in (1, 2):
        with Sandbox(backend, limits, workers) as sandbox:
            rows.append(_rate("programs", sandbox, num_programs, _run_many))
            rows.append(_rate("unit tests", sandbox, num_programs, _test_many))
    return rows


def _run_one(server: BoxServer) -> None:
    result = server.run(PROGRAM, STDIN)
    if result.stdout != STDOUT:
        raise RuntimeError(f"a program of the measurement gave {result}")


def _cold_seconds(backend: str, limits: Limits) -> float:
    start = time.monotonic()
    server = BoxServer(backend, limits, num_ready=1)
    try:
        _run_one(server)
        return time.monotonic() - start
    finally:
        server.close()


def _run_many(sandbox: Sandbox, count: int) -> None:
    if {result.stdout for result in sandbox.run_many([Program(PROGRAM, STDIN)] * count)} != {STDOUT}:
        raise RuntimeError("a program of the measurement gave another output")


def _test_many(sandbox: Sandbox, count: int) -> None:
    failed = [verdict.reason for verdict in sandbox.test_many([TESTED] * count) if not verdict.passed]
    if failed:
        raise RuntimeError(f"a program of the measurement failed its tests: {failed[0]}")


def _seconds(run: Callable[[], None]) -> float:
    start = time.monotonic()
    run()
    return time.monotonic() - start


def _latency(what: str, backend: str, seconds: list[float]) -> dict[str, Any]:
    quartiles = statistics.quantiles(seconds, n=4)
    return {
        "what": what,
        "backend": backend,
        "workers": 1,
        "num_programs": len(seconds),
        "median_ms": round(1000 * statistics.median(seconds), 2),
        "quartile_ms": [round(1000 * quartiles[0], 2), round(1000 * quartiles[2], 2)],
    }


def _rate(what: str, sandbox: Sandbox, count: int, run: Callable[[Sandbox, int], None]) -> dict[str, Any]:
    run(sandbox, sandbox.workers)  # the servers start
    seconds = _seconds(lambda: run(sandbox, count))
    return {
        "what": what,
        "backend": sandbox.backend,
        "workers": sandbox.workers,
        "num_programs": count,
        "programs_per_second": round(count / seconds, 1),
    }
