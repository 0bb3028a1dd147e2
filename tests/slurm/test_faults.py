"""What interrupts a job, and that the run ends as if nothing had: every loss and measurement equal in every bit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from megatron_redone.common.files import atomic_write_text
from megatron_redone.launch.slurm.events import failed_nodes
from tests.slurm.cluster import PROFILE, Cluster, events, losses, nodes_by_attempt, steps_done, verdicts

pytestmark = pytest.mark.slurm


def begun(cluster: Cluster, run: Path, steps: int = 12) -> int:
    """Waits until the training has a checkpoint behind it; its steps so far."""
    return int(cluster.wait_for(f"{steps} steps", lambda: max(0, steps_done(run, "pretrain") - steps + 1), run)) + steps


def as_whole(run: Path, whole: Callable[[], Path]) -> bool:
    return losses(run, "pretrain") == losses(whole(), "pretrain")


def signalled(run: Path) -> bool:
    return any(event.words.get("signal") == "USR1" for event in events(run, "pretrain"))


def rank_of(job: str, rank: int) -> psutil.Process:
    """The process of a rank, whatever node it is on."""
    wanted = {"SLURM_JOB_ID": job, "SLURM_PROCID": str(rank)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environ = process.environ()
            if "--only" in process.cmdline() and all(environ.get(name) == value for name, value in wanted.items()):
                return process
    raise AssertionError(f"rank {rank} of job {job} is not there")


def hosts(cluster: Cluster, nodes: str) -> list[str]:
    return cluster.slurm("scontrol", "show", "hostnames", nodes).split()


def test_near_its_time_limit_a_job_checkpoints_and_goes_on(
    cluster: Cluster, whole: Callable[[], Path], pretraining: Path, new_run: Callable[[], Path], tmp_path: Path
) -> None:
    profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    profile["signal_seconds"] = 590
    atomic_write_text(tmp_path / "profile.yaml", yaml.safe_dump(profile))
    run = new_run()
    cluster.submit(run, recipe=pretraining, profile=tmp_path / "profile.yaml")
    begun(cluster, run)
    job = cluster.number(run, "pretrain")
    ranks = [rank_of(job, rank) for rank in range(2)]
    for rank in ranks:  # held while Slurm looks at limits of time, every half minute; else a quick machine is done
        rank.suspend()
    cluster.slurm("scontrol", "update", f"JobId={job}", "TimeLimit=10")  # less 590 s: the signal is due
    cluster.wait_for("the signal", lambda: signalled(run), run)
    for rank in ranks:
        rank.resume()
    cluster.wait_for("the requeue", lambda: "requeued" in verdicts(run, "pretrain"), run)
    cluster.slurm("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    cluster.wait_state(run, "pretrain", "COMPLETED")
    assert verdicts(run, "pretrain") == ["requeued", "done"]
    assert "stopped after step" in cluster.redone("logs", str(run), "--attempt", "0", "--rank", "0")
    assert as_whole(run, whole)


def test_a_killed_node_costs_the_steps_since_the_checkpoint(
    cluster: Cluster, whole: Callable[[], Path], pretraining: Path, new_run: Callable[[], Path]
) -> None:
    run = new_run()
    cluster.submit(run, recipe=pretraining)
    begun(cluster, run)
    _head, other = hosts(cluster, nodes_by_attempt(run, "pretrain")[0])
    try:
        cluster.control("kill-node", other)
        cluster.wait_state(run, "pretrain", "COMPLETED")
        first, second = nodes_by_attempt(run, "pretrain")
        assert other in hosts(cluster, first) and other not in hosts(cluster, second)
        assert verdicts(run, "pretrain")[-1] == "done"
        assert failed_nodes(run / "slurm") == {other: 1}
        assert as_whole(run, whole)
    finally:
        cluster.control("start-node", other)
        cluster.wait_for(f"{other} to be idle", lambda: "idle" in cluster.slurm("sinfo", "-h", "-n", other, "-o", "%T"))


def test_a_cut_cable_costs_the_steps_since_the_checkpoint(
    cluster: Cluster, whole: Callable[[], Path], pretraining: Path, new_run: Callable[[], Path]
) -> None:
    run = new_run()
    cluster.submit(run, recipe=pretraining)
    begun(cluster, run)
    _head, other = hosts(cluster, nodes_by_attempt(run, "pretrain")[0])
    cluster.control("cut", other)
    try:
        cluster.wait_for("a second attempt", lambda: len(nodes_by_attempt(run, "pretrain")) == 2, run)
        assert other not in hosts(cluster, nodes_by_attempt(run, "pretrain")[1])
        cluster.wait_state(run, "pretrain", "COMPLETED")
        assert as_whole(run, whole)
        assert failed_nodes(run / "slurm") == {other: 1}
    finally:
        cluster.control("heal", other)
        cluster.wait_for(f"{other} to be idle", lambda: "idle" in cluster.slurm("sinfo", "-h", "-n", other, "-o", "%T"))


def test_an_operator_may_requeue_a_job(
    cluster: Cluster, whole: Callable[[], Path], pretraining: Path, new_run: Callable[[], Path]
) -> None:
    run = new_run()
    cluster.submit(run, recipe=pretraining)
    begun(cluster, run)
    cluster.slurm("scontrol", "requeue", cluster.number(run, "pretrain"))
    cluster.wait_state(run, "pretrain", "COMPLETED")
    assert verdicts(run, "pretrain") == ["told", "done"]
    assert failed_nodes(run / "slurm") == {}  # nobody is to blame
    assert as_whole(run, whole)


def test_a_node_that_failed_twice_gets_no_more_of_the_run(
    cluster: Cluster, pretraining: Path, new_run: Callable[[], Path]
) -> None:
    run = new_run()
    shamed = "n1"
    (run / "slurm").mkdir()
    lines = [f"2026-01-01T00:00:0{second} {shamed} job=1 attempt={second} code=137\n" for second in range(2)]
    atomic_write_text(run / "slurm" / "failed_nodes.log", "".join(lines))
    cluster.submit(run, recipe=pretraining)
    cluster.wait_for("an attempt elsewhere", lambda: nodes_by_attempt(run, "pretrain"), run)
    assert shamed not in hosts(cluster, nodes_by_attempt(run, "pretrain")[0])
    assert verdicts(run, "pretrain") == ["moved"]
    shown = json.loads(cluster.redone("status", str(run), "--json"))
    assert shown["failed_nodes"] == {shamed: 2}


def test_a_killed_rank_is_a_failure_of_its_node(
    cluster: Cluster, whole: Callable[[], Path], pretraining: Path, new_run: Callable[[], Path]
) -> None:
    run = new_run()
    cluster.submit(run, recipe=pretraining)
    begun(cluster, run)
    _head, other = hosts(cluster, nodes_by_attempt(run, "pretrain")[0])
    rank_of(cluster.number(run, "pretrain"), 1).kill()
    cluster.wait_state(run, "pretrain", "COMPLETED")
    assert verdicts(run, "pretrain") == ["crashed", "done"]
    assert failed_nodes(run / "slurm") == {other: 1}
    assert as_whole(run, whole)


def test_a_rank_that_hangs_is_named_with_its_node(
    cluster: Cluster, whole: Callable[[], Path], pretraining: Path, new_run: Callable[[], Path]
) -> None:
    run = new_run()
    cluster.submit(run, recipe=pretraining)  # watchdog_minutes: 1
    begun(cluster, run)
    _head, other = hosts(cluster, nodes_by_attempt(run, "pretrain")[0])
    rank_of(cluster.number(run, "pretrain"), 1).suspend()
    cluster.wait_for("the watchdog", lambda: "crashed" in verdicts(run, "pretrain"), run)
    shown = json.loads(cluster.redone("status", str(run), "--json"))
    (stage,) = shown["jobs"][0]["stages"]
    assert stage["last_step"] >= 12
    assert stage["stopped"]["ranks"] == [1]
    assert "rank 0 waits in" in stage["stopped"]["said"][0]
    assert "Thread" in Path(stage["stopped"]["stacks"]["0"]).read_text()
    assert failed_nodes(run / "slurm") == {other: 1}
    cluster.wait_state(run, "pretrain", "COMPLETED")
    assert as_whole(run, whole)
