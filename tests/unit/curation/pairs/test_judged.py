from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.progress_file import ProgressFile
from megatron_redone.curation.pairs.config import JudgeAgreementConfig, JudgeConfig, PairsConfig
from megatron_redone.curation.pairs.judged import (
    agreement_report,
    choose_labelled,
    given_pair,
    judge_identity,
    judged_pairs,
    passed_agreement,
    read_verdicts,
    verdicts_of,
)
from megatron_redone.curation.pairs.pair_files import AnswerPair
from megatron_redone.scoring.judge import Comparison, Label, PointwiseJudge, Verdict, length_scores

SERVER: dict[str, Any] = {"kind": "server", "server": {"url": "http://h/v1", "model": "m"}}


def answers(number: int, label: Label | None = None, **changes: Any) -> AnswerPair:
    fields: dict[str, Any] = {
        "id": f"p{number}",
        "messages": [{"role": "user", "content": f"question {number}"}],
        "answer_a": "a long answer",
        "answer_b": "short",
        "label": label,
        "language": "en" if number % 2 else "zh",
        "task": "companion",
        "row": f"p{number}",
        "source": f"file#{number}",
    }
    return AnswerPair(**{**fields, **changes})


def judge(**changes: Any) -> JudgeConfig:
    return JudgeConfig.model_validate({**SERVER, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "pointwise"},
        {"language": "zh"},
        {"min_margin": 1.0},
        {"kind": "length", "server": None},
        {"server": {"url": "http://h/v1", "model": "other"}},
        {"server": {"url": "http://h/v1", "model": "m", "temperature": 0.5}},
        {"server": {"url": "http://h/v1", "model": "m", "max_tokens": 5}},
    ],
)
def test_what_changes_verdicts_makes_another_judge(changes: dict[str, Any]) -> None:
    assert judge_identity(judge(), None, 0) != judge_identity(judge(**changes), None, 0)


def test_where_a_server_stands_and_how_fast_it_is_asked_does_not() -> None:
    moved = {"url": "http://elsewhere/v1", "model": "m", "concurrency": 99, "max_attempts": 2}
    assert judge_identity(judge(), None, 0) == judge_identity(judge(server=moved), None, 1)


def test_a_local_judge_is_its_weights_and_its_seed_where_it_samples() -> None:
    local = JudgeConfig(kind="model")
    assert judge_identity(local, "1", 0) != judge_identity(local, "2", 0)
    assert judge_identity(local, "1", 0) == judge_identity(local, "1", 5)
    warm = JudgeConfig.model_validate({"kind": "model", "generation": {"temperature": 0.7}})
    assert judge_identity(warm, "1", 0) != judge_identity(warm, "1", 5)


def report(verdicts: Sequence[Label], labels: Sequence[Label], folder: Path, identity: dict[str, Any]) -> Path:
    pairs = [answers(number, label) for number, label in enumerate(labels)]
    config = JudgeAgreementConfig.model_validate({"labelled": "./x", "judge": SERVER, "gate": {"min_pairs": 20}})
    found = {pair.id: Verdict(label) for pair, label in zip(pairs, verdicts, strict=True)}
    content = agreement_report(config, identity, pairs, found, seed=0)
    (folder / "agreement.json").write_text(json.dumps(content))
    return folder


def test_a_judge_that_passed_may_label_and_its_figures_go_with_each_pair(tmp_path: Path) -> None:
    identity = judge_identity(judge(), None, 0)
    labels: list[Label] = ["a", "b"] * 20
    agreement = passed_agreement(report(labels, labels, tmp_path, identity), identity)
    assert set(agreement["by_language"]) == {"en", "zh"} and agreement["figures"]["confusion"]["a"]["a"] == 20
    candidates = [answers(0), answers(1), answers(2)]
    verdicts = {"p0": Verdict("a", scores=(3.0, 1.0)), "p1": Verdict("tie"), "p2": Verdict("b", scores=(1.0, 2.0))}
    first, second = judged_pairs(candidates, verdicts, agreement, {})
    assert (first.chosen, first.chosen_reward, first.rejected_reward) == ("a long answer", 3.0, 1.0)
    assert (second.chosen, second.chosen_reward, second.rejected_reward) == ("short", 2.0, 1.0)
    assert (second.how, second.source, second.row, second.task) == ("judge", "file#2", "p2", "companion")
    assert second.detail["judge"] == identity and second.detail["winner"] == "b"
    assert second.detail["agreement"]["kappa"] == 1.0 and second.detail["agreement"]["accuracy_interval"] == [1.0, 1.0]


def test_a_judge_that_failed_must_not_label_and_the_figures_are_said(tmp_path: Path) -> None:
    identity = judge_identity(judge(), None, 0)
    labels: list[Label] = ["a", "b"] * 20
    folder = report(["a"] * 40, labels, tmp_path, identity)
    with pytest.raises(InputError, match=r"did not pass and must not label \(accuracy 0\.500 .*kappa 0\.000"):
        passed_agreement(folder, identity)


