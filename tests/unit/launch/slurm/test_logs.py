from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.launch.slurm.events import failed_nodes, nodes_of, read_events, srun_said, state_of
from megatron_redone.launch.slurm.logs import attempts, merged


def attempt(folder: Path, **logs: str) -> Path:
    path = folder / "attempt-0"
    path.mkdir(parents=True)
    for name, text in logs.items():
        (path / f"{name.replace('_', '-')}.log").write_bytes(text.encode())
    return path


def test_lines_of_all_ranks_stand_in_the_order_of_time(tmp_path: Path) -> None:
    folder = attempt(
        tmp_path,
        rank_0="12:00:01 begin\n12:00:05 end\n",
        rank_1="12:00:03 trouble\nTraceback (most recent call last):\n  here\n12:00:04 more\n",
    )
    assert list(merged(folder)) == [
        "[0] 12:00:01 begin",
        "[1] 12:00:03 trouble",
        "[1] Traceback (most recent call last):",
        "[1]   here",
        "[1] 12:00:04 more",
        "[0] 12:00:05 end",
    ]
    assert list(merged(folder, rank=0)) == ["[0] 12:00:01 begin", "[0] 12:00:05 end"]


def test_midnight_does_not_turn_the_order_round(tmp_path: Path) -> None:
    folder = attempt(tmp_path, rank_0="23:59:59 a\n00:00:02 c\n", rank_1="23:59:58 z\n00:00:01 b\n")
    assert [line[-1] for line in merged(folder)] == ["z", "a", "b", "c"]


def test_a_log_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    folder = attempt(tmp_path, rank_0="12:00:00 \x00\n")
    (folder / "rank-1.log").write_bytes(b"\xff\xfe\n")
    assert len(list(merged(folder))) == 2


def test_a_rank_that_is_not_there(tmp_path: Path) -> None:
    folder = attempt(tmp_path, rank_0="12:00:00 a\n")
    with pytest.raises(InputError, match=r"--rank 7: this attempt has ranks 0 to 0"):
        list(merged(folder, rank=7))
    (folder / "rank-0.log").unlink()
    with pytest.raises(InputError, match=r"no rank has written a log"):
        list(merged(folder))


def test_attempts_are_ordered_by_number(tmp_path: Path) -> None:
    for name in ("attempt-10", "attempt-2", "attempt-x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in attempts(tmp_path)] == ["attempt-2", "attempt-10"]


EVENTS = """2026-01-01T10:00:00 job=7 attempt=0 began nodes=n[1-2]
2026-01-01T10:05:00 job=7 attempt=0 ended code=75 verdict=requeued
broken
2026-01-01T10:06:00 job=7 attempt=1 began nodes=n[2-3]
2026-01-01T10:00:00 job=8 attempt=0 began nodes=n4
"""


def test_what_happened_to_a_job(tmp_path: Path) -> None:
    (tmp_path / "events.log").write_text(EVENTS)
    events = read_events(tmp_path, "7")
    assert [event.verdict for event in events] == ["", "requeued", ""]
    assert (state_of(events), nodes_of(events)) == ("running", "n[2-3]")
    assert state_of(events[:2]) == "requeued"
    assert state_of([]) == "waiting"
    assert read_events(tmp_path / "absent") == []


def test_nodes_that_failed_are_counted(tmp_path: Path) -> None:
    (tmp_path / "failed_nodes.log").write_text("t n1 job=1 lost\nt n2 job=1 lost\nt n1 job=1 code=137\n\n")
    assert failed_nodes(tmp_path) == {"n1": 2, "n2": 1}
    assert failed_nodes(tmp_path / "absent") == {}


def test_what_srun_complained_of(tmp_path: Path) -> None:
    folder = attempt(tmp_path, srun="srun: error: n2: task 3: Killed\nother\nsrun: error: n1: tasks 0-1: Exited\n")
    assert srun_said(folder.parent, 0) == ["n2: task 3: Killed", "n1: tasks 0-1: Exited"]
