"""`redone online titles`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.evaluation.online.titles import TASK, best, scored_candidates, trade_off
from megatron_redone.reporting.online_page import shown
from megatron_redone.reporting.title_schema import CHOSEN, TitleResult
from megatron_redone.reporting.titles_page import write_titles
from megatron_redone.scoring.completion_cache import CompletionCache
from megatron_redone.scoring.completion_server import CompletionServer
from megatron_redone.scoring.config import ServerConfig
from megatron_redone.scoring.judge import CompleteAll, one_by_one
from megatron_redone.tasks.reading import read_rows
from megatron_redone.tasks.row import Row

STAND_IN = "surface signs of appeal, a stand-in (no reader and no judge was asked)"


def titles(
    rows_file: Path,
    candidates_file: Path,
    out: Path,
    server: Sequence[str],
    weight: float,
    weights: Sequence[float],
    seed: int,
    max_refused_share: float,
) -> None:
    """Scores the candidates, chooses, writes the page and the chosen titles, and prints the table."""
    rows = [row for row in read_rows(rows_file, max_refused_share).rows if row.task == TASK]
    if not rows:
        raise DataError(f"{rows_file}: no row of {TASK}; write rows with fields title and content")
    texts = read_candidates(candidates_file, rows)
    known = [row for row in rows if texts[row.id]]
    if not known:
        raise DataError(f"{candidates_file}: every note's `outputs` is empty; generate with a larger max_prompt_tokens")
    with _judge(server, out) as (complete_all, name):
        scored = scored_candidates(known, [texts[row.id] for row in known], complete_all)
        originals = scored_candidates(known, [[row.fields["title"]] for row in known], complete_all)
    most = max(map(len, scored))
    result = trade_off(
        known,
        scored,
        [one for (one,) in originals],
        engagement_by=name,
        weight=weight,
        weights=weights,
        numbers=[2**power for power in range(most.bit_length()) if 2**power <= most] + [most],
        seed=seed,
    )
    page = write_titles(result, out)
    write_jsonl(out / CHOSEN, _lines(known, scored, weight))
    _print(result)
    console = Console()
    if len(known) < len(rows):
        console.print(f"{len(rows) - len(known)} notes have no candidate (their prompts were too long)")
    console.print(f"written: {page}", markup=False, highlight=False, soft_wrap=True)


def _lines(rows: Sequence[Row], scored: Sequence[Sequence[object]], weight: float) -> Iterator[dict[str, object]]:
    for row, of_row in zip(rows, scored, strict=True):
        chosen = best(of_row, weight)  # type: ignore[arg-type]
        yield {
            "id": row.id,
            "title": chosen.text,
            "reward": round(chosen.reward(weight), 4),
            "engagement": chosen.engagement,
            "faithfulness": round(chosen.score.value, 4),
            "reason": chosen.score.reason,
        }


def read_candidates(path: Path, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Titles by row from the output of `redone generate`: lines of `id` and `outputs`.

    Raises:
        DataError: a line without them, an id twice, one that is no row's, or a row without a line.
    """
    ids = {row.id for row in rows}
    found: dict[str, list[str]] = {}
    for number, line in read_jsonl(path):
        name, outputs = line.get("id"), line.get("outputs")
        if not isinstance(outputs, list) or not all(isinstance(text, str) for text in outputs):
            raise DataError(f"{path}:{number}: outputs={outputs!r}; a line has `id` and `outputs`, a list of texts")
        if name not in ids:
            raise DataError(f"{path}:{number}: id {name!r} is no row of {TASK}; generate from the same rows")
        if name in found:
            raise DataError(f"{path}:{number}: id {name!r} stands twice; one line a note")
        found[name] = outputs
    if absent := sorted(ids - found.keys()):
        raise DataError(f"{path}: {len(absent)} notes have no line, first {absent[0]!r}; generate from the same rows")
    return found


@contextmanager
def _judge(settings: Sequence[str], out: Path) -> Iterator[tuple[CompleteAll | None, str]]:
    """The judge of the settings and its name; without settings the stand-in. Replies are kept in the folder."""
    if not settings:
        yield None, STAND_IN
        return
    config = validate(ServerConfig, apply_overrides({}, settings), "--judge")
    out.mkdir(parents=True, exist_ok=True)
    cache = CompletionCache(config.cache or out / "replies.sqlite")
    try:
        server = CompletionServer(config, cache)
        yield one_by_one(server.complete, config.concurrency), f"{config.model}, asked for 1 to 10"
    finally:
        cache.close()


def _print(result: TitleResult) -> None:
    table = Table("best of", "weight", "engagement", "faithfulness", "distorted, %")
    points = [point for point in result.points if point.num_candidates == result.num_candidates]
    if result.original is not None:
        one = result.original
        table.add_row(
            "original", "", shown(one.engagement, 1, 3), shown(one.faithfulness, 1, 3), f"{100 * one.distorted:.1f}"
        )
    for point in points:
        table.add_row(
            str(point.num_candidates),
            f"{point.weight:g}",
            shown(point.engagement, 1, 3),
            shown(point.faithfulness, 1, 3),
            f"{100 * point.distorted:.1f}",
        )
    console = Console()
    console.print(table)
    console.print(f"engagement by: {result.engagement_by}", markup=False, highlight=False)


def weights_of(text: str) -> list[float]:
    """Comma-separated weights in 0..1.

    Raises:
        InputError: one that is none.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--weights {text!r}: {error}; give numbers in 0..1 with commas, such as 0,0.5,1") from error
    if not all(0.0 <= weight <= 1.0 for weight in found):
        raise InputError(f"--weights {text!r}: a weight lies in 0..1")
    return found