def test_the_agreement_of_another_judge_says_nothing(tmp_path: Path) -> None:
    labels: list[Label] = ["a", "b"] * 20
    folder = report(labels, labels, tmp_path, judge_identity(judge(), None, 0))
    other = judge(server={"url": "http://h/v1", "model": "n"})
    with pytest.raises(InputError, match=r"another judge .model: 'm' there, 'n' here"):
        passed_agreement(folder, judge_identity(other, None, 0))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"judge": {}}', '{"passed": true}'])
def test_a_damaged_agreement_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "agreement.json").write_text(content)
    with pytest.raises(DataError, match=r"agreement\.json: (no such file|not what)"):
        passed_agreement(tmp_path, {})


def test_verdicts_are_written_batch_by_batch_and_read_back(tmp_path: Path) -> None:
    progress, batches = ProgressFile(tmp_path / "verdicts.jsonl"), []
    pairs = [answers(number) for number in range(7)]
    comparisons = [pair.comparison() for pair in pairs]
    verdicts_of(PointwiseJudge(length_scores), comparisons, progress.append, batches.append, batch_size=3)
    assert batches == [3, 3, 1]
    again = ProgressFile(tmp_path / "verdicts.jsonl")
    assert again.done == {pair.id for pair in pairs}
    assert read_verdicts(again) == {pair.id: Verdict("a", scores=(13.0, 5.0)) for pair in pairs}
    progress.append([{"id": "x", "winner": "tie", "readings": ["a", None], "scores": None}])
    assert read_verdicts(progress)["x"] == Verdict("tie", readings=("a", None))


def test_a_line_that_a_kill_cut_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    ProgressFile(path).append([{"id": "one"}, {"id": "two"}])
    whole = path.read_bytes()
    for cut in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:cut])
        progress = ProgressFile(path)
        assert progress.done == {"one"}
        progress.append([{"id": "two"}])
        assert path.read_bytes() == whole
    assert ProgressFile(tmp_path / "none.jsonl").done == set() and list(ProgressFile(tmp_path / "none.jsonl")) == []


def test_the_language_of_the_question_may_be_set() -> None:
    pair = answers(1)
    assert [pair.comparison(language).language for language in ("auto", "zh")] == ["en", "zh"]
    assert isinstance(pair.comparison(), Comparison)


def test_labelled_pairs_are_drawn_by_the_seed_among_those_short_enough() -> None:
    pairs = [answers(number, "a", answer_a="x" * number) for number in range(1, 60)]
    config = JudgeAgreementConfig.model_validate(
        {"labelled": "./x", "judge": SERVER, "gate": {"min_pairs": 5}, "max_pairs": 9, "max_characters": 45}
    )
    chosen = choose_labelled(config, pairs, 0)
    assert len(chosen) == 9 and max(len(pair.answer_a) for pair in chosen) <= 45 - len("question 11short")
    assert chosen == choose_labelled(config, pairs[::-1], 0) != choose_labelled(config, pairs, 1)


def test_a_labelled_pair_is_taken_as_it_is_and_a_tie_is_none() -> None:
    assert given_pair(answers(0, "tie")) is None
    pair = given_pair(answers(0, "b", score_a=1.0, score_b=4.0))
    assert pair is not None and (pair.chosen, pair.rejected, pair.how) == ("short", "a long answer", "given")
    assert (pair.chosen_reward, pair.rejected_reward) == (4.0, 1.0)


LENGTH = {"kind": "length"}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, "no source of pairs"),
        ({"option_order": {}}, "data is missing"),
        ({"data": "./d", "files": ["./f"]}, "read by no source"),
        ({"data": "./d", "model_errors": {}}, "either model or predictions"),
        ({"data": "./d", "model_errors": {}, "model": "./m", "predictions": "./p"}, "either model or predictions"),
        ({"data": "./d", "option_order": {}, "model": "./m"}, "is for model_errors or own_answers, which are missing"),
        ({"candidates": "./c", "judge": LENGTH}, "need judge and agreement"),
        ({"files": ["./f"], "judge": LENGTH}, "are for candidates or own_answers.judge_weight, which"),
        ({"files": ["./f"], "judge_model": "./m"}, "there is no judge"),
        ({"candidates": "./c", "judge": LENGTH, "agreement": "./a", "judge_model": "./m"}, "runs no local model"),
        ({"candidates": "./c", "judge": {"kind": "model"}, "agreement": "./a"}, "judge_model is missing"),
        ({"candidates": "./c", "judge": {"kind": "server"}, "agreement": "./a"}, "add a `server` section"),
        ({"files": ["./f"], "max_length_ratio": 0.5}, "greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        PairsConfig.model_validate(settings)


def test_fewer_pairs_than_the_gate_asks_for_are_refused() -> None:
    with pytest.raises(ValidationError, match="no judge could pass"):
        JudgeAgreementConfig.model_validate({"labelled": "./x", "judge": LENGTH, "max_pairs": 50})
