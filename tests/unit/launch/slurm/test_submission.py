from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.common.files import atomic_write_text
from megatron_redone.launch.slurm.commands import call, gpus_of
from megatron_redone.launch.slurm.submission import clean_environment, read_jobs
from megatron_redone.launch.threads import MARKER


def test_a_job_inherits_nothing_of_this_process_or_of_a_job_around_it() -> None:
    environ = {
        MARKER: "OMP_NUM_THREADS,PYTHONWARNINGS", "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "x", "PATH": "/bin",
        "SLURM_JOB_ID": "7", "SLURM_CONF": "/c", "SBATCH_PARTITION": "gpu", "WORLD_SIZE": "4", "MKL_NUM_THREADS": "3",
    }  # fmt: skip
    assert clean_environment(environ) == {"PATH": "/bin", "SLURM_CONF": "/c", "MKL_NUM_THREADS": "3"}


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [("(null)", 0), ("gpu:8", 8), ("gpu:h100:8(S:0-1)", 8), ("gpu:a:2,gpu:b:2,shard:10", 4), ("", 0)],
)
def test_gpus_of_a_node(gres: str, gpus: int) -> None:
    assert gpus_of(gres) == gpus


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"sbatch-of-nowhere: no such program; Slurm's commands are found on a login"):
        call("sbatch-of-nowhere")


def test_the_message_of_a_program_that_refuses_is_carried_back() -> None:
    with pytest.raises(InputError, match=r"bash refused: no; not so"):
        call("bash", "-c", "echo no >&2; echo not so >&2; exit 3")


@pytest.mark.parametrize("text", ["", "{}", '{"jobs": [{"name": "a"}]}', "\x00"])
def test_a_record_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"was not submitted with `redone submit`"):
        read_jobs(tmp_path)
    atomic_write_text(tmp_path / "jobs.json", text)
    with pytest.raises(InputError, match=r"jobs.json: cannot be read"):
        read_jobs(tmp_path)
