"""`redone curate regmix-array`: the batch file of an array of proxy runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megatron_redone.common.errors import ConfigError
from megatron_redone.common.files import atomic_write_text
from megatron_redone.common.logging import CONSOLE
from megatron_redone.curation.regmix.slurm import batch_file
from megatron_redone.launch.processes import redone_command
from megatron_redone.recipes.single_stage import load_stage


def write_batch_file(
    settings: Path, overrides: Sequence[str], out: Path, tasks: int, time: str, cpus: int, sbatch: Sequence[str]
) -> None:
    """Checks the settings and writes `OUT/array.sbatch`.

    Raises:
        ConfigError: the settings do not pass; `part` or `finished`, which belong to single tasks, among them.
    """
    own = [text for text in overrides if text.partition("=")[0].strip() in ("part", "finished")]
    if own:
        raise ConfigError([f"{own[0]}: every array task has its own part; leave it out"])
    load_stage("regmix_proxies", settings, overrides, out / "proxies")
    text = batch_file(
        redone_command([]),
        settings.resolve(),
        overrides,
        tasks,
        out.resolve(),
        time=time,
        cpus=cpus,
        directives=sbatch,
        working_folder=Path.cwd(),
    )
    (out / "logs").mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "array.sbatch", text)
    CONSOLE.print(f"written: {out / 'array.sbatch'}; submit it with sbatch", markup=False, highlight=False)
