"""Speed and memory of conversions, against copying the same bytes.

A folder with the tensor shapes of a model and fewer layers is made of random bits. Each program runs in a process of
its own, with the page cache dropped before it where the system allows that; a copy counts until its bytes are on disk,
as a conversion does.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from megatron_redone.benchmarks.program import ProgramRun, run_program
from megatron_redone.checkpoint.hf_folder import INDEX_NAME, TensorHeader
from megatron_redone.checkpoint.safetensors_stream import SafetensorsLayout, SafetensorsWriter, bytes_of
from megatron_redone.common.files import atomic_write_json
from megatron_redone.launch.processes import redone_command
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import shape_to_hf
from megatron_redone.models.weights import hf_shapes

PEER, BOTH = "peer, both ways", "to-megatron and to-hf"
COPY_AND_SYNC = "import os,shutil,sys; shutil.copytree(sys.argv[1], sys.argv[2]); os.sync()"


def make_model_folder(shape: ModelShape, folder: Path, shard_bytes: int) -> int:
    """Writes a bf16 model folder of random bits; returns its bytes."""
    folder.mkdir(parents=True)
    headers = {name: TensorHeader("BF16", size) for name, size in hf_shapes(shape).items()}
    shards: list[list[str]] = [[]]
    for name in headers:
        if shards[-1] and sum(bytes_of(headers[n]) for n in shards[-1]) + bytes_of(headers[name]) > shard_bytes:
            shards.append([])
        shards[-1].append(name)
    weight_map = {}
    generator = torch.Generator().manual_seed(0)
    for number, names in enumerate(shards, 1):
        path = folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        file = SafetensorsWriter(path, SafetensorsLayout({name: headers[name] for name in names}))
        for name in names:
            bits = torch.randint(-(2**15), 2**15, headers[name].shape, dtype=torch.int16, generator=generator)
            file.add(name, bits.bitwise_and_(~0x4000).view(torch.bfloat16))  # no infinities, no NaN
        file.close()
        weight_map.update(dict.fromkeys(names, path.name))
    total = sum(bytes_of(header) for header in headers.values())
    atomic_write_json(folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})
    atomic_write_json(folder / "config.json", shape_to_hf(shape, "bfloat16"))
    return total


def measure_conversions(
    hub: Path,
    work: Path,
    processes: int,
    rounds: int,
    progress: Callable[[str], None],
    peer: Sequence[str] = (),
    cold: bool = True,
) -> list[ProgramRun]:
    """Copies and converts in turn, `rounds` times; what each made is removed before the next.

    Args:
        peer: a program that converts both ways, called with `--hf MODEL --out NEW_FOLDER`.
        cold: whether the page cache is dropped before each program.
    """
    runs = []
    for _ in range(rounds):
        count = ["--processes", str(processes)]
        there = redone_command(["convert", "to-megatron", "--hf", str(hub), "--out", str(work / "megatron"), *count])
        back = redone_command(
            ["convert", "to-hf", "--megatron", str(work / "megatron"), "--out", str(work / "hf"), *count]
        )
        for name, command, made in (
            ("copy of the model folder", [sys.executable, "-c", COPY_AND_SYNC, str(hub), str(work / "copy")], "copy"),
            ("to-megatron", there, ""),
            (
                "copy of the checkpoint",
                [sys.executable, "-c", COPY_AND_SYNC, str(work / "megatron"), str(work / "copy")],
                "copy",
            ),
            ("to-hf", back, "hf"),
            *([(PEER, [*peer, "--hf", str(hub), "--out", str(work / "peer")], "peer")] if peer else []),
        ):
            runs.append(run_program(name, command, cold))
            progress(f"{name}: {runs[-1].seconds:.1f} s, {runs[-1].peak_bytes / 2**20:,.0f} MiB")
            if made:
                shutil.rmtree(work / made)
        shutil.rmtree(work / "megatron")
    return runs


def table_rows(runs: Sequence[ProgramRun]) -> list[tuple[str, float, float, float, float]]:
    """(name, median seconds, median ratio to the copy of the same round, CPU seconds, peak MiB) by program.

    The ratio of a peer is to our two conversions.
    """
    copies = {"to-megatron": "copy of the model folder", "to-hf": "copy of the checkpoint", PEER: BOTH}
    runs = [*runs, *_both_ways(runs)]
    rows = []
    for name in dict.fromkeys(run.name for run in runs):
        own = [run for run in runs if run.name == name]
        base = [run for run in runs if run.name == copies.get(name, name)]
        ratio = statistics.median(run.seconds / copy.seconds for run, copy in zip(own, base, strict=True))
        seconds = statistics.median(run.seconds for run in own)
        cpu = statistics.median(run.cpu_seconds for run in own)
        rows.append((name, seconds, ratio, cpu, max(run.peak_bytes for run in own) / 2**20))
    return rows


def _both_ways(runs: Sequence[ProgramRun]) -> list[ProgramRun]:
    """to-megatron and to-hf of each round as one program, where a peer does both."""
    if not any(run.name == PEER for run in runs):
        return []
    there, back = ([run for run in runs if run.name == name] for name in ("to-megatron", "to-hf"))
    return [
        ProgramRun(
            BOTH,
            one.seconds + two.seconds,
            one.cpu_seconds + two.cpu_seconds,
            max(one.peak_bytes, two.peak_bytes),
            one.cold and two.cold,
        )
        for one, two in zip(there, back, strict=True)
    ]
