"""The house keeps its shape. The second half proves that each rule fires, on a small house made for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import rules

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "megatron_redone"
PACKAGES = [folder for folder in (LIBRARY, ROOT / "checkpoints_conversion") if folder.is_dir()]
TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".lock",
    ".in",
    ".txt",
    ".json",
    ".sh",
    ".html",
    ".css",
    "",
}

IMPORT_WITHOUT_TORCH = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "megatron", "transformers", "transformer_engine", "vllm"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""


def text_files() -> list[Path]:
    """The project's own text files: the top level and the known folders, no outputs, no caches."""
    folders = ["megatron_redone", "checkpoints_conversion", "examples", "tools", "slurm", "tests", "docs"]
    folders += ["requirements", ".ci"]
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]  # a worktree's is a file
    found += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(p for p in found if p.suffix in TEXT_SUFFIXES and "__pycache__" not in p.parts)


def test_imports_only_go_down() -> None:
    assert list(rules.layer_violations(LIBRARY)) == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_package_files_are_empty(package: Path) -> None:
    assert list(rules.package_file_violations(package)) == []


@pytest.mark.parametrize("root", [*PACKAGES, ROOT / "tests", ROOT / "tools"], ids=lambda path: path.name)
def test_names_say_what_is_inside(root: Path) -> None:
    assert list(rules.name_violations(root)) == []


def test_only_cli_and_launch_read_the_process() -> None:
    assert list(rules.process_state_violations(LIBRARY)) == []


def test_configs_and_presets_import_without_torch() -> None:
    names = rules.modules_free_of_torch(LIBRARY)
    assert "megatron_redone.config.loading" in names
    command = [sys.executable, "-c", IMPORT_WITHOUT_TORCH, *names]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_no_file_names_a_path_of_one_machine() -> None:
    assert list(rules.machine_path_violations(text_files())) == []


def test_requirements_name_no_index() -> None:
    assert list(rules.index_host_violations(sorted((ROOT / "requirements").iterdir()))) == []


def house(root: Path, files: dict[str, str]) -> Path:
    package = root / "house"
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    return package


@pytest.mark.parametrize(
    ("file", "text", "forbidden"),
    [
        ("data/a.py", "import house.cli.main", "data must not import cli"),
        ("data/a.py", "from house import models", "data must not import models"),
        ("data/a.py", "from house.scoring.base import Score", "data must not import scoring"),
        ("data/a.py", "from ..scoring import base", "data must not import scoring"),
        (
            "data/inner/a.py",
            "def f():\n    from ...training.engine import Engine",
            "data must not import training",
        ),
        ("attic/a.py", "", "the room attic stands in no layer"),
    ],
)
def test_layer_rule_fires(tmp_path: Path, file: str, text: str, forbidden: str) -> None:
    (found,) = rules.layer_violations(house(tmp_path, {file: text}))
    assert forbidden in found and file in found


def test_layer_rule_lets_imports_go_down(tmp_path: Path) -> None:
    text = "import torch\nfrom house.data import batch\nfrom . import engine\nfrom house import version"
    assert list(rules.layer_violations(house(tmp_path, {"training/a.py": text}))) == []


def test_package_file_rule_fires(tmp_path: Path) -> None:
    package = house(tmp_path, {"__init__.py": "\n", "data/__init__.py": "import torch", "rl/a.py": ""})
    full, absent = rules.package_file_violations(package)
    assert "must be empty" in full and "data" in full
    assert "no __init__.py" in absent and "rl" in absent


@pytest.mark.parametrize("name", ["data/utils.py", "data/helpers/a.py", "misc.py"])
def test_name_rule_fires(tmp_path: Path, name: str) -> None:
    assert len(list(rules.name_violations(house(tmp_path, {name: ""})))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.environ['A']",
        "import os\nos.getenv('A')",
        "from os import environ",
        "import sys\nsys.argv[1]",
    ],
)
def test_process_state_rule_fires(tmp_path: Path, text: str) -> None:
    package = house(tmp_path, {"training/a.py": text, "cli/a.py": text, "launch/a.py": text})
    (found,) = rules.process_state_violations(package)
    assert "training" in found


def test_machine_path_rule_fires(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    lines = [
        "see " + "/".join(["", "home", "somebody", "run"]),
        "data in " + "../" + "shared/data",
        "runs/a/report.html",
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert [found.split(": ")[0] for found in rules.machine_path_violations([file])] == [
        f"{file}:1",
        f"{file}:2",
    ]


def test_long_files_are_counted(tmp_path: Path) -> None:
    package = house(tmp_path, {"data/a.py": "x = 1\n" * 301, "data/b.py": "x = 1\n" * 300})
    assert rules.long_files(package) == [(301, package / "data" / "a.py")]
