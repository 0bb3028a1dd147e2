from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.data.text_files import undivided_warning

PLAIN, PACKED, SMALL = Path("a.jsonl"), Path("b.jsonl.gz"), Path("c.jsonl.gz")


@pytest.mark.parametrize(
    ("sizes", "num_tasks", "workers", "warns"),
    [
        ({PACKED: 1000}, 1, 4, True),
        ({PACKED: 1000}, 1, 1, False),  # one worker has nothing to share
        ({SMALL: 90}, 1, 4, False),  # one task would do in any form
        ({PLAIN: 1000}, 10, 16, False),  # small pieces are asked for by `task_bytes`
        ({PLAIN: 1000, PACKED: 1000}, 11, 16, True),
        ({PLAIN: 1000, PACKED: 1000}, 11, 8, False),
    ],
)
def test_workers_without_a_task_are_told_why(sizes: dict[Path, int], num_tasks: int, workers: int, warns: bool) -> None:
    warning = undivided_warning(sizes, num_tasks, workers, task_bytes=100)
    assert (warning is not None) == warns
    if warning:
        assert f"{workers} workers, but only {num_tasks} tasks" in warning and "b.jsonl.gz" in warning
        assert "unpack it, or split it" in warning
