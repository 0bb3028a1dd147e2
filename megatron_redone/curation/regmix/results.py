"""Finished proxy runs as files: read, taken over from elsewhere, gathered into tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.curation.regmix.proxy import RUNS, ProxyResult, ProxyRun
from megatron_redone.curation.regmix.tables import LOSSES, MIXTURES, write_table

BY_MIXTURE = "by_mixture.json"


def read_result_file(path: Path) -> ProxyResult:
    """`runs/NAME.json`.

    Raises:
        DataError: not such a file; remove it, and the run is made again.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(ProxyResult)}
        if set(value) != known:
            raise ValueError(f"its keys differ in {', '.join(sorted(set(value) ^ known))}")
        return ProxyResult(**value)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no result of a proxy run ({error}); remove it, and the run is made again") from error


def take_finished(folder: Path, runs: Sequence[ProxyRun], fingerprint: str, work: Path) -> int:
    """Copies results of planned runs from any `runs` folder below `folder` to `work`; returns how many.

    Results of other runs, which are not planned here, stay where they are.

    Raises:
        DataError: a result of a planned run that was made with other settings, corpora, weights or seed.
    """
    planned = {run.id: run for run in runs}
    taken: set[str] = set()
    for path in sorted(folder.glob(f"**/{RUNS}/*.json")):
        run = planned.get(path.stem)
        if run is None or run.id in taken:
            continue
        result = read_result_file(path)
        if (result.weights, result.seed) != (dict(run.weights), run.seed):
            raise DataError(
                f"{path}: the run has the weights {result.weights} and seed {result.seed}, the plan "
                f"{dict(run.weights)} and {run.seed}; take finished runs of the same mixtures and seed"
            )
        if result.fingerprint != fingerprint:
            raise DataError(
                f"{path}: made with other settings, corpora or another tokenizer; losses would not compare. Take "
                "finished runs of the same settings"
            )
        atomic_write_json(work / RUNS / path.name, asdict(result))
        taken.add(run.id)
    return len(taken)


def write_tables(
    folder: Path, domains: Sequence[str], columns: Sequence[str], results: Sequence[ProxyResult], num_seeds: int
) -> None:
    """`mixtures.csv` and `losses.csv`, a row a run; for several seeds also means and deviations by mixture.

    Args:
        domains: columns of the mixtures.
        columns: names of the losses.
    """
    names = [result.id for result in results]
    weights = np.array([[result.weights.get(domain, 0.0) for domain in domains] for result in results])
    write_table(folder / MIXTURES, names, domains, weights)
    losses = np.array([[result.losses[column] for column in columns] for result in results])
    write_table(folder / LOSSES, names, columns, losses)
    if num_seeds > 1:
        atomic_write_json(folder / BY_MIXTURE, _by_mixture(results, columns))


def _by_mixture(results: Sequence[ProxyResult], columns: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Mixture -> loss -> mean, sample deviation over seeds (0 for one), smallest, largest, number of seeds."""
    of_mixture: dict[str, list[ProxyResult]] = {}
    for result in results:
        of_mixture.setdefault(result.mixture, []).append(result)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for mixture, members in of_mixture.items():
        found[mixture] = {}
        for column in columns:
            values = [member.losses[column] for member in members]
            found[mixture][column] = {
                "mean": statistics.fmean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
                "smallest": min(values),
                "largest": max(values),
                "seeds": len(values),
            }
    return found
