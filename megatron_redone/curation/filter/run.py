"""The whole filter: plan, passes, and the result put together from what the tasks left."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, Interrupted
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.common.logging import get_logger
from megatron_redone.curation.filter.account import LOGPROB_BIN, Account, Tally, length_edge
from megatron_redone.curation.filter.config import FilterConfig
from megatron_redone.curation.filter.pieces import Piece, plan_tasks, to_json
from megatron_redone.data.text_files import undivided_warning
from megatron_redone.reporting.filter_page import RESULT, write_filter_page

LOG = get_logger("curation")
STEPS = "steps"
"""Where the passes work, inside the work folder; it is gone from the finished artefact."""
CLEARED = "steps.done"
CORPUS_PREFIX = "corpus-"
STEP_OF_REASON = {
    "encoding": "rules",
    "html": "rules",
    "too_short": "rules",
    "too_long": "rules",
    "urls": "rules",
    "symbols": "rules",
    "repetition": "rules",
    "language_unclear": "rules",
    "language": "rules",
    "repeated_id": "exact duplicates",
    "exact_duplicate": "exact duplicates",
    "near_duplicate": "near duplicates",
    "benchmark": "benchmarks",
    "incoherent": "language model",
    "too_predictable": "language model",
    "tone": "tone",
}
"""Every reason for which a document can be dropped, in the order of the passes."""


@dataclass(frozen=True)
class Filtered:
    """What a run did."""

    counts: dict[str, int | float]
    refused: list[str]
    seconds: dict[str, float] = field(default_factory=dict)


def filter_corpus(
    config: FilterConfig,
    documents: Sequence[Path],
    work: Path,
    seed: int,
    max_refused_share: float,
    benchmarks: Sequence[Path] = (),
    model: Path | None = None,
    tone_model: Path | None = None,
    stop: Callable[[], Interrupted | None] = lambda: None,
) -> Filtered:
    """Filters documents into `work`; started again after an interruption, it does what is left.

    Args:
        documents: files and folders of documents.
        work: kept over an interruption. Gets the kept corpus, `dropped/REASON.jsonl`, `kept_samples.jsonl`,
            `filter.json`, `filter.html`.
        max_refused_share: a file with a larger share of refused lines ends the run.
        benchmarks: files and folders of benchmarks, where `config.decontamination` is set.
        model: folder of the language model, where `config.language_model` is set.
        tone_model: folder of the classifier, where `config.tone` is set.
        stop: asked between tasks; an error ends the run.

    Raises:
        DataError: no documents, or too many refused lines.
        Interrupted: `stop` asked for it, or Slurm has the rest.
    """
    from megatron_redone.curation.filter.executors import run_locally, submit_to_slurm
    from megatron_redone.curation.filter.passes import Inputs, Pass, plan_passes

    shutil.rmtree(work / CLEARED, ignore_errors=True)
    root = (work / STEPS).resolve()
    pieces = _plan(root, documents, config.shard_mib)
    inputs = {Path(piece.path): Path(piece.path).stat().st_size for task in pieces for piece in task}
    if warning := undivided_warning(inputs, len(pieces), config.executor.workers, config.shard_mib << 20):
        LOG.warning("%s", warning)
    passes = plan_passes(config, Inputs(pieces, work.resolve(), benchmarks, model, tone_model), root, seed)
    seconds: dict[str, float] = {}
    if config.executor.kind == "slurm":
        submit_to_slurm(passes, root, config.executor)
    else:

        def check(done: Pass) -> None:
            if done is passes[0]:  # before anything more is spent on a broken input
                _check_refused(_merged(root, config, seed), max_refused_share)

        seconds = run_locally(passes, root, config.executor, stop, check)
    account = _merged(root, config, seed)
    _check_refused(account, max_refused_share)
    shards = _corpus_files(work)
    result = _result(account, root, config, shards)
    atomic_write_json(work / RESULT, result)
    _write_samples(account, work)
    write_filter_page(work)
    _clear(work, root, shards)
    return Filtered(_counts(result), account.refused, seconds)


def _plan(root: Path, documents: Sequence[Path], shard_mib: int) -> list[list[Piece]]:
    """The tasks' pieces; made once, so that a run that goes on divides its input as before."""
    path = root / "plan.json"
    if path.is_file():
        return [[Piece(**piece) for piece in task] for task in json.loads(path.read_text(encoding="utf-8"))]
    pieces = plan_tasks([source.resolve() for source in documents], shard_mib << 20)
    atomic_write_json(path, to_json(pieces))
    return pieces


