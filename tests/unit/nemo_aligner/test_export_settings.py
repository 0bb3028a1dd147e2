"""Every setting of a stage has a place in the export, or is refused by its name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.models.presets import get_preset
from megatron_redone.nemo_aligner.config import ContainerConfig, NemoAlignerConfig
from megatron_redone.nemo_aligner.export_settings import (
    HOW_WE_RUN,
    ONLY_AT,
    WRITTEN,
    configuration,
    layout_problems,
    time_per_run,
    unmapped,
)
from megatron_redone.nemo_aligner.launch_files import submit_script, train_script
from megatron_redone.nemo_aligner.mapping import from_nemo, leaves
from megatron_redone.nemo_aligner.model_config import model_problems
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.recipes.config import DPOStage
from megatron_redone.training.config import PairValidationConfig

CONTAINER = ContainerConfig(image="registry/nemo:1", nodes=2, gpus_per_node=4, account="a b")


def stage(**changes: Any) -> DPOStage:
    given = {"kind": "dpo", "model": "m", "pairs": "p", "steps": 30, "backend": "nemo-aligner"}
    return DPOStage.model_validate({**given, "sft": {"normalisation": "pair_sum"}, **changes})


def test_the_tables_name_every_key_of_the_stage_and_no_other() -> None:
    whole = {name for name, _ in leaves(stage(validation={"every": 10}).model_dump())}
    known = WRITTEN | HOW_WE_RUN | set(ONLY_AT)
    assert whole - known == set()
    assert known - whole == {"validation"}  # the section as a whole, where there is none
    assert not WRITTEN & HOW_WE_RUN and not (WRITTEN | HOW_WE_RUN) & set(ONLY_AT)
    assert unmapped(stage().model_dump()) == unmapped(stage(validation={}).model_dump()) == []


@pytest.mark.parametrize("key", sorted(set(ONLY_AT) - {"validation"}))
def test_what_has_no_word_there_is_refused_by_name(key: str) -> None:
    section, _, name = key.rpartition(".")
    dump: dict[str, Any] = stage().model_dump()
    place: Any = dump
    for part in section.split(".") if section else ():
        place = place[part]
    place[name] = "changed"
    (problem,) = unmapped(dump)
    assert problem.startswith(f"{key}='changed': NeMo-Aligner's program has no such setting")


def test_an_evaluation_and_a_new_key_are_refused() -> None:
    problems = unmapped({**stage().model_dump(), "evaluate": {"data": "x"}, "brand_new": 1})
    assert [problem.split("=")[0] for problem in problems] == ["evaluate.data", "brand_new"]


def test_the_configuration_says_the_settings_and_reads_back() -> None:
    config = stage(global_batch_size=8, optimizer={"lr": 3e-6}, validation={"every": 25, "pairs": 20})
    parallel = ParallelConfig(tp=2, precision="bf16", recompute="full")
    tree = configuration(
        config, NemoAlignerConfig(micro_batch_size=2), parallel, CheckpointConfig(keep_last=3), CONTAINER, 5, 160, 40
    )
    tree = yaml.safe_load(yaml.safe_dump(tree))
    dpo = tree["trainer"]["dpo"]
    assert (dpo["save_interval"], dpo["val_check_interval"], dpo["limit_val_batches"]) == (50, 25, 2)
    assert (tree["trainer"]["num_nodes"], tree["trainer"]["devices"], tree["trainer"]["precision"]) == (2, 4, "bf16")
    assert tree["exp_manager"]["checkpoint_callback_params"]["save_top_k"] == 3
    assert tree["model"]["data"]["data_prefix"]["validation"] == ["/redone/data/validation.jsonl"]
    back = from_nemo(tree, Path("gpt_dpo.yaml"))
    assert (back["global_batch_size"], back["optimizer.lr"], back["steps"], back["seed"]) == (8, 3e-6, 30, 5)


def test_without_validation_its_program_measures_nothing() -> None:
    tree = configuration(
        stage(), NemoAlignerConfig(), ParallelConfig(), CheckpointConfig(), CONTAINER, 0, num_pairs=64, num_validation=0
    )
    assert tree["trainer"]["dpo"]["limit_val_batches"] == tree["trainer"]["dpo"]["val_check_interval"] == 0
    assert tree["model"]["data"]["data_prefix"]["validation"] == ["/redone/data/train.jsonl"]


def test_layouts_and_models_that_cannot_run_there() -> None:
    def told(parallel: ParallelConfig, **changes: Any) -> str:
        config = stage(**changes)
        return "\n".join(layout_problems(config, config.nemo_aligner, parallel, CheckpointConfig(), 8))

    assert told(ParallelConfig(tp=2), global_batch_size=8) == ""
    assert "not divisible by parallel.tp * pp * cp" in told(ParallelConfig(tp=3))
    assert "replicas = 8 on 8 GPUs" in told(ParallelConfig(), global_batch_size=12)
    assert "takes fp32" not in told(ParallelConfig(precision="bf16")) and "fp64" in told(
        ParallelConfig(precision="fp64")
    )
    assert "wants bf16 there" in told(ParallelConfig(pp=2))
    assert "not a multiple of validation.every=7" in told(ParallelConfig(), validation=PairValidationConfig(every=7))
    assert list(model_problems(get_preset("llama-tiny"), ParallelConfig())) == []
    assert "no norm on queries and keys" in "".join(model_problems(get_preset("qwen3-tiny"), ParallelConfig()))
    odd = get_preset("llama-tiny").model_copy(update={"vocab_size": 251})
    assert "vocabulary of 251" in "".join(model_problems(odd, ParallelConfig(tp=2)))


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        ("04:00:00", "00:03:50:00"),
        ("90", "00:01:20:00"),
        ("90:30", "00:01:20:30"),
        ("1-12", "01:11:50:00"),
        ("2-00:30:10", "02:00:20:10"),
        ("10", "00:00:05:00"),
    ],
)
def test_time_of_a_run(limit: str, kept: str) -> None:
    assert time_per_run(limit) == kept


def test_scripts_are_shell_and_start_its_program(tmp_path: Path) -> None:
    """The container's program is not here: a stand-in for torchrun and python tells how it is started."""
    for name, text in (("train.sh", train_script(CONTAINER)), ("submit.sbatch", submit_script(CONTAINER, tmp_path))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        subprocess.run(["bash", "-n", str(tmp_path / name)], check=True)
    for name in ("torchrun", "python"):
        (tmp_path / name).write_text('#!/bin/bash\necho "$(basename "$0") $*"\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    program = "/opt/NeMo-Aligner/examples/nlp/gpt/train_gpt_dpo.py --config-path=/redone --config-name=gpt_dpo a=b"
    for extra, start in (({}, "torchrun --nproc-per-node=4"), ({"SLURM_PROCID": "0"}, "python -u")):
        done = subprocess.run(
            ["bash", str(tmp_path / "train.sh"), "a=b"], env=env | extra, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == f"{start} {program}"
    batch = (tmp_path / "submit.sbatch").read_text(encoding="utf-8")
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=4\n#SBATCH --gpus-per-node=4\n" in batch
    assert "partition" not in batch and '--container-mounts="$folder:/redone"' in batch
