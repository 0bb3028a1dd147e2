"""Training throughput on one GPU: dense models at 4K, packed SFT at 16K, experts; BF16 and FP8 where it can run.

python tools/benchmark_gpu.py --folder runs/gpu --minutes 9
python tools/benchmark_gpu.py --folder runs/gpu-tiny --tiny       # the same program on a CPU, in a minute

Each call measures what has no file yet, as long as its minutes last. Profiles that this machine cannot run are left
out, and named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megatron_redone.benchmarks.gpu_cases import PROFILES, TINY, WORKLOADS, cases_of, measure, write_table
from megatron_redone.common.errors import InputError
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.launch.processes import redone_command
from megatron_redone.parallel.config import ParallelConfig


def main(
    folder: Annotated[Path, typer.Option(help="One JSON file a case, and table.md.")],
    minutes: Annotated[float, typer.Option(help="How long this call may take.")] = 9.0,
    steps: Annotated[int, typer.Option(help="Steps that are measured.")] = 10,
    gpu: Annotated[str, typer.Option(help="Profile of the planner whose peak MFU is taken of.")] = "h200",
    only: Annotated[str, typer.Option(help="Cases whose workload and profile hold this text.")] = "",
    tiny: Annotated[bool, typer.Option("--tiny", help="Tiny models, on any machine.")] = False,
) -> None:
    """Measures, writes the table, and says how many cases are left."""
    import torch

    from megatron_redone.parallel.gpu_machine import machine_problems

    if not tiny and not torch.cuda.is_available():
        raise InputError("no CUDA device: these models are made for a GPU; give --tiny to try the program")
    profiles = []
    for name, layout in PROFILES.items():
        words = ["precision=bf16", *(word for word in layout.split(",") if word)]
        lacking = machine_problems(validate(ParallelConfig, apply_overrides({}, words), name).gpu)
        if lacking:
            typer.echo(f"left out: {name}: {lacking[0]}")
        else:
            profiles.append(name)
    cases = [
        case for case in cases_of(TINY if tiny else WORKLOADS, profiles) if only in f"{case.work.name}, {case.profile}"
    ]
    left = measure(cases, folder, redone_command, steps=steps, minutes=minutes, progress=typer.echo)
    typer.echo(f"{write_table(cases, folder, gpu)} written; {left} of {len(cases)} cases left")


if __name__ == "__main__":
    typer.run(main)
