from __future__ import annotations

from megatron_redone.benchmarks.sandbox import measure_sandbox


def test_every_measurement_has_a_row(sandbox_backend: str) -> None:
    rows = measure_sandbox(4)
    assert [(row["what"], row["workers"]) for row in rows] == [
        ("cold start", 1), ("pooled", 1), ("programs", 1), ("unit tests", 1), ("programs", 2), ("unit tests", 2),
    ]  # fmt: skip
    assert {row["backend"] for row in rows} == {sandbox_backend}
    for row in rows:
        low, high = row.get("quartile_ms", (1.0, 1.0))
        assert 0 < low <= row.get("median_ms", 1.0) <= high and row.get("programs_per_second", 1.0) > 0
