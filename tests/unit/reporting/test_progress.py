from __future__ import annotations

import json
import os
from pathlib import Path

from megatron_redone.common.files import atomic_write_json, atomic_write_text
from megatron_redone.reporting.progress import hang_in, slow_rank, stage_progress


def timing(run: Path, name: str, rows: list[dict[str, object]]) -> None:
    atomic_write_text(run / ".work" / name / "timing.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + '{"st')


def test_the_last_step_and_its_pace(tmp_path: Path) -> None:
    timing(tmp_path, "sft", [{"step": 0, "seconds": 9.0}, {"step": 1, "seconds": 1.0}, {"step": 2, "seconds": 1.0}])
    (stage,) = stage_progress(tmp_path, "sft")
    assert (stage.done, stage.last_step, stage.seconds_per_step, stage.slow, stage.hang) == (False, 3, 1.0, None, None)


def test_each_seed_is_a_run_and_other_stages_are_none(tmp_path: Path) -> None:
    for name in ("explore.seed1", "explore.seed2", "explore_set"):
        timing(tmp_path, name, [{"step": 4, "seconds": 1.0}])
    atomic_write_json(tmp_path / "explore.seed3" / "manifest.json", {"counts": {"steps": 12}})
    found = stage_progress(tmp_path, "explore")
    assert [(stage.folder.name, stage.done, stage.last_step) for stage in found] == [
        ("explore.seed1", False, 5),
        ("explore.seed2", False, 5),
        ("explore.seed3", True, 12),
    ]


def test_a_slow_rank_is_named_and_an_even_one_is_not() -> None:
    slow = slow_rank([{"probe_ms_by_rank": [1.0, 1.0, 9.0, 1.0]}, {"probe_ms_by_rank": [1.0, 2.0, 1.0, 1.0]}, {}])
    assert slow is not None and (slow.rank, slow.slowdown) == (1, 2.0)
    assert slow_rank([{"probe_ms_by_rank": [1.0, 1.2, 1.0, 1.0]}]) is None
    assert slow_rank([]) is None


def stacks(folder: Path, **said: str) -> Path:
    for rank, sentence in said.items():
        atomic_write_text(folder / f"rank-{rank[1:]}.txt", f"rank {rank[1:]} {sentence}\n\nThread 0x1\n")
    return folder


def test_a_rank_without_a_stack_is_the_one_that_stopped(tmp_path: Path) -> None:
    hang = hang_in(stacks(tmp_path, r0="waits in all_reduce, called from a", r2="waits in all_reduce, called from a"))
    assert hang is not None and hang.suspects == (1,)
    last = hang_in(tmp_path, num_ranks=4)
    assert last is not None and last.suspects == (1, 3)


def test_a_rank_outside_the_collective_is_the_one_that_stopped(tmp_path: Path) -> None:
    hang = hang_in(stacks(tmp_path, r0="waits in all_reduce, called from a", r1="is in read_rows (rows.py:7)"))
    assert hang is not None and hang.suspects == (1,)
    assert hang.said[1] == "rank 1 is in read_rows (rows.py:7)"
    assert hang.stacks[1].name == "rank-1.txt"


def test_stacks_of_an_earlier_attempt_are_left_out(tmp_path: Path) -> None:
    folder = stacks(tmp_path, r0="is in a")
    os.utime(folder / "rank-0.txt", (1000.0, 1000.0))
    assert hang_in(folder, since=2000.0) is None
    assert hang_in(tmp_path / "absent") is None
