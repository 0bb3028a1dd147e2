"""Which training stages read a row or document, and which learnt from it: from their lists of samples."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.recipes.lineage.artefacts import Artefact, ArtefactGraph
from megatron_redone.training.ledger import DataLedger
from megatron_redone.training.run import LEDGER
from megatron_redone.training.sample_log import PACKED_SAMPLES, read_sample_log

TOKENS = "tokens"
"""Field of a stage that reads an indexed corpus; its samples are named `PREFIX:DOCUMENT:START:epochE`."""


@dataclass
class Trained:
    """What one training stage did with the ids."""

    artefact: Artefact
    verdict: Literal["learnt", "read only", "not read", "unknown"] = "not read"
    """`read only`: in groups that were thrown away, or in steps that were left out."""
    reason: str = ""
    """Why it is unknown."""
    num_steps: int = 0
    steps_read: dict[str, list[int]] = field(default_factory=dict)
    """By id: the steps, from 0, in which it was read."""
    steps_learnt: dict[str, list[int]] = field(default_factory=dict)
    """By id: the steps that learnt from it."""


def is_training(artefact: Artefact) -> bool:
    """Whether the stage trained a model on samples."""
    return (artefact.folder / LEDGER).is_file()


def trained_on(graph: ArtefactGraph, artefact: Artefact, ids: Collection[str]) -> Trained:
    """Looks the ids up in the stage's list of samples, which is first proved against the hash chain of its ledger."""
    found = Trained(artefact)
    log = artefact.folder / PACKED_SAMPLES
    if not log.is_file():
        return _unknown(found, f"it has no {PACKED_SAMPLES}: it was trained before samples were listed")
    try:
        names = _names_of_samples(graph, artefact, ids)
        _look_up(found, log, names)
    except DataError as error:
        return _unknown(found, str(error))
    except (EOFError, OSError, ValueError, zlib.error) as error:
        return _unknown(found, f"{log.name} is damaged ({error})")
    if found.steps_learnt:
        found.verdict = "learnt"
    elif found.steps_read:
        found.verdict = "read only"
    return found


def _unknown(found: Trained, reason: str) -> Trained:
    return Trained(found.artefact, "unknown", reason)


def _look_up(found: Trained, log: Path, names: Mapping[str, str]) -> None:
    """Fills in the steps.

    Raises:
        DataError: the list is not that of the ledger.
    """
    folder = found.artefact.folder
    chains = {row["step"]: row["chain"] for _, row in read_jsonl(folder / LEDGER)}
    updated = _updated_steps(folder)
    ledger = DataLedger()
    for line in read_sample_log(log):
        step = line["step"]
        ledger.add(line["read"])
        if chains.get(step) != ledger.chain:
            raise DataError(f"{log.name} and {LEDGER} part at step {step}: samples before it are missing or changed")
        found.num_steps += 1
        learnt = line.get("learnt", line["read"]) if updated.get(step, 1.0) > 0 else []
        for samples, steps in ((line["read"], found.steps_read), (learnt, found.steps_learnt)):
            for name in dict.fromkeys(_matches(samples, names)):
                steps.setdefault(name, []).append(step)
    if found.num_steps != len(chains):
        raise DataError(f"{log.name} has {found.num_steps} steps, {LEDGER} {len(chains)}")


def _matches(samples: Collection[str], names: Mapping[str, str]) -> Iterator[str]:
    """The ids that the samples stand for; a sample's name is known whole, or up to its second colon."""
    for sample in samples:
        name = names.get(sample) or names.get(":".join(sample.split(":", 2)[:2]) + ":")
        if name is not None:
            yield name


def _updated_steps(folder: Path) -> dict[int, float]:
    """By step: whether the weights were updated (the share of updates, where a step has several)."""
    path = folder / "metrics.jsonl"
    rows = (row for _, row in read_jsonl(path)) if path.is_file() else ()
    return {int(row["step"]): float(row.get("updated", 1.0)) for row in rows}


def _names_of_samples(graph: ArtefactGraph, artefact: Artefact, ids: Collection[str]) -> Mapping[str, str]:
    """What the stage calls the ids: rows and conversations by their own, documents of an indexed corpus by number.

    Raises:
        DataError: the numbers cannot be told.
    """
    tokens = next((read for read in graph.inputs(artefact) if read.field == TOKENS), None)
    if tokens is None:
        return {one: one for one in ids}
    if tokens.producer is None:
        raise DataError(f"its tokens {tokens.record.path} are not among the folders given")
    corpus = next((read for read in graph.inputs(tokens.producer) if read.field == "corpus"), None)
    if corpus is None or corpus.producer is None:
        raise DataError(f"the corpus of {tokens.producer.name} is not among the folders given")
    return {f"corpus:{number}:": one for one, number in _numbers(tokens.producer, corpus.producer, ids)}


def _numbers(tokens: Artefact, corpus: Artefact, ids: Collection[str]) -> Iterator[tuple[str, int]]:
    """(id, number in the indexed corpus) of the documents: they are numbered in the order of the corpus.

    Raises:
        DataError: the tokens have another number of documents than the corpus has lines.
    """
    wanted, number = set(ids), 0
    found: list[tuple[str, int]] = []
    for path in corpus_files(corpus.folder):
        for _, value in read_jsonl(path):
            if value.get("id") in wanted:
                found.append((value["id"], number))
            number += 1
    if number != tokens.manifest.counts.get("documents"):
        raise DataError(
            f"{tokens.name} has {tokens.manifest.counts.get('documents')} documents, its corpus {number} lines: "
            "documents without tokens were left out, so their numbers cannot be told"
        )
    yield from found


def corpus_files(folder: Path) -> list[Path]:
    """The corpus of a folder: its `corpus*.jsonl` in order."""
    found = sorted(folder.glob("corpus*.jsonl"))
    if not found:
        raise DataError(f"{folder}: no corpus*.jsonl")
    return found


def tally(found: Trained) -> str:
    """A sentence."""
    match found.verdict:
        case "unknown":
            return f"cannot be told: {found.reason}"
        case "not read":
            return f"not read in {found.num_steps:,} steps"
        case "read only":
            return f"read in {_steps(found.steps_read)}, but no update came of it"
        case "learnt":
            return f"learnt in {_steps(found.steps_learnt)} of {found.num_steps:,}"


def _steps(steps: Mapping[str, list[int]], shown: int = 6) -> str:
    every = sorted({step for found in steps.values() for step in found})
    listed = ", ".join(map(str, every[:shown])) + (f", ... ({len(every):,} in all)" if len(every) > shown else "")
    return f"step{'s' * (len(every) != 1)} {listed}"


def as_json(found: Trained) -> dict[str, object]:
    """For `--json`."""
    return {
        "stage": found.artefact.name,
        "folder": str(found.artefact.folder),
        "verdict": found.verdict,
        "reason": found.reason,
        "num_steps": found.num_steps,
        "steps_read": found.steps_read,
        "steps_learnt": found.steps_learnt,
    }
