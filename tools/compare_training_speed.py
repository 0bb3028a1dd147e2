"""Compares the speed of our SFT with TRL's: same model, conversations, data type, threads and allocator settings.

    python tools/make_benchmark_inputs.py --out runs/benchmark
    python tools/compare_training_speed.py --inputs runs/benchmark --trl-python .venv-trl/bin/python

Each round runs every side once in a fresh process, in an order that turns from round to round; a ratio is formed inside
a round, so that what else the machine does falls on all sides. Prints a Markdown table and the same as JSON. With
`--check` nothing is timed: both sides train in fp32 on conversations that fit in one packed row, and tokens, labels and
losses must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.curation.conversations import TrainingConversation, read_conversations
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.launch.threads import MARKER, THREAD_VARIABLES, process_settings

OURS = "ours"
PEERS: dict[str, list[str]] = {
    "TRL": [],
    "TRL, not compiled": ["--no-compile"],
    "TRL, weights in bf16": ["--precision", "bf16-weights"],
    "TRL changed to score labelled positions only": ["--labelled-positions-only"],
}
"""The peer with its fastest settings, and variants of it: without torch.compile; with weights, gradients and moments of
Adam in bf16, where the others keep fp32 weights; without the work on unlabelled positions that it does on CPU only."""
UNITS = {"useful_tokens_per_second": "step_seconds", "useful_tokens_per_cpu_second": "cpu_seconds"}
CHECK_STEPS = 5
CHECK_TOLERANCE = 1e-5
"""Largest relative difference of losses in fp32; both sides sum in another order."""


@dataclass(frozen=True)
class Side:
    """One program that is measured."""

    name: str
    program: list[str]
    options: list[str]


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", required=True, type=Path, help="what tools/make_benchmark_inputs.py wrote")
    parser.add_argument("--trl-python", required=True, type=Path, help="Python of the environment of trl.lock")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="measured steps of a run")
    parser.add_argument("--warmup", type=int, default=6, help="steps before them")
    parser.add_argument("--sequence-length", type=int, default=1_024, help="tokens of a packed row")
    parser.add_argument("--threads", type=int, default=2, help="threads of every side")
    parser.add_argument("--all-peers", action="store_true", help="also variants of TRL")
    parser.add_argument("--check", action="store_true", help="compare tokens, labels and losses instead of speed")
    parser.add_argument("--out", type=Path, help="write all measurements to this JSON file")
    return parser.parse_args(arguments)


def sides(options: argparse.Namespace) -> list[Side]:
    """Ours and the peers."""
    tools = Path(__file__).resolve().parent
    peers = list(PEERS) if options.all_peers else list(PEERS)[:1]
    trl = [str(options.trl_python), "-W", "ignore", str(tools / "trl_sft.py")]
    ours = [sys.executable, "-m", "megatron_redone.cli", "benchmark", "train"]
    return [Side(OURS, ours, []), *(Side(name, trl, PEERS[name]) for name in peers)]


def run_side(side: Side, extra: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """The measurements of one run in a fresh process.

    Raises:
        RedoneError: the program fails.
    """
    settings = process_settings("cpu") | dict.fromkeys(THREAD_VARIABLES, str(options.threads))
    environment = {**os.environ, **settings, MARKER: ",".join(sorted(settings))}
    if side.name != OURS:
        environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        command = [*side.program, "--model", str(options.inputs / "model"), *extra, *side.options]
        command += ["--sequence-length", str(options.sequence_length), "--out", str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not out.is_file():
            raise RedoneError(f"{side.name}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return measured


def rate(run: Mapping[str, Any], time: str) -> float:
    """Median over the steps of a run of useful tokens per second of `step_seconds` or `cpu_seconds`."""
    rates: list[float] = [tokens / taken for tokens, taken in zip(run["real_tokens"], run[time], strict=True)]
    return statistics.median(rates)


def compare_speed(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The runs of each side, round by round."""
    compared = sides(options)
    runs: dict[str, list[dict[str, Any]]] = {side.name: [] for side in compared}
    extra = ["--conversations", str(options.inputs / "conversations.jsonl"), "--precision", "bf16"]
    extra += ["--steps", str(options.steps), "--warmup", str(options.warmup)]
    for number in range(options.rounds):
        for side in compared if number % 2 == 0 else compared[::-1]:
            run = run_side(side, extra, options)
            runs[side.name].append(run)
            told = f"{rate(run, 'step_seconds'):,.0f} tokens/s, {rate(run, 'cpu_seconds'):,.0f} per CPU second"
            print(f"round {number + 1}, {side.name}: {told}", file=sys.stderr)
    return runs


