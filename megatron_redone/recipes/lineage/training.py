"""Which training stages read a row or document, and which learnt from it: from their lists of samples."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.curation.general_text import CORPUS
from megatron_redone.curation.interactions.reading import input_files
from megatron_redone.curation.tokens.shard import TRAIN, document_key, split_of
from megatron_redone.recipes.lineage.artefacts import Artefact, ArtefactGraph, Input
from megatron_redone.recipes.lineage.occurrences import lines_of, object_of
from megatron_redone.training.ledger import DataLedger
from megatron_redone.training.run import LEDGER
from megatron_redone.training.sample_log import PACKED_SAMPLES, read_sample_log

TOKENS, BLEND, ONE_CORPUS = "tokens", "blend.corpora.", "corpus"
"""Fields of a stage that reads indexed corpora: one, whose documents are called `corpus`, or a blend of named ones.
Its samples are called `CORPUS:DOCUMENT:START:epochE`."""


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
        indexed = _indexed_corpora(graph, artefact)
        names = {one: one for one in ids}
        if indexed:
            names = {f"{name}:{n}": one for name, read in indexed.items() for one, n in _numbers(graph, read, ids)}
        _look_up(found, log, names, bool(indexed))
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


def _look_up(found: Trained, log: Path, names: Mapping[str, str], in_pieces: bool) -> None:
    """Fills in the steps.

    Args:
        names: what a sample may be called, and the id that it stands for.
        in_pieces: samples are pieces of documents; what they are called ends with start and epoch.

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
            called = (sample.rsplit(":", 2)[0] for sample in samples) if in_pieces else samples
            for identifier in dict.fromkeys(names[name] for name in called if name in names):
                steps.setdefault(identifier, []).append(step)
    if found.num_steps != len(chains):
        raise DataError(f"{log.name} has {found.num_steps} steps, {LEDGER} {len(chains)}")


def _updated_steps(folder: Path) -> dict[int, float]:
    """By step: whether the weights were updated (the share of updates, where a step has several)."""
    path = folder / "metrics.jsonl"
    rows = (row for _, row in read_jsonl(path)) if path.is_file() else ()
    return {int(row["step"]): float(row.get("updated", 1.0)) for row in rows}


def _indexed_corpora(graph: ArtefactGraph, artefact: Artefact) -> dict[str, Input]:
    """The tokens that the stage reads, by what their documents are called; none for a stage that reads rows."""
    return {
        ONE_CORPUS if read.field == TOKENS else read.field.removeprefix(BLEND): read
        for read in graph.inputs(artefact)
        if read.field == TOKENS or read.field.startswith(BLEND)
    }


def _numbers(graph: ArtefactGraph, read: Input, ids: Collection[str]) -> list[tuple[str, int]]:
    """(id, number in the indexed corpus) of documents: they are numbered in the order of the corpus, without those
    kept for validation, which are in no training step.

    Raises:
        DataError: the tokens have another number of documents than the corpus has lines, or one of the two is not here.
    """
    tokens = read.producer
    if tokens is None:
        raise DataError(f"its tokens {read.record.path} are not among the folders given")
    corpus = next((made_of for made_of in graph.inputs(tokens) if made_of.field == "corpus"), None)
    folder = None if corpus is None else corpus.producer.folder if corpus.producer else corpus.path
    if folder is None:
        raise DataError(f"the corpus of {tokens.name} is not among the folders given")
    settings = tokens.manifest.config
    id_key, text_key = settings.get("id_key", "id"), settings.get("text_key", "text")
    share = settings.get("validation_share", 0.0)
    wanted, number = set(ids), 0
    found: list[tuple[str, int]] = []
    for path in input_files(folder, CORPUS):
        for _, line in lines_of(path):
            if line.strip():
                document = object_of(line)
                identifier = document.get(id_key)
                key = document_key(str(document.get(text_key) if identifier is None else identifier)) if share else 0
                if share and split_of(key, share) != TRAIN:
                    continue
                if identifier in wanted:
                    found.append((identifier, number))
                number += 1
    counted = tokens.manifest.counts.get("documents")
    if number != counted:
        raise DataError(
            f"{tokens.name} has {counted} documents, its corpus {number} lines: some were left out (without a token, "
            "refused), so their numbers cannot be told"
        )
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
