"""A sweep as a page in Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from megatron_redone.benchmarks.sweep import Sweep, SweepRow
from megatron_redone.planning.hardware import Accelerator

PARTS = ("data", "forward", "loss", "backward", "gradient reduction", "optimizer", "rest")


def sweep_markdown(sweep: Sweep, rows: Sequence[SweepRow], gpu: Accelerator | None, command: str) -> str:
    """Rates, memory and time by part of every layout; what failed below."""
    lines = ["# Training throughput by layout", "", f"`{command}`", ""]
    if sweep.measured:
        first = sweep.measured[0]
        lines += [_machine(first), "", _said(first["settings"], gpu), ""]
    lines += [
        "| layout | useful tokens/s/rank | with padding | TFLOP/s/rank | MFU | step (min to max) | expected step | "
        "weights, gradients, optimizer | expected | peak of a rank | expected tensors |",
        "|---|" + "---:|" * 10,
    ]
    for row in rows:
        expected = "" if row.expected_seconds is None else f"{row.expected_seconds:.3f} s"
        tensors = "" if row.expected_peak_mib is None else f"{row.expected_peak_mib:,.0f} MiB"
        lines.append(
            f"| `{row.layout}` | {row.useful_tokens_per_second:,.0f} | {row.total_tokens_per_second:,.0f} | "
            f"{row.tflops:.3f} | {row.mfu:.1%} | {row.seconds:.3f} s ({row.shortest:.3f} to {row.longest:.3f}) | "
            f"{expected} | {row.static_mib:,.0f} MiB | {row.expected_static_mib:,.0f} MiB | "
            f"{row.peak_mib:,.0f} MiB | {tensors} |"
        )
    timed = [row for row in rows if row.parts]
    if timed:
        lines += ["", "| share of a step | " + " | ".join(PARTS) + " | communication, within the others |"]
        lines += ["|---|" + "---:|" * (len(PARTS) + 1)]
        for row in timed:
            shares = (*(row.parts.get(part, 0.0) for part in PARTS), row.parts.get("communication", 0.0))
            lines.append(f"| `{row.layout}` | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    for layout, words in sweep.failed.items():
        lines += ["", f"`{layout}` was not measured: it {' '.join(words.split())[:300]}"]
    return "\n".join(lines) + "\n"


def _machine(measured: Mapping[str, Any]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in measured["machine"].items())
    versions = ", ".join(f"{name} {value}" for name, value in measured["versions"].items())
    return f"Device {measured['device']}, {measured['threads']} thread(s) a rank. {machine}. {versions}."


def _said(settings: Mapping[str, Any], gpu: Accelerator | None) -> str:
    peak = "the matrix products measured beside each layout" if gpu is None else f"the {gpu.name}'s {gpu.source}"
    share = "of what the other layouts reach" if gpu is None else "of the profile"
    return (
        f"Rows of {settings['sequence_length']:,} tokens, {settings['rows']} a step, {settings['steps']} steps, "
        f"medians. Operations: three forward passes of the matrix products of every token, causal attention inside "
        f"documents, active experts, the output layer where there is a label. MFU over {peak}. The expected step is "
        f"the planner's, {share}; never of the layout itself."
    )


def sweep_json(sweep: Sweep, rows: Sequence[SweepRow], command: str) -> dict[str, Any]:
    """All figures; the files beside it hold every step."""
    return {"command": command, "layouts": [asdict(row) for row in rows], "failed": dict(sweep.failed)}
