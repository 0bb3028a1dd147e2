"""The errors of the planner's times, as tables in Markdown. Imports no torch."""

from __future__ import annotations

from megatron_redone.planning.records import leave_one_out
from megatron_redone.planning.rl_records import leave_one_out_steps


def speed_markdown() -> str:
    """Every published speed of training beside what all others say of it."""
    lines = [
        "| record (H100, bf16) | tokens/s/GPU | MFU | expected | expected / published | "
        "dense, experts, us an operation, imbalance from the others |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for one in leave_one_out():
        record, fitted = one.record, one.fitted
        name = record.name if record.calibrates else f"*{record.name}*"
        figures = (
            f"{fitted.dense:.2f}, {fitted.experts:.2f}, {1e6 * fitted.operation_seconds:.1f}, {fitted.imbalance:.2f}"
        )
        lines.append(
            f"| {name} | {record.tokens_per_second:,.0f} | {record.mfu:.1%} | "
            f"{one.expected.tokens_per_second_per_rank:,.0f} | {one.ratio:.2f} | {figures} |"
        )
    return "\n".join(lines) + "\n"


def steps_markdown() -> str:
    """Every published step of reinforcement learning beside what the others say of it."""
    lines = [
        "| record (GRPO on policy, H100, bf16) | published | expected | expected / published | drawing | passes | "
        "training | weights | share of the bandwidth from the others |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in leave_one_out_steps():
        parts = (one.expected.drawing, one.expected.passes, one.expected.training, one.expected.weights)
        lines.append(
            f"| {one.record.name} | {one.record.seconds:g} s | {one.expected.seconds:.0f} s | {one.ratio:.2f} | "
            + " | ".join(f"{part:.1f} s" for part in parts)
            + f" | {one.share:.2f} |"
        )
    return "\n".join(lines) + "\n"