def summary(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """For each side medians over rounds, the share of labelled tokens, and the ratio ours / side of each round."""
    found: dict[str, dict[str, Any]] = {}
    for name, of_side in runs.items():
        labelled, real = (sum(sum(run[column]) for run in of_side) for column in ("labelled_tokens", "real_tokens"))
        found[name] = {"labelled_share": labelled / real}
        for unit, time in UNITS.items():
            ratios = [rate(ours, time) / rate(run, time) for ours, run in zip(runs[OURS], of_side, strict=True)]
            found[name] |= {
                unit: statistics.median(rate(run, time) for run in of_side),
                f"ratios_{unit}": ratios,
                f"ratio_{unit}": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
            }
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The summary in Markdown."""
    lines = [
        "| | useful tokens/s | per CPU second | labelled | ours / this: tokens/s (min to max) | per CPU second |",
        "|---|---|---|---|---|---|",
    ]
    for name, side in found.items():
        cells = [f"{side[unit]:,.0f}" for unit in UNITS] + [f"{side['labelled_share']:.1%}"]
        for unit in UNITS:
            ratio = side[f"ratio_{unit}"]
            spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
            cells.append("" if name == OURS else spread)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def one_row(conversations: Sequence[TrainingConversation], model: Path, max_tokens: int) -> list[TrainingConversation]:
    """The first conversations that fit together in one packed row."""
    template = ChatTemplate(load_tokenizer(model))
    kept, room = [], max_tokens
    for conversation in conversations:
        length = len(template.training_ids(conversation.messages).token_ids)
        if length > room:
            break
        kept.append(conversation)
        room -= length
    if len(kept) < 2:
        raise InputError(f"--sequence-length {max_tokens}: no two conversations fit in a row; raise it")
    return kept


def check(options: argparse.Namespace) -> bool:
    """Whether both sides see the same tokens and labels and have the same losses; prints them."""
    conversations = list(read_conversations(options.inputs / "conversations.jsonl"))
    kept = one_row(conversations, options.inputs / "model", options.sequence_length)
    ours, trl = sides(options)[:2]
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "row.jsonl"
        write_jsonl(rows, (conversation.to_json() for conversation in kept))
        extra = ["--conversations", str(rows), "--precision", "fp32", "--steps", str(CHECK_STEPS), "--warmup", "1"]
        runs = [run_side(side, extra, options) for side in (ours, trl)]
    print(
        f"{len(kept)} conversations in one row",
        "| step | side | tokens | labels | loss |",
        "|---|---|---|---|---|",
        sep="\n",
    )
    for step in range(CHECK_STEPS):
        for side, run in zip((ours, trl), runs, strict=True):
            loss = f"{run['losses'][step]:.6f}"
            print(
                f"| {step + 2} | {side.name} | {run['real_tokens'][step]} | {run['labelled_tokens'][step]} | {loss} |"
            )
    same = all(runs[0][name] == runs[1][name] for name in ("real_tokens", "labelled_tokens"))
    difference = max(abs(a - b) / abs(b) for a, b in zip(runs[0]["losses"], runs[1]["losses"], strict=True))
    print(f"largest relative difference of the losses: {difference:.1e} (at most {CHECK_TOLERANCE:.0e})")
    return same and difference <= CHECK_TOLERANCE


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, compares, prints; returns the exit code."""
    options = read_arguments(arguments)
    try:
        if options.check:
            return 0 if check(options) else 1
        runs = compare_speed(options)
    except RedoneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    found = summary(runs)
    print(table(found), json.dumps(found, indent=2), sep="\n\n")
    if options.out:
        atomic_write_json(options.out, {"summary": found, "runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
