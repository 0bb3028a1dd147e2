"""`redone online`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.curation.filter.tone import ToneModel
from megatron_redone.curation.filter.tone_training import cold_rows, davidson_rows, is_held_out
from megatron_redone.curation.interactions.log import Session
from megatron_redone.curation.interactions.reading import Refusals, input_files, read_records
from megatron_redone.evaluation.online.class_probability import ClassProbability
from megatron_redone.evaluation.online.click_log import LoggedPage, click_log
from megatron_redone.evaluation.online.detection import (
    JudgedNote,
    ThresholdRule,
    choose_threshold,
    measure_detection,
    split_notes,
)
from megatron_redone.evaluation.online.rows import LabelledNote, NoteScore, OfferedQuery, OfferedRanking
from megatron_redone.evaluation.online.search import SearchSettings, evaluate_search
from megatron_redone.launch.environment import from_environ
from megatron_redone.reporting.online_page import shown, write_detection, write_search

COLD_FILE, DAVIDSON_FILE = "test.csv", "labeled_data.csv"
HELD_OUT_SHARE = 0.2
"""Of Davidson's rows, which have no test set: as `redone curate tone-model` leaves out by default."""
Record = TypeVar("Record", bound=BaseModel)


def harmful(
    data: Path,
    out: Path,
    tone_model: Path | None,
    model: Path | None,
    choose: str,
    choice_share: float,
    limit: int | None,
    seed: int,
    max_refused_share: float,
    scores_file: Path | None = None,
) -> None:
    """Scores the notes where they have no scores, chooses the threshold, measures, writes and prints."""
    rule = threshold_rule(choose)
    if sum(source is not None for source in (tone_model, model, scores_file)) > 1:
        raise InputError("--tone-model, --model and --scores all give scores; give one of them")
    refusals = Refusals(max_refused_share)
    notes = list(_labelled_notes(data, seed, refusals))[:limit]
    if scores_file is not None:
        given = {one.id: one.score for one in _records(scores_file, NoteScore, refusals, lambda one: one.id)}
        notes = [note.model_copy(update={"score": given.get(note.id)}) for note in notes]
    refusals.check()
    scorer, scores = _scores(notes, tone_model, model)
    judged = [
        JudgedNote(note.id, note.harmful, score, note.exposures) for note, score in zip(notes, scores, strict=True)
    ]
    choice, report = split_notes(judged, choice_share, seed)
    result = measure_detection(
        report,
        choose_threshold(choice, rule),
        scorer=scorer,
        rule=rule,
        choice_notes=len(choice),
        seed=seed,
    ).model_copy(update={"refused": refusals.num_refused, "refused_messages": tuple(refusals.messages)})
    page = write_detection(result, out)
    table = Table("measure", title=f"Harmful-content detection at {result.threshold:.4g}")
    table.add_column("% (95% interval)", justify="right")
    for name, measured in result.measures.items():
        table.add_row(name.replace("_", " "), shown(measured, 100))
    table.add_row("average precision", shown(result.average_precision, 100))
    console = _console()
    console.print(table)
    told = f"{result.notes:,} notes, {result.harmful:,} harmful; threshold chosen on {result.choice_notes:,} others"
    console.print(f"{told} ({result.rule})", markup=False)
    console.print(f"written: {page}", markup=False, soft_wrap=True)


def threshold_rule(text: str) -> ThresholdRule:
    """`f1`, `precision=0.9`, `recall=0.9`.

    Raises:
        InputError: something else.
    """
    name, sign, number = text.partition("=")
    try:
        least = float(number) if sign else 0.0
    except ValueError:
        least = -1.0
    if name == "f1" and not sign:
        return ThresholdRule()
    if sign and 0 < least <= 1:
        if name == "precision":
            return ThresholdRule("precision", least)
        if name == "recall":
            return ThresholdRule("recall", least)
    raise InputError(f"--choose {text}: give f1, or precision= or recall= with a number above 0 and up to 1")


