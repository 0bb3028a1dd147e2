"""Tables of mixtures and losses: CSV files with a name column `index`, one row a run."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json, atomic_write_text

Floats = npt.NDArray[np.float64]

INDEX = "index"
MIXTURES, LOSSES, PRIOR = "mixtures.csv", "losses.csv", "prior.json"
"""Names of the files in the folders that the stages write."""


@dataclass(frozen=True)
class Table:
    """Numbers by run and column.

    Attributes:
        names: [R] the runs, each once.
        columns: [C] the columns, each once.
        values: [R, C], all finite.
        path: where it was read.
    """

    names: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats
    path: Path

    def row(self, number: int) -> dict[str, float]:
        """Column -> value of a run."""
        return dict(zip(self.columns, map(float, self.values[number]), strict=True))


def read_table(path: Path) -> Table:
    """A CSV file in UTF-8: a header that begins with `index`, then one run a line.

    Raises:
        DataError: no such file, broken bytes, a column or run that stands twice, a line of another length, a value that
            is no finite number. File and line are named.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a CSV file, or a folder that a regmix stage wrote")
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path}: not CSV ({error}); write one run a line, values between commas") from error
    header = lines[0] if lines else []
    if len(header) < 2 or header[0] != INDEX:
        raise DataError(f"{path}:1: the header begins with {header[:2]}; it must be `{INDEX},NAME,NAME,...`")
    if len(set(header)) < len(header) or not all(header):
        raise DataError(f"{path}:1: a column without a name, or one that stands twice; name each column once")
    names: dict[str, int] = {}
    values: list[list[float]] = []
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise DataError(
                f"{path}:{number}: {len(cells)} values for {len(header)} columns; the line is cut or joined"
            )
        if names.setdefault(cells[0], number) != number:
            raise DataError(f"{path}:{number}: run {cells[0]!r} stands on line {names[cells[0]]} too; keep one of them")
        cells_by_column = zip(header[1:], cells[1:], strict=True)
        values.append([_number(text, f"{path}:{number}: {name}") for name, text in cells_by_column])
    if not values:
        raise DataError(f"{path}: no runs; a line for each run is needed under the header")
    return Table(tuple(names), tuple(header[1:]), np.array(values, dtype=np.float64), path)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}={text!r} is no finite number; leave out a run that failed, in both tables")
    return value


def write_table(path: Path, names: Sequence[str], columns: Sequence[str], values: Floats) -> None:
    """Writes a table that `read_table` gives back bit by bit."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([INDEX, *columns])
    for name, row in zip(names, values, strict=True):
        writer.writerow([name, *(repr(float(value)) for value in row)])
    atomic_write_text(path, buffer.getvalue())


def read_mixtures(path: Path, tolerance: float) -> Table:
    """A table of mixtures, or the one of a folder.

    Raises:
        DataError: as `read_table`; a weight below 0; weights of a run that do not add up to 1 within `tolerance`.
    """
    table = read_table(path / MIXTURES if path.is_dir() else path)
    sums = table.values.sum(axis=1)
    for name, row, total in zip(table.names, table.values, sums, strict=True):
        if row.min() < 0:
            raise DataError(f"{table.path}: run {name!r} has the weight {row.min():g}; weights are 0 or more")
        if abs(total - 1) > tolerance + 1e-9:
            raise DataError(
                f"{table.path}: the weights of run {name!r} add up to {total:.6g}, not to 1 (within {tolerance}); "
                "divide them by their sum"
            )
    return table


def read_losses(path: Path, mixtures: Table) -> Table:
    """A table of losses, or the one of a folder, whose runs are those of `mixtures` in their order.

    Raises:
        DataError: as `read_table`; runs of one table that are not in the other.
    """
    losses = read_table(path / LOSSES if path.is_dir() else path)
    missing, left_over = set(mixtures.names) - set(losses.names), set(losses.names) - set(mixtures.names)
    if missing or left_over:
        some = ", ".join(repr(name) for name in sorted(missing or left_over)[:3])
        where, other = (losses.path, mixtures.path) if missing else (mixtures.path, losses.path)
        raise DataError(
            f"{where}: no run {some} ({len(missing)} runs have no losses, {len(left_over)} no mixture), which "
            f"stands in {other}; give tables of the same runs"
        )
    place = {name: number for number, name in enumerate(losses.names)}
    return Table(mixtures.names, losses.columns, losses.values[[place[name] for name in mixtures.names]], losses.path)


def column_called(wanted: str, columns: Sequence[str], path: Path) -> str:
    """The column of that name, or the only one whose name contains it.

    Raises:
        DataError: there is none, or several contain it.
    """
    if wanted in columns:
        return wanted
    found = [column for column in columns if wanted in column]
    if len(found) == 1:
        return found[0]
    problem = f"is a part of {len(found)} of them" if found else "is none of them nor a part of one"
    raise DataError(f"target={wanted!r}: {path} has the columns {', '.join(columns)}; {wanted!r} {problem}; name one")


def write_prior(folder: Path, prior: Mapping[str, float]) -> None:
    """The natural shares, beside the mixtures drawn around them."""
    atomic_write_json(folder / PRIOR, dict(prior))


def read_prior(folder: Path) -> dict[str, float] | None:
    """What `write_prior` wrote in a folder; None where there is no such file (or `folder` is a file)."""
    path = folder / PRIOR
    if not path.is_file():
        return None
    try:
        prior = json.loads(path.read_text(encoding="utf-8"))
        shares = {str(name): float(share) for name, share in prior.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: not a JSON object of shares by domain ({error}); make the mixtures again") from error
    if not all(math.isfinite(share) and share > 0 for share in shares.values()):
        raise DataError(f"{path}: a share that is not above 0; make the mixtures again")
    return shares
