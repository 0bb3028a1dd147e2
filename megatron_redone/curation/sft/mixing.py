"""Which rows of the pool make a set: quotas for parts, capabilities, tasks and languages, then rows by hash.

Quotas are water levels: each group gets an amount in proportion to its weight, but at least its floor and at most what
it has; what a full group leaves over is divided among the others in proportion. Rounding is by largest remainder, so
quotas add up exactly. Inside a group the rows of smallest -ln(1 - u) / weight are taken, u in 0..1 being a hash of seed
and id: a draw without replacement in proportion to weights (Efraimidis and Spirakis, 2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from megatron_redone.common.errors import DataError
from megatron_redone.curation.sft.config import MixConfig
from megatron_redone.curation.sft.pool import Pool
from megatron_redone.tasks.row import nearest

SNS, GENERAL = "sns", "general"
_BISECTIONS = 200


@dataclass(frozen=True)
class TaskShare:
    """What a task was to get, and what it got.

    Attributes:
        available: rows in the pool.
        asked: share of the set, 0..1, that its part, capability and weight give it, without bounds.
        rows: rows in the set, repeated ones counted as often as they stand.
        bound: "floor" or "all rows" where a bound moved it, else "".
    """

    part: str
    capability: str
    task: str
    available: int
    asked: float
    rows: int
    bound: Literal["", "floor", "all rows"]


@dataclass(frozen=True)
class Choice:
    """How often each row of the pool stands in a set, and why."""

    copies: NDArray[np.int64]
    tasks: Sequence[TaskShare]
    general_share_asked: float | None


@dataclass
class _Group:
    """The rows of one task in one part."""

    part: str
    capability: str
    task: str
    rows: NDArray[np.int64]
    weight: float
    capacity: int
    floor: int = 0
    quota: int = 0
    asked: float = 0.0


def allocate(
    total: int, weights: Sequence[float], capacities: Sequence[int], floors: Sequence[int] | None = None
) -> list[int]:
    """Whole numbers in proportion to weights, within floors and capacities, that add up to `total`.

    The sum is less only where the capacities add up to less. A group of weight 0 gets its floor.

    Raises:
        DataError: the floors add up to more than the total.
    """
    weight, high = np.asarray(weights, dtype=float), np.asarray(capacities, dtype=np.int64)
    low = np.minimum(np.asarray(floors if floors is not None else [0] * len(high), dtype=np.int64), high)
    high = np.where(weight > 0, high, low)
    total = min(total, int(high.sum()))
    if int(low.sum()) > total:
        raise DataError(
            f"the smallest numbers of rows of {len(high)} groups add up to {int(low.sum())}, more than the {total} "
            "rows of the set; lower min_rows_per_task or raise num_rows"
        )
    if total == 0:
        return [0] * len(high)
    amounts = np.clip(_level(total, weight, low, high) * weight, low, high)
    quotas = np.floor(amounts + 1e-9).astype(np.int64)
    order = np.argsort(-(amounts - quotas), kind="stable")
    while (missing := total - int(quotas.sum())) > 0:
        room = [place for place in order if quotas[place] < high[place]][:missing]
        quotas[room] += 1
    return [int(quota) for quota in quotas]


def _level(total: int, weight: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64]) -> float:
    """The factor at which the bounded amounts come nearest to the total from below."""
    below, above = 0.0, float(np.max(high[weight > 0] / weight[weight > 0], initial=0.0))
    for _ in range(_BISECTIONS):
        middle = (below + above) / 2
        if np.clip(middle * weight, low, high).sum() <= total:
            below = middle
        else:
            above = middle
    return below


def choose(pool: Pool, mix: MixConfig) -> Choice:
    """The rows of a set.

    Raises:
        DataError: a task or capability of the settings is not in the pool, or floors that do not fit.
    """
    groups = _groups(pool, mix)
    sns = [group for group in groups if group.part == SNS]
    general = [group for group in groups if group.part == GENERAL]
    num_sns, num_general, share = _part_sizes(mix, sns, general)
    _deal_sns(mix, sns, num_sns)
    _deal(general, num_general)
    copies = np.zeros(len(pool), dtype=np.int64)
    uniform = np.minimum(pool.columns["key"] / 2.0**63, 1.0 - 2.0**-53)
    order_key = -np.log1p(-uniform) / pool.columns["weight"]
    for group in groups:
        by_language = group.part == SNS and group.quota % len(group.rows) != 0
        for rows, quota in _of_languages(pool, group, mix.max_repeats) if by_language else [(group.rows, group.quota)]:
            _take(copies, rows, quota, order_key)
    total = sum(group.quota for group in groups)
    if total == 0:
        raise DataError("the set would have no row; raise num_rows, general_share or general_rows")
    return Choice(copies, [_told(group, total, num_sns, num_general) for group in groups], share)


def _groups(pool: Pool, mix: MixConfig) -> list[_Group]:
    rows_by_task: dict[tuple[str, str, str], list[NDArray[np.int64]]] = {}
    alive = np.flatnonzero(pool.alive)
    order = alive[np.argsort(pool.columns["stratum"][alive], kind="stable")]
    bounds = np.searchsorted(pool.columns["stratum"][order], np.arange(len(pool.strata) + 1))
    for number, stratum in enumerate(pool.strata):
        rows = order[bounds[number] : bounds[number + 1]]
        if rows.size:
            rows_by_task.setdefault((stratum.part, stratum.capability, stratum.task), []).append(rows)
    _check_names("task_weights", mix.task_weights, [task for _, _, task in rows_by_task])
    capabilities = [capability for part, capability, _ in rows_by_task if part == SNS]
    _check_names("capability_shares", mix.capability_shares, capabilities)
    groups = []
    for (part, capability, task), members in sorted(rows_by_task.items()):
        rows = np.concatenate(members)
        all_sns_rows = part == SNS and mix.num_rows is None
        capacity = len(rows) if all_sns_rows else len(rows) * mix.max_repeats
        if part == SNS and mix.rows_per_task is not None:
            capacity = min(capacity, mix.rows_per_task)
        weight = float(pool.columns["weight"][rows].sum()) ** mix.task_balance * mix.task_weights.get(task, 1.0)
        floor = min(mix.min_rows_per_task, len(rows), capacity)
        groups.append(_Group(part, capability, task, rows, weight, capacity, floor))
    return groups


def _check_names(setting: str, given: Mapping[str, float], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            hint = nearest(name, known) or f"; there are {', '.join(sorted(set(known)))}"
            raise DataError(f"{setting}: {name!r} has no rows in the inputs{hint}")


def _part_sizes(mix: MixConfig, sns: Sequence[_Group], general: Sequence[_Group]) -> tuple[int, int, float | None]:
    """Rows of the SNS part, of the general part, and the general share that was asked for."""
    room_sns, room_general = (sum(group.capacity for group in groups) for groups in (sns, general))
    once_sns, once_general = (sum(min(len(g.rows), g.capacity) for g in groups) for groups in (sns, general))
    share = mix.general_share
    if mix.num_rows is None:
        num_sns = once_sns
        if share is not None:
            num_general = round(num_sns * share / (1 - share)) if sns else once_general
        else:
            num_general = once_general if mix.general_rows is None else mix.general_rows
    else:
        if mix.general_rows is not None:
            share = mix.general_rows / mix.num_rows
        elif share is None:
            share = once_general / max(once_sns + once_general, 1)
        num_general = round(mix.num_rows * share)
        num_sns = mix.num_rows - num_general
    return min(num_sns, room_sns), min(num_general, room_general), share


def _deal_sns(mix: MixConfig, groups: Sequence[_Group], total: int) -> None:
    """Quotas of SNS tasks: by capability first where shares are given."""
    if not mix.capability_shares:
        _deal(groups, total)
        return
    members: dict[str, list[_Group]] = {}
    for group in groups:
        members.setdefault(group.capability, []).append(group)
    rest = max(0.0, 1.0 - sum(mix.capability_shares.values()))
    unnamed = sum(g.weight for g in groups if g.capability not in mix.capability_shares)
    weights = [
        mix.capability_shares.get(name, rest * sum(g.weight for g in of_name) / unnamed if unnamed else 0.0)
        for name, of_name in members.items()
    ]
    quotas = allocate(
        total,
        weights,
        [sum(g.capacity for g in of_name) for of_name in members.values()],
        [sum(g.floor for g in of_name) for of_name in members.values()],
    )
    for of_name, quota, weight in zip(members.values(), quotas, weights, strict=True):
        _deal(of_name, quota, asked=weight / max(sum(weights), 1e-300))


def _deal(groups: Sequence[_Group], total: int, asked: float = 1.0) -> None:
    weights = [group.weight for group in groups]
    quotas = allocate(total, weights, [g.capacity for g in groups], [g.floor for g in groups]) if groups else []
    for group, quota in zip(groups, quotas, strict=True):
        group.quota, group.asked = quota, asked * group.weight / sum(weights)


def _of_languages(pool: Pool, group: _Group, max_repeats: int) -> list[tuple[NDArray[np.int64], int]]:
    """Rows of each language of a task and how many of them are taken: evenly, as far as they go."""
    languages: dict[str, list[NDArray[np.int64]]] = {}
    strata = pool.columns["stratum"][group.rows]
    for number in np.unique(strata):
        languages.setdefault(pool.strata[number].language, []).append(group.rows[strata == number])
    rows = [np.concatenate(languages[language]) for language in sorted(languages)]
    quotas = allocate(group.quota, [1.0] * len(rows), [len(of_one) * max_repeats for of_one in rows])
    return list(zip(rows, quotas, strict=True))


def _take(copies: NDArray[np.int64], rows: NDArray[np.int64], quota: int, order_key: NDArray[np.float64]) -> None:
    """Every row as often as the quota holds them all; of the rest those that come first."""
    if not quota:
        return
    times, rest = divmod(quota, len(rows))
    copies[rows] += times
    if rest:
        keys = order_key[rows]
        first = np.argpartition(keys, rest - 1)[:rest]
        copies[rows[first]] += 1


def _told(group: _Group, total: int, num_sns: int, num_general: int) -> TaskShare:
    of_part = num_sns if group.part == SNS else num_general
    asked = group.asked * of_part / total
    bound: Literal["", "floor", "all rows"] = ""
    if abs(group.quota - asked * total) >= 1.0:
        if group.quota == group.capacity:
            bound = "all rows"
        elif group.quota == group.floor:
            bound = "floor"
    return TaskShare(group.part, group.capability, group.task, len(group.rows), asked, group.quota, bound)
