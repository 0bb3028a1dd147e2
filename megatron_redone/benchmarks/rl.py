"""Speed of alignment: a DAPO step by part, DPO pairs a second, tokens a second of the generators, beside peers.

Every side of a part runs once a round in a fresh process, with the same threads and allocator settings, in an order
that turns from round to round; a ratio is formed inside a round, so that what else the machine does falls on all
sides. A run during which others took too much of the machine is repeated. All sides read the same token ids in the
same order; where they do not, there is no result.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.benchmarks.part_clock import PARTS as STEP_PARTS
from megatron_redone.benchmarks.quiet import Watched, run_until_quiet
from megatron_redone.benchmarks.rl_config import Part, RLBenchmarkConfig
from megatron_redone.benchmarks.rl_inputs import BenchmarkInputs, prepare_inputs
from megatron_redone.common.errors import RedoneError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.launch.processes import redone_command
from megatron_redone.launch.threads import MARKER, THREAD_VARIABLES, device_kind, process_settings

OURS = "ours"
SIDE_COMMAND = ("benchmark", "rl-side")
UNEQUAL_LENGTHS = 0.05
"""Sides whose answers differ more in their number of tokens are told apart in the result."""


@dataclass(frozen=True)
class Side:
    """One program that is measured on one part."""

    name: str
    command: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass
class Job:
    """One benchmark on its way: settings, files, environment of the sides."""

    config: RLBenchmarkConfig
    inputs: BenchmarkInputs
    folder: Path
    environ: Mapping[str, str]
    tell: Callable[[str], None]


def measure_alignment(
    config: RLBenchmarkConfig, folder: Path, environ: Mapping[str, str], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measures the parts that are asked for; the result by part, as JSON values.

    Args:
        folder: empty; takes inputs and results of the sides.
        environ: environment of the sides, to which threads and allocator settings are added.
    Raises:
        RedoneError: a side failed, or two sides read different tokens.
        DataError: rows or pairs that cannot be used.
    """
    inputs = prepare_inputs(config, folder)
    job = Job(config, inputs, folder, environ, tell)
    found: dict[str, Any] = {}
    for part in config.parts:
        tell(f"{part}:")
        found[part] = _rollouts(job) if part == "rollout" else _rounds(job, part)
    return found


def sides(config: RLBenchmarkConfig, part: Part) -> list[Side]:
    """Ours and, where a peer is given, its sides."""
    ours = Side(OURS, tuple(redone_command(SIDE_COMMAND)), {})
    if not config.peer:
        return [ours]
    command, unit = tuple(shlex.split(config.peer)), "sequences" if part == "dapo" else "pairs"
    found = [ours]
    for compiled in (False, True) if config.compile_peer else (False,):
        for size in (config.dapo if part == "dapo" else config.dpo).peer_batches:
            name = f"peer, {size} {unit} at once" + (", compiled" if compiled else "")
            found.append(Side(name, command, {"micro_batch": size, "compile": compiled}))
    return found


def _rounds(job: Job, part: Part) -> dict[str, Any]:
    compared = sides(job.config, part)
    runs: dict[str, list[Watched[dict[str, Any]]]] = {side.name: [] for side in compared}
    for number in range(job.config.rounds):
        for side in compared if number % 2 == 0 else compared[::-1]:
            watched = run_until_quiet(
                lambda side=side: _run_side(job, part, side),  # type: ignore[misc]
                job.config.max_other_cores,
                job.config.max_repeats,
                job.tell,
            )
            runs[side.name].append(watched)
            job.tell(
                f"  round {number + 1} of {job.config.rounds}, {side.name}: {seconds_of(watched.result):.2f} s a step, "
                f"others {watched.other_cores:.2f} cores"
            )
    check_same_work(part, {name: [watched.result for watched in of_side] for name, of_side in runs.items()})
    return summary(part, job.config, runs)


def _run_side(job: Job, part: Part, side: Side) -> dict[str, Any]:
    """The measurements of one run in a fresh process."""
    settings, out, work = job.folder / "settings.json", job.folder / "measured.json", job.folder / "work"
    paths = {name: str(path.resolve()) for name, path in vars(job.inputs).items()}
    given = {"part": part, "config": job.config.model_dump(mode="json"), "inputs": paths, "work": str(work)}
    atomic_write_json(settings, {**given, **side.options})
    command = [*side.command, str(settings), "--out", str(out)]
    run_program(side.name, command, side_environment(job.config, job.environ, ours=side.name == OURS))
    measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()
    return measured


