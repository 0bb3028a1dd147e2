from __future__ import annotations

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.launch.environment import (
    LaunchEnvironment,
    available_cores,
    default_threads,
    from_environ,
)

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node-1",
    "MASTER_PORT": "29501",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "OMP_NUM_THREADS": "3",
}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "20123",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_NTASKS": "16",
    "SLURM_STEP_NUM_TASKS": "10",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),2",
    "SLURM_RESTART_COUNT": "1",
    "MASTER_ADDR": "node-1",
    "OMP_NUM_THREADS": "6",
}


def problems_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(InputError) as caught:
        from_environ(environ)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


def test_no_variables_mean_a_single_process() -> None:
    expected = LaunchEnvironment(0, 0, 1, 1, "127.0.0.1", 0, 0, available_cores())
    assert from_environ({}) == expected
    assert expected.is_main


def test_variables_of_torchrun() -> None:
    expected = LaunchEnvironment(5, 1, 8, 4, "node-1", 29501, 2, 3)
    assert from_environ(TORCHRUN) == expected
    assert from_environ({**SLURM, **TORCHRUN}) == expected
    assert not expected.is_main


def test_torchruns_own_store_is_used() -> None:
    assert not from_environ({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "False"}).store_is_served
    served = from_environ({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert served.store_is_served and served.rendezvous()["store_is_served"]


def test_variables_of_a_slurm_step() -> None:
    assert from_environ(SLURM) == LaunchEnvironment(9, 1, 10, 2, "node-1", 20123, 1, 6)
    assert from_environ({**SLURM, "MASTER_PORT": "1234"}).master_port == 1234


def test_a_slurm_step_on_one_node_needs_no_address() -> None:
    one_node = {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "10", "SLURM_NODEID": "0"}
    environ = {**SLURM, **one_node, "SLURM_LOCALID": "9"}
    del environ["MASTER_ADDR"]
    assert from_environ(environ) == LaunchEnvironment(9, 9, 10, 10, "127.0.0.1", 20123, 1, 6)


def test_a_batch_script_itself_is_a_single_process() -> None:
    script = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}
    assert from_environ(script).world_size == 1


def test_all_problems_are_listed() -> None:
    environ = {"RANK": "-1", "WORLD_SIZE": "two", "LOCAL_WORLD_SIZE": "0", "MASTER_PORT": "70000"}
    start = "start with torchrun or --nproc, or unset RANK and WORLD_SIZE for a single process"
    assert problems_of(environ) == [
        f"WORLD_SIZE='two' must be a whole number of at least 1; {start}",
        f"LOCAL_WORLD_SIZE='0' must be a whole number of at least 1; {start}",
        f"RANK='-1' must be a whole number of at least 0; {start}",
        f"LOCAL_RANK is not set; {start}",
        f"MASTER_ADDR is not set; {start}",
        "MASTER_PORT=70000 must be at most 65535; name a free port",
    ]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({**TORCHRUN, "RANK": "8"}, "rank 8 of 8 processes: must be less"),
        ({**TORCHRUN, "LOCAL_RANK": "4"}, "local rank 4 of 4 processes: must be less"),
        ({**SLURM, "MASTER_ADDR": ""}, "MASTER_ADDR is not set; export the address of the first node"),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "4(2"}, "SLURM_STEP_TASKS_PER_NODE='4(2' is no list such as"),
        (
            {"OMP_NUM_THREADS": "many"},
            "OMP_NUM_THREADS='many' must be a whole number of at least 1; set it to",
        ),
    ],
)
def test_contradictions_are_refused(environ: dict[str, str], expected: str) -> None:
    (problem,) = problems_of(environ)
    assert problem.startswith(expected)


def test_processes_share_the_cores() -> None:
    assert default_threads(1) == available_cores()
    assert default_threads(2) == max(1, available_cores() // 2)
    assert default_threads(10_000) == 1
