"""`redone lineage`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from megatron_redone.common.errors import InputError
from megatron_redone.recipes.lineage.artefacts import Artefact, ArtefactGraph, find_artefacts
from megatron_redone.recipes.lineage.occurrences import Occurrence
from megatron_redone.recipes.lineage.trace import IdTrace, PathTrace, trace_id, trace_path
from megatron_redone.recipes.lineage.training import as_json, tally

MOST_SHOWN = 12
"""Lines of one kind that the tree lists; `--json` has all."""
LINE_OF_A_FILE = 500
"""Characters at which a line is wrapped where the output is no terminal."""


def lineage(wanted: str, runs: Sequence[Path], in_json: bool) -> None:
    """Prints the way of a row, document, file or folder."""
    graph = find_artefacts(runs)
    trace = _trace(graph, wanted)
    if in_json:
        print(
            json.dumps(_path_json(graph, trace) if isinstance(trace, PathTrace) else _id_json(graph, trace), indent=2)
        )
        return
    tree = _path_tree(graph, trace) if isinstance(trace, PathTrace) else _id_tree(graph, trace)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=LINE_OF_A_FILE)
    console.print(tree)


def _trace(graph: ArtefactGraph, wanted: str) -> IdTrace | PathTrace:
    """A path where there is one; then the name of a stage run, if only one has it; then an id."""
    if Path(wanted).exists():
        return trace_path(graph, Path(wanted))
    named = [artefact for artefact in graph.artefacts if artefact.name == wanted]
    if len(named) > 1:
        folders = ", ".join(str(artefact.folder) for artefact in named)
        raise InputError(f"{wanted!r} is a stage of several runs ({folders}); give the folder")
    return trace_path(graph, named[0].folder) if named else trace_id(graph, wanted)


def _id_tree(graph: ArtefactGraph, trace: IdTrace) -> Tree:
    tree = Tree(f"[bold]{escape(trace.id)}[/]")
    _add_occurrences(tree, "stands in", trace.standing)
    holders = {one.artefact.folder: one.artefact for one in trace.standing or trace.derived}
    first = next(iter(holders.values()), None)
    if trace.parents or trace.lost_parents:
        branch = _add_occurrences(tree, "made of", trace.parents)
        for lost in trace.lost_parents[:MOST_SHOWN]:
            branch.add(f"{escape(lost)} (in none of the folders)")
    if first is not None:
        _add_origin(tree.add("first written by"), graph, first)
    _add_occurrences(tree, "made into", trace.derived)
    _add_occurrences(tree, "answered as a held-out row in", trace.answered)
    if trace.reasons:
        branch = tree.add("taken because")
        for reason in trace.reasons[:MOST_SHOWN]:
            branch.add(escape(f"{_title(reason.artefact)}: {reason.sentence}"))
    branch = tree.add("trained on it" if trace.training else "trained on it: no stage could have read it")
    for found in trace.training:
        style = {"learnt": "green", "unknown": "red"}.get(found.verdict, "dim")
        branch.add(f"[{style}]{escape(_title(found.artefact))}: {escape(tally(found))}[/]")
    if trace.started_from:
        branch = tree.add("start from a model that learnt it")
        for artefact in trace.started_from:
            branch.add(escape(_title(artefact)))
    return tree


def _add_occurrences(tree: Tree, title: str, found: Sequence[Occurrence]) -> Tree:
    if not found and title != "made of":
        return tree
    branch = tree.add(title)
    for one in found[:MOST_SHOWN]:
        facts = ", ".join(f"{name} {value}" for name, value in one.facts.items())
        made = f"{one.id} in " if title.startswith("made") else ""
        branch.add(escape(f"{made}{one.place}" + (f" ({facts})" if facts else "")))
    if len(found) > MOST_SHOWN:
        rest = groupby(sorted(one.artefact.name for one in found[MOST_SHOWN:]))
        branch.add("and " + ", ".join(f"{sum(1 for _ in group):,} in {escape(name)}" for name, group in rest))
    return branch


def _add_origin(branch: Tree, graph: ArtefactGraph, artefact: Artefact) -> None:
    """The artefact, and below it what it read, back to what comes from outside."""
    branch = branch.add(escape(_title(artefact)))
    for read in graph.inputs(artefact):
        if read.producer is None:
            branch.add(escape(f"{read.field}: {read.record.path} (from outside, sha256 {read.record.sha256[:12]})"))
        else:
            _add_origin(branch, graph, read.producer)


def _title(artefact: Artefact) -> str:
    manifest = artefact.manifest
    seeds = f", seed {manifest.seeds[0]}" if manifest.seeds else ""
    return f"{artefact.name} ({manifest.kind}{seeds})"


def _path_tree(graph: ArtefactGraph, trace: PathTrace) -> Tree:
    tree = Tree(f"[bold]{escape(str(trace.path))}[/]")
    if trace.artefact is not None:
        manifest = trace.artefact.manifest
        state = "as it was published" if trace.is_as_published else "[red]CHANGED since it was published[/]"
        tree.add(f"{state} (sha256 {(trace.artefact.sha256 or 'unknown')[:12]})")
        tree.add(escape(f"begun {manifest.started}, {manifest.seconds:.1f} s, code {manifest.code_version}"))
        _add_origin(tree.add("made by"), graph, trace.artefact)
    branch = tree.add("read by" if trace.read_by else "read by: no stage")
    for other, read in trace.read_by:
        branch.add(escape(f"{_title(other)} as {read.field}"))
    branch = tree.add(
        "trained on it, on what was made of it, or on from there" if trace.trained else "trained on it: no stage"
    )
    for artefact in trace.trained:
        branch.add(escape(_title(artefact)))
    return tree


def _id_json(graph: ArtefactGraph, trace: IdTrace) -> dict[str, Any]:
    return {
        "id": trace.id,
        "standing": [_occurrence_json(one) for one in trace.standing],
        "answered": [_occurrence_json(one) for one in trace.answered],
        "made_of": [_occurrence_json(one) for one in trace.parents],
        "made_of_lost": list(trace.lost_parents),
        "made_into": [_occurrence_json(one) for one in trace.derived],
        "reasons": [{"stage": reason.artefact.name, "reason": reason.sentence} for reason in trace.reasons],
        "training": [as_json(found) for found in trace.training],
        "started_from": [artefact.name for artefact in trace.started_from],
        "stages": _stages_json(graph, {one.artefact.folder: one.artefact for one in trace.standing}),
    }


def _path_json(graph: ArtefactGraph, trace: PathTrace) -> dict[str, Any]:
    start = {} if trace.artefact is None else {trace.artefact.folder: trace.artefact}
    return {
        "path": str(trace.path),
        "stage": None if trace.artefact is None else trace.artefact.name,
        "as_published": trace.is_as_published,
        "read_by": [{"stage": other.name, "field": read.field} for other, read in trace.read_by],
        "trained": [artefact.name for artefact in trace.trained],
        "stages": _stages_json(graph, start),
    }


def _occurrence_json(one: Occurrence) -> dict[str, Any]:
    return {"id": one.id, "stage": one.artefact.name, "file": str(one.file), "line": one.line, **one.facts}


def _stages_json(graph: ArtefactGraph, start: dict[Path, Artefact]) -> list[dict[str, Any]]:
    """The stages and all that they were made of."""
    every = start | {one.folder: one for artefact in start.values() for one in graph.ancestors(artefact)}
    return [
        {
            "stage": artefact.name,
            "kind": artefact.manifest.kind,
            "folder": str(artefact.folder),
            "sha256": artefact.sha256,
            "inputs": {
                read.field: {
                    "path": read.record.path,
                    "sha256": read.record.sha256,
                    "stage": None if read.producer is None else read.producer.name,
                }
                for read in graph.inputs(artefact)
            },
        }
        for artefact in every.values()
    ]