def run_program(name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs a command to its end.

    Raises:
        RedoneError: it failed; with the end of what it said.
    """
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout)[-2000:]
        raise RedoneError(f"{name}: {shlex.join(command)} ended with {done.returncode}:\n{said}")


def side_environment(config: RLBenchmarkConfig, environ: Mapping[str, str], *, ours: bool) -> dict[str, str]:
    """The environment of a side: threads and allocator alike for all; ours alone sees PYTHONPATH."""
    settings = process_settings(device_kind(environ)) | dict.fromkeys(THREAD_VARIABLES, str(config.threads))
    found = {**environ, **settings, MARKER: ",".join(sorted(settings))}
    if not ours:
        found.pop("PYTHONPATH", None)
    return found


def seconds_of(run: Mapping[str, Any]) -> float:
    """Median seconds of a run's steps."""
    return float(statistics.median(step["seconds"] for step in run["steps"]))


def check_same_work(part: Part, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """All sides must have read the same tokens in every step.

    Raises:
        RedoneError: they have not.
    """
    column = "prompt_tokens" if part == "dapo" else "trained_tokens"
    expected = [step[column] for step in runs[OURS][0]["steps"]]
    for name, of_side in runs.items():
        for run in of_side:
            tokens = [step[column] for step in run["steps"]]
            if tokens != expected:
                raise RedoneError(f"{part}: {name} read {tokens} {column}, ours {expected}; the comparison is void")


def summary(
    part: Part, config: RLBenchmarkConfig, runs: Mapping[str, Sequence[Watched[dict[str, Any]]]]
) -> dict[str, Any]:
    """For each side medians over rounds with their spread, time by part and the ratio to ours inside a round.

    `peer_over_ours` is seconds of the side over ours in the same round: above 1, ours is faster. `fastest_peer` names
    the side with the smallest median.
    """
    units = config.dapo.prompts_per_rollout * config.dapo.responses_per_prompt
    unit = "answers_per_second" if part == "dapo" else "pairs_per_second"
    units = units if part == "dapo" else config.dpo.pairs_per_step
    ours = [seconds_of(run.result) for run in runs[OURS]]
    new_tokens = {name: _mean(of_side, "new_tokens") for name, of_side in runs.items()}
    found: dict[str, Any] = {}
    for name, of_side in runs.items():
        seconds = [seconds_of(run.result) for run in of_side]
        found[name] = {
            "seconds_per_step": _spread(seconds),
            unit: _spread([units / value for value in seconds]),
            "cpu_seconds_per_step": _spread([_median(run.result, "cpu_seconds") for run in of_side]),
            "peer_over_ours": _spread([theirs / own for theirs, own in zip(seconds, ours, strict=True)]),
            "parts": {key: statistics.median(_part(run.result, key) for run in of_side) for key in STEP_PARTS},
            "new_tokens_per_step": new_tokens[name],
            "same_lengths": abs(new_tokens[name] - new_tokens[OURS]) <= UNEQUAL_LENGTHS * max(new_tokens[OURS], 1),
            "other_cores": [round(run.other_cores, 3) for run in of_side],
            "repeats": sum(run.repeats for run in of_side),
            "all_quiet": all(run.quiet for run in of_side),
            "versions": of_side[0].result["versions"],
            "runs": [run.result["steps"] for run in of_side],
        }
    peers = [name for name in runs if name != OURS]
    fastest = min(peers, key=lambda name: found[name]["seconds_per_step"]["median"], default=None)
    return {"unit": unit, "fastest_peer": fastest, "sides": found}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _median(run: Mapping[str, Any], name: str) -> float:
    return float(statistics.median(step[name] for step in run["steps"]))


def _mean(runs: Sequence[Watched[dict[str, Any]]], name: str) -> float:
    return statistics.fmean(step[name] for run in runs for step in run.result["steps"])


def _part(run: Mapping[str, Any], name: str) -> float:
    return float(statistics.median(step["parts"].get(name, 0.0) for step in run["steps"]))


def _rollouts(job: Job) -> dict[str, Any]:
    """`redone benchmark rollout` over the same model; with vLLM in the environment that has it."""
    config, out = job.config, job.folder / "rollout.json"
    python = str(config.vllm_python or sys.executable)
    engines = "megatron,transformers,vllm" if config.vllm_python else "megatron,transformers"
    sizes = config.rollout.model_dump()
    options = [word for name, value in sizes.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [python, *redone_command(["benchmark", "rollout"])[1:], "--model", str(job.inputs.model.resolve())]
    command += ["--engines", engines, "--precision", config.precision, "--out", str(out), *options]

    def run() -> dict[str, Any]:
        run_program("rollout", command, side_environment(config, job.environ, ours=True))
        measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return measured

    watched = run_until_quiet(run, config.max_other_cores, config.max_repeats, job.tell)
    return {
        **watched.result,
        "other_cores": round(watched.other_cores, 3),
        "repeats": watched.repeats,
        "all_quiet": watched.quiet,
    }
