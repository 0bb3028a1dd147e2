"""Why a row stands in a set: what the stage that chose it wrote about the choice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.recipes.lineage.artefacts import Artefact, ArtefactGraph
from megatron_redone.recipes.lineage.occurrences import Occurrence

CONVERSATIONS, ROWS = "conversations.jsonl", "rows.jsonl"
DIAGNOSIS, DIFFICULTY, WEIGHTS = "diagnosis.json", "difficulty.jsonl", "weights.jsonl"


@dataclass(frozen=True)
class Reason:
    """Why one stage took the row."""

    artefact: Artefact
    sentence: str


def reasons(graph: ArtefactGraph, held: Sequence[Occurrence]) -> list[Reason]:
    """The reasons of all stages that took one of these lines, in their order, each once."""
    found: dict[tuple[Path, str], Reason] = {}
    for one in held:
        for sentence in _sentences(graph, one):
            found.setdefault((one.artefact.folder, sentence), Reason(one.artefact, sentence))
    return list(found.values())


def _sentences(graph: ArtefactGraph, one: Occurrence) -> Iterable[str]:
    kind, task = one.artefact.manifest.kind, one.facts.get("task", "")
    if kind == "target_set" and one.file.name == CONVERSATIONS:
        yield from _of_target_set(graph, one, task)
    elif kind == "refinement_set" and one.file.name == ROWS:
        line = _line_of(one.artefact.folder / DIFFICULTY, one.id)
        samples = one.artefact.manifest.config.get("num_samples", "several")
        if line is not None:
            yield f"mean score {line['pass_rate']:.3g} in {samples} answers of {_model(graph, one.artefact)}"
    elif kind == "pairs" and one.id.startswith("pair-"):
        yield f"pair by {one.facts.get('how', 'an unknown rule')} from {one.facts.get('source', 'an unknown source')}"
    elif kind == "sft_set" and one.file.name == CONVERSATIONS and one.facts.get("origin"):
        yield f"drawn for the mix, answer: {one.facts['origin']}"


def _of_target_set(graph: ArtefactGraph, one: Occurrence, task: str) -> Iterable[str]:
    origin = one.facts.get("origin", "")
    if origin and origin != "gold":
        yield f"soft label, {origin}, of {_model(graph, one.artefact)}"
        return
    diagnosis = next((read.producer for read in graph.inputs(one.artefact) if read.field == "diagnosis"), None)
    if diagnosis is not None and (why := _diagnosed(diagnosis.folder / DIAGNOSIS, task)):
        yield f"task {task} is in the weak bucket of {diagnosis.name}: {why}"
    line = _line_of(one.artefact.folder / WEIGHTS, one.id)
    if line is not None:
        yield f"weight {float(line.get('weight', 1.0)):.3g} ({line.get('reason') or 'no reason given'})"


def _diagnosed(path: Path, task: str) -> str:
    """What a diagnosis says of a task; empty where it says nothing."""
    if not path.is_file():
        return ""
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        return next((str(entry.get("reason", "")) for entry in tasks if entry.get("task") == task), "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not what a diagnosis writes ({error!r}); run that stage again") from error


def _line_of(path: Path, identifier: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    return next((value for _, value in read_jsonl(path) if value.get("id") == identifier), None)


def _model(graph: ArtefactGraph, artefact: Artefact) -> str:
    """The model that a stage asked."""
    for read in graph.inputs(artefact):
        if read.field == "model":
            return read.producer.name if read.producer is not None else read.record.path
    return "its model"
