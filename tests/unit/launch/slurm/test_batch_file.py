from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from megatron_redone.launch.slurm.batch_file import Job, Place, Servers, batch_file, functions
from megatron_redone.launch.slurm.config import ClusterConfig, ContainerConfig, NodesConfig, RequeueConfig

GPU = NodesConfig(partition="gpu", ranks_per_node=8, gpus_per_node=8, gpu_type="h100", cpus_per_rank=12, memory_gib=0)
CLUSTER = ClusterConfig(name="a", account="lab", model=GPU, variables={"NCCL_IB_HCA": "mlx5"})
JOB = Job(
    "explore", "Stage explore.", GPU, 2, ("run", "/r/recipe.yaml", "explore.optimizer.lr=1e-6", "--only", "explore")
)
PLACE = Place(
    Path("/runs/a b"), Path("/code"), Path("/r/recipe.yaml"), ("/venv/bin/python", "-m", "megatron_redone.cli")
)


def lines(job: Job = JOB, cluster: ClusterConfig = CLUSTER) -> list[str]:
    return batch_file(job, cluster, PLACE).splitlines()


def test_what_slurm_is_asked_for() -> None:
    asked = [line.removeprefix("#SBATCH ") for line in lines() if line.startswith("#SBATCH ")]
    assert asked == [
        "--job-name=a b.explore", "--partition=gpu", "--account=lab", "--nodes=2", "--ntasks-per-node=8",
        "--cpus-per-task=12", "--gres=gpu:h100:8", "--mem=0", "--time=24:00:00",
        "--output=/runs/a b/slurm/explore/job.log",
        "--open-mode=append", "--requeue", "--signal=B:USR1@300", "--kill-on-invalid-dep=yes",
    ]  # fmt: skip


def test_a_path_with_a_space_stays_one_word() -> None:
    assert "RUN_STATE='/runs/a b/slurm' STATE='/runs/a b/slurm/explore'" in lines()


def test_the_command_and_its_environment() -> None:
    text = lines()
    assert text[-1] == (
        "run /venv/bin/python -m megatron_redone.cli run /r/recipe.yaml explore.optimizer.lr=1e-6 --only explore"
    )
    assert "export NCCL_IB_HCA=mlx5" in text and "export OMP_NUM_THREADS=12" in text
    assert text.index("begin") > text.index("export NCCL_IB_HCA=mlx5")


def test_bounds_of_starting_again() -> None:
    requeue = RequeueConfig(after_signal=7, after_failure=1, failures_of_node=4)
    text = "\n".join(lines(cluster=CLUSTER.model_copy(update={"requeue": requeue})))
    assert "MAX_SIGNALS=7 MAX_FAILURES=1 NODE_FAILURES=4" in text


def test_pyxis_mounts_what_the_command_needs() -> None:
    container = ContainerConfig(engine="pyxis", image="/i/gpu.sqsh", mounts=("/scratch:/scratch",))
    line = lines(cluster=CLUSTER.model_copy(update={"container": container}))[-1]
    assert "--container-image=/i/gpu.sqsh" in line
    assert "--container-mounts=/scratch:/scratch,/code:/code,/runs/a b:/runs/a b,/r:/r" in line
    assert " -- redone run /r/recipe.yaml" in line


def test_apptainer_stands_before_the_command() -> None:
    container = ContainerConfig(engine="apptainer", image="/i/gpu.sif")
    line = lines(cluster=CLUSTER.model_copy(update={"container": container}))[-1]
    assert line.startswith("run apptainer exec --nv --bind /code:/code")
    assert "--pwd /code /i/gpu.sif redone run" in line
    cpu = CLUSTER.model_copy(update={"container": container, "model": NodesConfig()})
    assert "--nv" not in lines(cluster=cpu)[-1]


def test_a_venv_on_the_nodes() -> None:
    assert lines(cluster=CLUSTER.model_copy(update={"venv": "/shared/venv"}))[-1].startswith(
        "run /shared/venv/bin/redone run"
    )


def test_an_array_gives_each_task_its_part() -> None:
    job = dataclasses.replace(JOB, command=("curate", "x", "part={task}/16", "--out", "/o/{task}/p q"), array=16)
    text = lines(job)
    assert "#SBATCH --array=0-15" in text
    assert '"part=$SLURM_ARRAY_TASK_ID/16" --out "/o/$SLURM_ARRAY_TASK_ID/p q"' in text[-1]


def test_rollout_servers_are_a_second_component() -> None:
    servers = Servers(
        NodesConfig(partition="infer", gpus_per_node=8, ranks_per_node=8), 3, "/m", ("max_new_tokens=8",), "explore"
    )
    text = lines(dataclasses.replace(JOB, servers=servers))
    het = text.index("#SBATCH hetjob")
    assert "#SBATCH --partition=gpu" in text[:het] and "#SBATCH --partition=infer" in text[het:]
    assert "#SBATCH --nodes=3" in text[het:]
    assert text[-1].startswith("run --het-group=0 -- ")
    assert text[-1].endswith(
        'explore.generation.engine=servers "explore.generation.servers.urls=[$URLS]" '
        '"explore.generation.servers.transfer_folder=$STATE/weights"'
    )


@pytest.mark.parametrize("kind", ["plain", "array", "servers"])
def test_a_shell_can_read_it(kind: str, tmp_path: Path) -> None:
    servers = Servers(GPU, 1, "/m", (), "explore")
    job = {
        "plain": JOB,
        "array": dataclasses.replace(JOB, array=4),
        "servers": dataclasses.replace(JOB, servers=servers),
    }[kind]
    (tmp_path / "job.sbatch").write_text(batch_file(job, CLUSTER, PLACE))
    (tmp_path / "job.sh").write_text(functions())
    bash = shutil.which("bash")
    assert bash is not None
    for name in ("job.sbatch", "job.sh"):
        done = subprocess.run([bash, "-n", str(tmp_path / name)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
