"""`redone sandbox run` as a user sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_redone.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("megatron_redone.cli.main.reexec_with", lambda settings: None)
    monkeypatch.setattr("megatron_redone.cli.main.end_with_launcher", lambda environment: None)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main(["sandbox", "run", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_result_is_json(run: Run, tmp_path: Path, sandbox_backend: str) -> None:
    program, given = tmp_path / "p.py", tmp_path / "in.txt"
    program.write_text("import sys\nprint(input() * 2)\nsys.exit(3)", encoding="utf-8")
    given.write_text("哈\n", encoding="utf-8")
    code, out, _ = run(program, "--stdin", given)
    found = json.loads(out)
    assert found.pop("wall_seconds") > 0
    assert (code, found) == (
        0,
        {"status": "error", "exit_code": 3, "stdout": "哈哈\n", "stderr": "", "backend": sandbox_backend},
    )
    program.write_text("x = bytearray(90 << 20)", encoding="utf-8")
    assert json.loads(run(program)[1])["status"] == "ok"
    assert json.loads(run(program, "--memory", "100M")[1])["status"] == "memory"
    program.write_text("while True: pass", encoding="utf-8")
    assert json.loads(run(program, "--wall-seconds", "0.2")[1])["status"] == "timeout"


def test_unsafe_is_asked_for(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "p.py"
    program.write_text("print(6 * 7)", encoding="utf-8")
    monkeypatch.setattr("megatron_redone.scoring.sandbox.pool.problems_of_backend", lambda backend: ("broken",))
    code, _, err = run(program)
    assert code == 2 and "never run outside one" in " ".join(err.split())
    code, out, _ = run(program, "--unsafe")
    assert (code, json.loads(out)["stdout"], json.loads(out)["backend"]) == (0, "42\n", "unsafe")


def test_bad_input_is_refused(run: Run, tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    assert run(program)[0] == 2
    program.write_text("print(1)", encoding="utf-8")
    assert "no amount" in run(program, "--memory", "much")[2]
    assert "at least 64M" in run(program, "--memory", "1K")[2]
    assert "unknown" in run(program, "--backend", "jail")[2]
    assert "ask for it by --unsafe" in run(program, "--backend", "unsafe")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--wall-seconds", "inf"), "wall_seconds is inf; give more than 0, at most 86400"),
        (("--wall-seconds", "1e99"), "wall_seconds is 1e+99"),
        (("--wall-seconds", "1e9"), "at most 86400"),
        (("--wall-seconds", "nan"), "--wall-seconds"),
        (("--wall-seconds", "-1"), "--wall-seconds"),
        (("--wall-seconds", "abc"), "--wall-seconds"),
        (("--memory", "-1"), "no amount"),
        (("--memory", "1e99"), "no amount"),
        (("--memory", "9" * 30 + "G"), "no amount"),
        (("--memory", "9999999G"), "give at most 1024G"),
        (("--stdin", "/dev/zero"), "longer than the 16777216 bytes"),
        (("--stdin", "/"), "cannot be read (Is a directory)"),
    ],
)
def test_limits_that_cannot_be_given(run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    program = tmp_path / "p.py"
    program.write_text("print(1)", encoding="utf-8")
    code, out, err = run(program, *arguments)
    assert (code, out) == (2, "") and said in " ".join(err.split())


def test_a_file_without_an_end_is_no_program(run: Run, tmp_path: Path) -> None:
    for place in ("/dev/zero", str(tmp_path), str(tmp_path / "absent.py")):
        code, _, err = run(place)
        assert code == 2 and f"{place}: " in "".join(err.split("\n"))