def _merged(root: Path, config: FilterConfig, seed: int) -> Account:
    """The accounts of all tasks as one."""
    account = Account(seed, config.samples_per_reason, config.sample_characters)
    for path in sorted((root / "accounts").rglob("*.json")):
        account.merge_file(path)
    return account


def _check_refused(account: Account, max_refused_share: float) -> None:
    """Ends the run on a file with too many refused lines, and on a corpus without documents."""
    for label, (lines, refused) in sorted(account.lines.items()):
        if lines and refused / lines > max_refused_share:
            first = next((message for message in account.refused if message.startswith(f"{label}:")), "not recorded")
            raise DataError(
                f"{label}: {refused} of {lines} lines cannot be read, more than max_refused_share={max_refused_share}; "
                f"the first: {first}"
            )
    if not account.tallies.get("read", Tally()).documents:
        first = f"; the first problem: {account.refused[0]}" if account.refused else ""
        raise DataError(f"no documents in the input{first}; give files with one JSON object a line")


def _corpus_files(work: Path) -> list[str]:
    """The kept shards; a single one is unpacked as `corpus.jsonl`, which the tokenizer's stages read."""
    shards = sorted(work.glob(f"{CORPUS_PREFIX}*.jsonl.gz"))
    if len(shards) > 1:
        return [shard.name for shard in shards]
    temporary = work / ".corpus.jsonl.tmp"
    with gzip.open(shards[0], "rb") as packed, temporary.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    temporary.replace(work / "corpus.jsonl")
    return ["corpus.jsonl"]


def _clear(work: Path, root: Path, shards: Sequence[str]) -> None:
    """Removes what the passes worked with. The rename comes first: half a folder of steps must not be gone on with."""
    root.rename(work / CLEARED)
    shutil.rmtree(work / CLEARED)
    if shards == ["corpus.jsonl"]:
        for packed in work.glob(f"{CORPUS_PREFIX}*.jsonl.gz"):
            packed.unlink()


def _result(account: Account, root: Path, config: FilterConfig, shards: list[str]) -> dict[str, Any]:
    """filter.json: what `reporting/filter_page.py` reads."""
    reasons = [reason for reason in STEP_OF_REASON if f"dropped/{reason}" in account.tallies]
    bounds = root / "bounds.json"
    return {
        "read": vars(account.tallies["read"]),
        "kept": vars(account.tallies.get("kept", Tally())),
        "dropped": [
            {"step": STEP_OF_REASON[reason], "reason": reason, **vars(account.tallies[f"dropped/{reason}"])}
            for reason in reasons
        ],
        "changed": dict(sorted(account.changed.items())),
        "refused": account.num_refused,
        "refused_messages": account.refused,
        "lengths": {
            name: [[length_edge(place), count] for place, count in sorted(account.histograms[f"length/{name}"].items())]
            for name in ("read", "kept")
            if f"length/{name}" in account.histograms
        },
        "likelihoods": _likelihoods(account.histograms),
        "bounds": json.loads(bounds.read_text(encoding="utf-8"))["bounds"] if bounds.is_file() else {},
        "samples": {
            reason: list(account.samples[reason].items()) for reason in [*reasons, "kept"] if reason in account.samples
        },
        "shards": shards,
    }


def _likelihoods(histograms: Mapping[str, Mapping[int, int]]) -> dict[str, dict[str, list[list[float]]]]:
    """language -> kept, dropped -> [smallest mean log-probability of a bin, documents]."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for name, bins in sorted(histograms.items()):
        if name.startswith("likelihood/"):
            _, language, outcome = name.split("/")
            found.setdefault(language, {})[outcome] = [[place * LOGPROB_BIN, n] for place, n in sorted(bins.items())]
    return found


def _write_samples(account: Account, work: Path) -> None:
    """dropped/REASON.jsonl and kept_samples.jsonl."""
    for reason, samples in account.samples.items():
        path = work / "kept_samples.jsonl" if reason == "kept" else work / "dropped" / f"{reason}.jsonl"
        write_jsonl(path, samples.items())


def _counts(result: Mapping[str, Any]) -> dict[str, int | float]:
    """The manifest's counts. `documents` is the sum of `kept` and all `dropped/...`."""
    counts: dict[str, int | float] = {"documents": result["read"]["documents"], "units": result["read"]["units"]}
    counts |= {f"dropped/{entry['reason']}": entry["documents"] for entry in result["dropped"]}
    counts |= {"kept": result["kept"]["documents"], "kept_units": result["kept"]["units"]}
    counts |= {f"changed/{kind}": count for kind, count in result["changed"].items() if "/" not in kind}
    return counts | {"refused": result["refused"], "shards": len(result["shards"])}
