"""The hand-written templates: a shell reads them, their stages stand in the recipes, the shared functions are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
TEMPLATES = sorted((ROOT / "slurm" / "templates").rglob("*.sbatch"))
NEEDED = (
    "RUN_STATE",
    "STATE",
    "NODES",
    "RANKS",
    "CPUS",
    "MAX_SIGNALS",
    "MAX_FAILURES",
    "NODE_FAILURES",
    "WAIT_SECONDS",
)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_is_a_whole_batch_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert text.startswith("#!/bin/bash\n# ")
    for option in ("--nodes=", "--time=", "--partition=", "--output="):
        assert f"#SBATCH {option}" in text
    if "job.sh" in text:
        assert [name for name in NEEDED if f"{name}=" not in text] == []
        (source,) = re.findall(r"^source (\S+)$", text, re.MULTILINE)
        assert (ROOT / source).is_file()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_names_a_recipe_and_a_stage_that_are_there(path: Path) -> None:
    found = re.search(r"examples/(\w+)/\$MODEL\.yaml\S* --only (\w+)", path.read_text(encoding="utf-8"))
    if found is None:
        pytest.skip("runs no stage of a recipe")
    folder, stage = ROOT / "examples" / found[1], found[2]
    if not (folder / "recipe.yaml").is_file():
        pytest.skip(f"examples/{found[1]} is not here")
    assert f"\n  {stage}:" in (folder / "recipe.yaml").read_text(encoding="utf-8")
    for model in re.findall(r"^#   (\d\w*) ", path.read_text(encoding="utf-8"), re.MULTILINE):
        assert (folder / f"{model}.yaml").is_file()
