from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from megatron_redone.cli.app import app
from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.curation.regmix.slurm import batch_file
from megatron_redone.curation.regmix.tables import write_table

SETTINGS = """
mixtures: mixtures.csv
tokenizer: tokenizer
domains: {web: web, chat: chat}
validation: {web: web}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    for name in ("tokenizer", "web", "chat"):
        (tmp_path / name).mkdir()
    write_table(tmp_path / "mixtures.csv", ["a"], ["web", "chat"], np.array([[0.5, 0.5]]))
    (tmp_path / "proxies.yaml").write_text(SETTINGS)
    return tmp_path / "proxies.yaml"


def text_of(settings: Path, out: Path, redone: list[str], tasks: int = 4, directives: tuple[str, ...] = ()) -> str:
    return batch_file(
        redone, settings, ["steps=7"], tasks, out, time="01:00:00", cpus=2, directives=directives,
        working_folder=settings.parent,
    )  # fmt: skip


def test_each_array_task_trains_its_part_into_its_own_folder(settings: Path, tmp_path: Path) -> None:
    """The file is run as the batch system would, with a command that tells its arguments."""
    out = tmp_path / "out with space"
    script = tmp_path / "array.sbatch"
    script.write_text(text_of(settings, out, ["printf", r"%s\n"]))
    environment = {"SLURM_ARRAY_TASK_ID": "3", "PATH": "/usr/bin:/bin"}
    said = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "curate", "regmix-proxies", str(settings), "steps=7", "part=3/4", "--out", f"{out}/parts/3/proxies",
    ]  # fmt: skip


def test_directives_stand_before_the_first_command(settings: Path, tmp_path: Path) -> None:
    lines = text_of(settings, tmp_path, ["redone"], 16, ("--gres=gpu:1",)).splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert lines[0] == "#!/bin/bash" and max(directives) < first_command
    assert {"#SBATCH --array=0-15", "#SBATCH --gres=gpu:1", "#SBATCH --time=01:00:00"} <= set(lines)
    assert any(line.startswith("# Gather:") and "finished=" in line for line in lines)


def test_what_is_no_option_of_sbatch_is_refused(settings: Path, tmp_path: Path) -> None:
    for directive in ("gres=gpu:1", "--partition=a\nrm -rf x"):
        with pytest.raises(InputError, match="must be an option of sbatch"):
            text_of(settings, tmp_path, ["redone"], 2, (directive,))
    with pytest.raises(InputError, match="--tasks 0"):
        text_of(settings, tmp_path, ["redone"], 0)


def test_the_command_checks_the_settings_first(settings: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> BaseException | None:
        given = ["curate", "regmix-array", str(settings), *arguments, "--tasks", "2", "--out", str(tmp_path / "out")]
        return CliRunner().invoke(app, given).exception

    assert isinstance(call("stepps=7"), ConfigError)
    assert isinstance(call("part=0/2"), ConfigError)
    assert not (tmp_path / "out").exists()
    assert call("steps=7") is None
    assert "steps=7" in (tmp_path / "out" / "array.sbatch").read_text()
    assert (tmp_path / "out" / "logs").is_dir()
