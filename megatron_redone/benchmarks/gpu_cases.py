"""What is measured on one GPU, in calls of a few minutes: one file a case, a table of those that are there.

A case whose file is there is not measured again, so a call that was ended goes on where it was. A case that fails has
a file too, with the end of what it said: delete it to try again.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.files import atomic_write_bytes, atomic_write_json
from megatron_redone.models.presets import get_preset
from megatron_redone.planning.hardware import get_accelerator

TE = "gpu.layer_spec=transformer_engine"
PROFILES = {
    "bf16": "",
    "bf16 te": f"{TE},gpu.attention=auto",
    "fp8 te delayed": f"{TE},gpu.attention=auto,gpu.fp8.recipe=delayed",
    "fp8 te tensorwise": f"{TE},gpu.attention=auto,gpu.fp8.recipe=tensorwise",
    "fp8 te blockwise": f"{TE},gpu.attention=auto,gpu.fp8.recipe=blockwise,gpu.fp8.format=e4m3",
}
MOE_ONLY = ",gpu.grouped_gemm=true,gpu.fused_permute=true"


@dataclass(frozen=True)
class Workload:
    """A model on rows of one length; layers are cut where memory asks, which the table says."""

    name: str
    preset: str
    layers: int
    sequence_length: int
    rows: int
    goal: float | None = None
    """Share of the maker's dense BF16 peak that is aimed at on an H200."""
    lengths: str = "fixed"
    """fixed: a row is one document; redone: documents of the spread of RedOne's SFT data, packed."""
    recompute: str = "none"

    @property
    def cut(self) -> str:
        """Layers, and of how many."""
        whole = get_preset(self.preset).num_layers
        return f"{self.layers} of {whole} layers" if self.layers != whole else f"{whole} layers"


WORKLOADS = (
    Workload("pretrain 0.6B 4K", "qwen3-0.6b", 28, 4096, 8),
    Workload("pretrain 4B 4K", "qwen3-4b", 36, 4096, 4, 0.50),
    Workload("pretrain 8B 4K", "qwen3-8b", 20, 4096, 4, 0.50),
    Workload("SFT 0.6B 16K", "qwen3-0.6b", 28, 16384, 4, None, "redone"),
    Workload("SFT 4B 16K", "qwen3-4b", 28, 16384, 2, 0.45, "redone", "selective"),
    Workload("SFT 8B 16K", "qwen3-8b", 16, 16384, 2, 0.45, "redone", "selective"),
    Workload("MoE 30B-A3B 4K", "qwen3-30b-a3b", 5, 4096, 4, 0.25),
)
TINY = (
    Workload("tiny dense", "qwen3-tiny", 2, 64, 2),
    Workload("tiny packed", "qwen3-tiny", 4, 64, 2, None, "redone"),
    Workload("tiny MoE", "qwen3-moe-tiny", 2, 64, 2),
)
"""The same program on a CPU in seconds."""


@dataclass(frozen=True)
class Case:
    """A workload under a profile."""

    work: Workload
    profile: str

    @property
    def file(self) -> str:
        """Its name."""
        return f"{self.work.name}, {self.profile}".replace(", ", "__").replace(" ", "-") + ".json"

    def words(self, steps: int, out: Path) -> list[str]:
        """The arguments of `redone`."""
        work = self.work
        layout = PROFILES[self.profile]
        if work.preset.startswith("qwen3-30b") and layout:
            layout += MOE_ONLY
        layout = ",".join(part for part in (f"recompute={work.recompute}", layout) if part)
        words = ["benchmark", "train", "--preset", work.preset, "--layers", str(work.layers)]
        words += ["--sequence-length", str(work.sequence_length), "--rows", str(work.rows), "--steps", str(steps)]
        words += ["--warmup", "3", "--profiled", "1", "--layout", layout, "--out", str(out)]
        return [*words, "--lengths", work.lengths]


def cases_of(workloads: Sequence[Workload], profiles: Sequence[str]) -> list[Case]:
    """Every workload under every profile, the plain one of all workloads first."""
    return [Case(work, profile) for profile in profiles for work in workloads]


def measure(
    cases: Sequence[Case],
    folder: Path,
    command: Callable[[Sequence[str]], Sequence[str]],
    *,
    steps: int,
    minutes: float,
    progress: Callable[[str], None],
) -> int:
    """Measures what has no file yet until the time is over; the number of cases that are left.

    A case that the rest of the time ends is left for the next call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    left = 0
    for case in cases:
        path = folder / case.file
        if path.is_file():
            continue
        rest = end - time.monotonic()
        if rest <= 0:
            left += 1
            continue
        began = time.monotonic()
        try:
            ended = subprocess.run(
                list(command(case.words(steps, path))), capture_output=True, text=True, check=False, timeout=rest
            )
        except subprocess.TimeoutExpired:
            progress(f"{case.work.name}, {case.profile}: the time was over after {rest:.0f} s; left for the next call")
            left += 1
            continue
        if ended.returncode or not path.is_file():
            said = (ended.stderr + ended.stdout)[-3000:]
            atomic_write_json(path, {"failed": ended.returncode, "said": said})
        told = "failed" if ended.returncode else "measured"
        progress(f"{case.work.name}, {case.profile}: {told} in {time.monotonic() - began:.0f} s")
    return left


HEAD = (
    "| workload | layers | profile | tokens/s | TFLOP/s | MFU | goal | of own matmul | peak GiB | s/step (spread) "
    "| last loss |"
)


def table(cases: Sequence[Case], folder: Path, gpu: str) -> str:
    """The Markdown table of what was measured; cases without a file stand as not measured."""
    peak = get_accelerator(gpu).flops["bf16"]
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for case in cases:
        path, work = folder / case.file, case.work
        front = f"| {work.name} | {work.cut} | {case.profile} |"
        goal = f"{work.goal:.0%}" if work.goal is not None else ""
        if not path.is_file():
            lines.append(f"{front} not measured | | | {goal} | | | | |")
            continue
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "failed" in found:
            said = str(found["said"]).strip().splitlines() or ["nothing"]
            lines.append(
                f"{front} failed ({found['failed']}): {said[-1][:100].replace('|', '/')} | | | {goal} | | | | |"
            )
            continue
        flops, steps = found["model_flops_per_second"], found["step_seconds"]
        lines.append(
            f"{front} {found['useful_tokens_per_second']:,.0f} | {flops / 1e12:.3g} | {flops / peak:.1%} | {goal} "
            f"| {found['share_of_matmul_peak']:.1%} | {max(r['peak_mib'] for r in found['ranks']) / 1024:.1f} "
            f"| {found['seconds_per_step']:.3f} ({min(steps):.3f} to {max(steps):.3f}) | {found['losses'][-1]:.3f} |"
        )
    return "\n".join(lines) + "\n"


def write_table(cases: Sequence[Case], folder: Path, gpu: str) -> Path:
    """`table` as a file beside the measurements."""
    path = folder / "table.md"
    atomic_write_bytes(path, table(cases, folder, gpu).encode())
    return path
