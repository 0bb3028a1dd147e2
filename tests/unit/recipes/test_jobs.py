from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.files import atomic_write_text
from megatron_redone.launch.slurm.batch_file import Job, Place, batch_file
from megatron_redone.launch.slurm.config import ClusterConfig, NodesConfig
from megatron_redone.recipes.graph import load_recipe
from megatron_redone.recipes.jobs import jobs_of

CLUSTER = ClusterConfig(
    name="a",
    model=NodesConfig(partition="gpu", ranks_per_node=4, gpus_per_node=4),
    data=NodesConfig(partition="cpu", cpus_per_rank=16),
    checkpoint_gb_per_second=1.0,
)
STAGES = {
    "data": {"kind": "synthesize", "tasks": ["note_security"]},
    "tokenizer": {"kind": "tokenizer", "corpus": "data", "vocab_size": 1200},
    "tokens": {"kind": "tokenize", "corpus": "data", "tokenizer": "tokenizer"},
    "pretrain": {
        "kind": "pretrain", "model": {"preset": "qwen3-tiny"}, "tokenizer": "tokenizer", "tokens": "tokens", "steps": 2,
    },
    "rows": {"kind": "rl_set", "data": "data"},
    "explore": {"kind": "dapo", "per_seed": True, "model": "pretrain", "rows": "rows"},
}  # fmt: skip


def jobs(
    folder: Path,
    *overrides: str,
    nodes: Mapping[str, int] | None = None,
    stages: Mapping[str, object] = STAGES,
    cluster: ClusterConfig = CLUSTER,
    array_tasks: int = 8,
) -> dict[str, Job]:
    recipe = {"name": "r", "output": str(folder / "run"), "seeds": [1, 2], "stages": stages}
    atomic_write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    loaded = load_recipe(folder / "recipe.yaml", overrides)
    place = Place(folder / "run", folder, folder / "recipe.yaml", ("redone",))
    found = jobs_of(loaded, overrides, cluster, place, nodes or {}, array_tasks)
    return {job.name: job for job in found}


def test_a_job_waits_for_the_stages_that_it_reads(tmp_path: Path) -> None:
    found = jobs(tmp_path)
    assert {name: set(job.after) for name, job in found.items()} == {
        "data": set(),
        "tokenizer": {"data"},
        "tokens": {"data", "tokenizer"},
        "pretrain": {"tokens", "tokenizer"},
        "rows": {"data"},
        "explore": {"pretrain", "rows"},
    }


def test_models_go_to_gpu_nodes_and_the_rest_to_one_process(tmp_path: Path) -> None:
    found = jobs(tmp_path)
    assert [found["pretrain"].nodes.partition, found["explore"].num_ranks] == ["gpu", 4]
    assert (found["tokens"].nodes.partition, found["tokens"].num_ranks) == ("cpu", 1)


def test_nodes_by_stage(tmp_path: Path) -> None:
    found = jobs(tmp_path, nodes={"": 2, "explore": 3})
    assert [found[name].num_nodes for name in ("data", "pretrain", "explore")] == [1, 2, 3]


def test_by_default_one_copy_of_the_model_fits(tmp_path: Path) -> None:
    assert jobs(tmp_path, "pretrain.parallel.pp=2", "pretrain.parallel.cp=4")["pretrain"].num_nodes == 2


def test_the_command_repeats_the_overrides(tmp_path: Path) -> None:
    command = jobs(tmp_path, "explore.num_rollouts=3")["explore"].command
    assert command == ("run", str(tmp_path / "recipe.yaml"), "explore.num_rollouts=3", "--only", "explore")


@pytest.mark.parametrize(
    ("overrides", "nodes", "problem"),
    [
        (["pretrain.parallel.tp=3"], {"": 1}, r"stage pretrain: world size 4 is not divisible by .* = 3"),
        ([], {"train": 2}, r"--nodes train=2: no such stage; stages: data, tokenizer"),
        ([], {"pretrain:servers": 1}, r"only a dapo stage has rollout servers"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, overrides: list[str], nodes: dict[str, int], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        jobs(tmp_path, *overrides, nodes=nodes)


def test_a_checkpoint_that_takes_longer_than_the_signal_leaves_is_refused(tmp_path: Path) -> None:
    big = STAGES | {"pretrain": STAGES["pretrain"] | {"model": {"preset": "qwen3-32b", "vocab_size": 151_936}}}
    with pytest.raises(ConfigError, match=r"a checkpoint of 393 GB takes 393 s .* longer than signal_seconds=300"):
        jobs(tmp_path, stages=big)
    slow = CLUSTER.model_copy(update={"signal_seconds": 800})
    assert "pretrain" in jobs(tmp_path, stages=big, cluster=slow)


def test_rollout_servers_begin_with_the_model_that_is_trained(tmp_path: Path) -> None:
    job = jobs(tmp_path, nodes={"explore:servers": 2})["explore"]
    assert job.servers is not None
    assert (job.servers.num_nodes, job.servers.model) == (2, str(tmp_path / "run" / "pretrain" / "model"))
    assert "max_new_tokens=8192" in job.servers.settings


REGMIX = {
    "proxies": {
        "kind": "regmix_proxies",
        "mixtures": "./mixtures.csv",
        "domains": {"a": "./a", "b": "./b"},
        "validation": {"a": "./a"},
        "tokenizer": "./a",
        "model": {"preset": "proxy-1m"},
        "steps": 2,
    },
}


def test_proxy_runs_are_an_array_and_a_job_that_gathers_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "mixtures.csv").write_text("index,a,b\n0,0.5,0.5\n")
    found = jobs(tmp_path, stages=REGMIX, array_tasks=3)
    parts, gather = found["proxies-parts"], found["proxies"]
    assert (parts.array, gather.array, gather.after) == (3, None, ("proxies-parts",))
    assert f"proxies.finished={tmp_path / 'run/slurm/proxies-parts/parts'}" in gather.command
    assert "part={task}/3" in parts.command
    settings = yaml.safe_load((tmp_path / "run/slurm/proxies-parts/settings.yaml").read_text())
    assert settings["domains"] == {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    assert "#SBATCH --array=0-2" in batch_file(parts, CLUSTER, Place(tmp_path, tmp_path, tmp_path / "r", ("redone",)))
    assert set(jobs(tmp_path, stages=REGMIX, array_tasks=1)) == {"proxies"}


def test_numbers_of_nodes_are_read() -> None:
    from megatron_redone.cli.submit import read_nodes

    assert read_nodes(["2", "explore=4", "explore:servers=3"]) == {"": 2, "explore": 4, "explore:servers": 3}
    for text in ("two", "explore=0", "explore="):
        with pytest.raises(InputError, match=r"write a number of nodes"):
            read_nodes([text])
