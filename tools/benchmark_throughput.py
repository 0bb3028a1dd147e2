"""Training throughput over layouts: `redone benchmark sweep` as a program of its own.

python tools/benchmark_throughput.py --folder runs/sweep --layout 1 --layout 2:tp=2 --layout 2:pp=2
"""

from __future__ import annotations

import typer

from megatron_redone.cli.benchmark_app import benchmark_sweep_command

if __name__ == "__main__":
    typer.run(benchmark_sweep_command)