def _labelled_notes(data: Path, seed: int, refusals: Refusals) -> Iterator[LabelledNote]:
    if data.is_dir() and ((data / COLD_FILE).is_file() or (data / DAVIDSON_FILE).is_file()):
        rows = cold_rows(data) if (data / COLD_FILE).is_file() else davidson_rows(data)
        for number, row in enumerate(rows):
            refusals.num_lines += 1
            if isinstance(row, str):
                refusals.refuse(row)
            elif is_held_out(row, HELD_OUT_SHARE, seed):
                yield LabelledNote(
                    id=str(number),
                    text=row.text,
                    harmful=row.offensive,
                    language="en" if row.language == "en" else "zh",
                )
        return
    yield from _records(data, LabelledNote, refusals, lambda note: note.id)


def _records(
    path: Path, kind: type[Record], refusals: Refusals, key: Callable[[Record], str] | None = None
) -> Iterator[Record]:
    """The lines of a file; of those with one key (an id) the first."""
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    seen: set[str] = set()
    for file in input_files(path, "sessions" if kind is Session else ""):
        for line, record in read_records(file, kind, refusals):
            if key is not None and key(record) in seen:
                refusals.refuse(f"{file}:{line}: {key(record)!r} stands twice; give each once")
                continue
            if key is not None:
                seen.add(key(record))
            yield record


def _scores(notes: Sequence[LabelledNote], tone_model: Path | None, model: Path | None) -> tuple[str, list[float]]:
    """(what gave them, one score a note)."""
    if tone_model is not None:
        tone = ToneModel(tone_model)
        found = [tone.probability(note.text, note.language) for note in notes]
        unknown = sorted({note.language for note, score in zip(notes, found, strict=True) if score is None})
        if unknown:
            raise InputError(f"{tone_model}: knows no {', '.join(unknown)}; train it on rows of every language")
        return f"the tone classifier {tone_model.name}", [score for score in found if score is not None]
    if model is not None:
        import torch

        torch.set_num_threads(from_environ(os.environ).threads)
        scores = ClassProbability(model).scores([(note.text, note.language) for note in notes])
        return f"the language model {model.name}", list(scores)
    without = [note.id for note in notes if note.score is None]
    if without:
        raise InputError(
            f"{len(without)} notes have no score, first {without[0]!r}; write `score` into the lines, or give "
            "--scores, --tone-model or --model"
        )
    return "the scores of the file", [note.score for note in notes if note.score is not None]


def search(
    logs: Path,
    out: Path,
    rankings: Path | None,
    queries: Path | None,
    settings: SearchSettings,
    max_refused_share: float,
) -> None:
    """Reads logs, rankings and queries; fits, estimates, writes and prints."""
    refusals = Refusals(max_refused_share)
    log = click_log(_pages(_records(logs, Session, refusals, lambda session: session.id)))
    offered = list(_records(rankings, OfferedRanking, refusals, lambda one: one.query)) if rankings else []
    asked = [one.query for one in _records(queries, OfferedQuery, refusals)] if queries else []
    refusals.check()
    result = evaluate_search(log, {one.query: one.ranking for one in offered}, asked, settings)
    result = result.model_copy(update={"refused": refusals.num_refused, "refused_messages": tuple(refusals.messages)})
    page = write_search(result, out)
    console = _console()
    models = Table("model", title=f"Held-out pages: {result.held_out_pages:,}")
    for name in ("perplexity", "log-likelihood of a page"):
        models.add_column(name, justify="right")
    for fitted in result.models:
        models.add_row(fitted.name, f"{fitted.perplexity:.4f}", f"{fitted.log_likelihood:.4f}")
    console.print(models)
    values = Table("what", "estimator", title="What pages are worth")
    for name in ("clicks on a page", "pages with a click, %", "support"):
        values.add_column(name, justify="right")
    for one in result.estimates:
        rate = shown(one.click_page_rate, 100) if one.click_page_rate else ""
        support = f"{one.support:.1%}" if one.support is not None else ""
        values.add_row(one.name, one.estimator, shown(one.clicks, 1, 3), rate, support)
    console.print(values)
    console.print(f"written: {page}", markup=False, soft_wrap=True)


def _pages(sessions: Iterator[Session]) -> Iterator[LoggedPage]:
    for session in sessions:
        for search in session.searches:
            clicked = frozenset(click.note for click in search.clicks)
            yield LoggedPage(session.id, search.query, search.shown, clicked)


def _console() -> Console:
    return Console(highlight=False, width=None if Console().is_terminal else 140)
