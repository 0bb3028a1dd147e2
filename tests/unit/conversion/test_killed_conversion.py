"""kill -9 in the middle of a conversion, in a process of its own, and what the next start makes of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_redone.conversion import to_hf as to_hf_module, to_megatron as to_megatron_module
from megatron_redone.conversion.to_hf import ToHF
from megatron_redone.conversion.to_megatron import ToMegatron
from megatron_redone.conversion.units import Record, Unit
from megatron_redone.parallel.config import ParallelConfig
from tests.unit.conversion.conftest import small

HubFolder = Callable[..., Path]
UNIT_BYTES = 40_000
KILLED_AT = 4


def convert_until_killed(direction: str, source: Path, out: Path) -> None:
    """Converts with small units; the process is killed in the middle of the fifth, after it has written."""
    module = {"to_megatron": to_megatron_module, "to_hf": to_hf_module}[direction]
    name = {"to_megatron": "_write_unit", "to_hf": "_write_stretch"}[direction]
    write: Callable[..., Record] = getattr(module, name)

    def killed(job: object, unit: Unit, folder: Path) -> Record:
        record = write(job, unit, folder)
        if unit.number == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    module.UNIT_BYTES = UNIT_BYTES
    setattr(module, name, killed)
    job(direction, source, out).run()


def job(direction: str, source: Path, out: Path) -> ToMegatron | ToHF:
    if direction == "to_megatron":
        return ToMegatron(source, out, ParallelConfig(pp=2))
    return ToHF(source, out, shard_bytes=150_000)


@pytest.mark.parametrize("direction", ["to_megatron", "to_hf"])
def test_a_killed_conversion_goes_on_and_gives_the_same_bytes(
    direction: str, hub_folder: HubFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (to_megatron_module, to_hf_module):
        monkeypatch.setattr(module, "UNIT_BYTES", UNIT_BYTES)
    source = hub_folder(small("qwen3-moe-tiny"))
    if direction == "to_hf":
        ToMegatron(source, source.parent / "megatron").run()
        source = source.parent / "megatron"
    whole, out = source.parent / "whole", source.parent / "out"
    job(direction, source, whole).run()
    process = multiprocessing.get_context("spawn").Process(target=convert_until_killed, args=(direction, source, out))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not out.exists()
    partial = source.parent / ".out.partial"
    assert len(list((partial / "units").glob("0*.json"))) == KILLED_AT
    redone: list[int] = []
    module = {"to_megatron": to_megatron_module, "to_hf": to_hf_module}[direction]
    name = {"to_megatron": "_write_unit", "to_hf": "_write_stretch"}[direction]
    write = getattr(module, name)

    def counted(job: object, unit: Unit, folder: Path) -> Record:
        redone.append(unit.number)
        record: Record = write(job, unit, folder)
        return record

    monkeypatch.setattr(module, name, counted)
    again = job(direction, source, out)
    num_units = len(again.units())
    again.run()
    assert redone == list(range(KILLED_AT, num_units)) and num_units > KILLED_AT + 3
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_a_stretch_that_was_damaged_after_the_kill_is_written_again(
    hub_folder: HubFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_hf_module, "UNIT_BYTES", UNIT_BYTES)
    hub = hub_folder(small("llama-tiny"))
    ToMegatron(hub, hub.parent / "megatron").run()
    back = job("to_hf", hub.parent / "megatron", hub.parent / "back")
    write = to_hf_module._write_stretch
    done: list[int] = []

    def stopped(job: ToHF, unit: Unit, folder: Path) -> Record:
        done.append(unit.number)
        if unit.number == 3:
            raise KeyboardInterrupt
        return write(job, unit, folder)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(to_hf_module, "_write_stretch", stopped)
        back.run()
    record = next((hub.parent / ".back.partial" / "units").glob("*1.json"))
    shard = sorted((hub.parent / ".back.partial").glob("*.safetensors"))[0]
    assert '"start": ' in record.read_text()
    with shard.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    done.clear()

    def counted(job: ToHF, unit: Unit, folder: Path) -> Record:
        done.append(unit.number)
        return write(job, unit, folder)

    monkeypatch.setattr(to_hf_module, "_write_stretch", counted)
    back.run()
    assert 3 in done and len([number for number in done if number < 3]) == 1
