from __future__ import annotations

import io
import json
import statistics
from pathlib import Path

import pytest
from rich.console import Console

from megatron_redone.reporting.run_files import load_run
from megatron_redone.reporting.summary import best_baseline, bucket_effects, bucket_sentence, headline
from megatron_redone.reporting.tables import build_table
from megatron_redone.reporting.text import print_summary
from tests.unit.reporting.synthetic_run import write_run


def printed(run: Path, width: int = 80) -> str:
    stream = io.StringIO()
    print_summary(load_run(run), Console(file=stream, width=width), Path("out/report.html"))
    return stream.getvalue()


def test_the_headline_names_before_after_baseline_and_arm(tmp_path: Path) -> None:
    table = build_table(load_run(write_run(tmp_path)))
    before, after, arm = (table.overall_of(name) for name in ("warmup", "refine", "sft_only"))
    best = best_baseline(table)
    assert before and after and arm and best
    text = headline(table).sentence
    assert f"from {before.text} (warmup) to {after.text} (refine, 3 seeds)" in text
    assert f"+{after.mean - before.mean:.1f} points" in text
    assert f"best baseline, majority, has {best[1].text}" in text
    assert f"the arm sft_only has {arm.text} (3 seeds)." in text


def test_the_headline_of_a_partial_run_claims_nothing(tmp_path: Path) -> None:
    table = build_table(load_run(write_run(tmp_path, seeds=(1,), upto="explore")))
    text = headline(table).sentence
    assert "not complete" in text and "last evaluated stage, explore" in text and " points" not in text
    nothing = build_table(load_run(write_run(tmp_path / "bare", seeds=(1,), upto="cpt")))
    assert headline(nothing).sentence.startswith("No stage has been evaluated yet")


def test_the_bucket_effect_compares_the_stages_around_the_targeted_one(tmp_path: Path) -> None:
    files = load_run(write_run(tmp_path))
    effects = bucket_effects(files)
    assert [effect.seed for effect in effects] == [1, 2, 3]
    effect = effects[0]
    assert effect.stages == ("explore", "target", "refine")
    explore = files.of_name("explore")[0].evaluation
    assert explore is not None
    scores = {score.task: score.score for score in explore.tasks}
    assert effect.bucket[0] == pytest.approx(statistics.fmean(scores[task] for task in effect.tasks))
    others = [score for task, score in scores.items() if task not in effect.tasks]
    assert effect.others[0] == pytest.approx(statistics.fmean(others))
    assert effect.gain == effect.bucket[1] - effect.bucket[0] > 20
    assert "From explore to target the weak tasks change by +" in bucket_sentence(effects)
    assert "on average over 3 seeds" in bucket_sentence(effects)


def test_without_a_targeted_result_nothing_is_said_about_the_bucket(tmp_path: Path) -> None:
    files = load_run(write_run(tmp_path, seeds=(1,), upto="diagnose"))
    assert bucket_effects(files) == ()
    assert "nothing can be said" in bucket_sentence(())


def test_an_empty_bucket_has_no_effect(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    path = run / "diagnose.seed1" / "diagnosis.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weak_bucket": []}))
    assert bucket_effects(load_run(run)) == ()


def test_the_terminal_summary_fits_eighty_columns(tmp_path: Path) -> None:
    text = printed(write_run(tmp_path))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "next_query*" in text and "*: in the weak bucket" in text
    assert "?: no conclusion" in text
    assert "mean of all tasks" in text and "Report: out/report.html" in text


def test_the_terminal_summary_prints_names_as_they_are(tmp_path: Path) -> None:
    text = printed(write_run(tmp_path, seeds=(1,), hostile="[red]\x1b[2J"), width=200)
    assert "quickstart[red]\\x1b[2J" in text and "\x1b" not in text


def test_the_terminal_summary_lists_gaps(tmp_path: Path) -> None:
    text = printed(write_run(tmp_path, seeds=(1,), upto="explore"))
    assert "target (seed 1) is not finished (status: pending)." in text
    bare = printed(write_run(tmp_path / "bare", seeds=(1,), upto="data"))
    assert "No stage has been evaluated yet" in bare
