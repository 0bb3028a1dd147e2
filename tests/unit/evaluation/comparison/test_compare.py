"""Runs on disk, compared: planted gains and losses are found, and what does not belong together is not compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.evaluation.benchmark_scoring import Answered, item_scores, score_benchmark
from megatron_redone.evaluation.comparison.compare import compare_runs
from megatron_redone.evaluation.comparison.reading import read_runs
from megatron_redone.evaluation.comparison.scored import CompareSettings
from megatron_redone.evaluation.results import BenchmarkResult, ItemScore, write_results
from megatron_redone.evaluation.sns_bench.benchmark import sns_bench
from megatron_redone.reporting.comparison_page import comparison_html
from megatron_redone.reporting.comparison_schema import Change, ComparisonResult
from megatron_redone.reporting.schema import EvaluationResult, Prediction, TaskScore
from megatron_redone.scoring.base import Score
from megatron_redone.tasks.catalogue import TASKS

SETTINGS = CompareSettings(num_resamples=1000)


def write_benchmark(
    folder: Path,
    values: Mapping[str, Sequence[float]],
    benchmark: str = "quiz",
    settings: Mapping[str, Any] | None = None,
    score: float | None = None,
) -> Path:
    """An evaluation whose scores are means of its items."""
    means = {task: 100 * sum(of_task) / len(of_task) for task, of_task in values.items()}
    result = BenchmarkResult(
        benchmark=benchmark,
        label="made",
        score=50.0,
        interval=(40.0, 60.0),
        score_rule="the mean",
        groups=means,
        tasks={task: {"score": mean if score is None else score} for task, mean in means.items()},
        baselines={},
        settings=dict(settings or {}),
    )
    items = [ItemScore(task, i, value, True, {}) for task, of_task in values.items() for i, value in enumerate(of_task)]
    write_results(folder, result, items)
    return folder


def write_stage(folder: Path, tasks: Mapping[str, Sequence[Score]], with_statistics: bool = True) -> Path:
    """The evaluation of a recipe's stage."""
    scores = [
        TaskScore(
            task=name,
            capability=TASKS[name].capability,
            reward_kind=TASKS[name].reward_kind,
            num_rows=len(of_task),
            score=round(100 * TASKS[name].scorer.aggregate(of_task), 4),
            interval=(0.0, 100.0),
            parse_rate=1.0,
        )
        for name, of_task in tasks.items()
    ]
    result = EvaluationResult(
        label=folder.name, split="test", model="m", tasks=tuple(scores), mean_score=0.0, num_rows=1,
        settings={"temperature": 0.0, "max_sequences": 4, "over_long_prompts": 0},
    )  # fmt: skip
    lines = [
        Prediction(
            id=f"{name}-{number}", task=name, language="en", prompt="p", output="o", target=f"gold {number}",
            value=score.value, parsed=score.parsed, statistics=dict(score.statistics) if with_statistics else {},
        )
        for name, of_task in tasks.items()
        for number, score in enumerate(of_task)
    ]  # fmt: skip
    atomic_write_json(folder / "evaluation" / "results.json", result.model_dump(mode="json"))
    write_jsonl(folder / "evaluation" / "predictions.jsonl", (line.model_dump(mode="json") for line in lines))
    return folder


def coins(chance: float, count: int, seed: object) -> list[float]:
    random = Random(f"{seed}")
    return [float(random.random() < chance) for _ in range(count)]


def compared(*folders: Path, settings: CompareSettings = SETTINGS) -> ComparisonResult:
    return compare_runs(read_runs(folders), settings)


def change(result: ComparisonResult, name: str, run: int = 0) -> Change:
    (found,) = [one for one in result.comparisons[run].changes if one.name == name]
    return found


def reasons(result: ComparisonResult) -> list[str]:
    return [f"{one.benchmark}/{one.task}: {one.reason}" for one in result.comparisons[0].not_comparable]


def test_planted_gains_and_losses_are_found_and_the_rest_is_not_called(tmp_path: Path) -> None:
    same = {f"same{number}": coins(0.5, 60, number) for number in range(12)}
    first = write_benchmark(tmp_path / "base", {**same, "up": coins(0.3, 150, "a"), "down": coins(0.7, 150, "b")})
    noisy = {name: [1 - value if Random(name + str(i)).random() < 0.15 else value for i, value in enumerate(values)]
             for name, values in same.items()}  # fmt: skip
    second = write_benchmark(tmp_path / "new", {**noisy, "up": coins(0.6, 150, "c"), "down": coins(0.4, 150, "d")})
    result = compared(first, second)
    assert {one.name: one.verdict for one in result.comparisons[0].changes if one.verdict != "no conclusion"} == {
        "up": "better",
        "down": "worse",
    }
    up = change(result, "up")
    assert up.interval[0] < up.difference < up.interval[1] and up.q_value >= up.p_value
    assert up.wins - up.losses == round(up.difference * 150 / 100) and up.wins + up.ties + up.losses == 150


def test_false_verdicts_are_rare_over_many_tasks(tmp_path: Path) -> None:
    """80 tasks without a difference: single tests at 0.05 would call about four, the adjusted ones none."""
    tasks = {f"t{number:02}": coins(0.5, 40, ("x", number)) for number in range(80)}
    others = {f"t{number:02}": coins(0.5, 40, ("y", number)) for number in range(80)}
    first, second = write_benchmark(tmp_path / "a", tasks), write_benchmark(tmp_path / "b", others)
    result = compared(first, second, settings=CompareSettings(num_resamples=2000))
    changes = [one for one in result.comparisons[0].changes if one.level == "task"]
    assert any(one.p_value <= 0.05 for one in changes)
    assert all(one.verdict == "no conclusion" for one in changes)


def test_the_metric_of_a_task_is_computed_from_statistics(tmp_path: Path) -> None:
    """Micro-F1 of the catalogue and of SNS-Bench: neither is the mean of its items."""
    name = next(name for name, task in TASKS.items() if type(task.scorer).__name__ == "SetF1")
    scorer = TASKS[name].scorer
    gold = [[f"tag{number}", *(f"more{k}" for k in range(number % 5))] for number in range(30)]
    answers = [[[*tags[: 1 + number % 2]] for number, tags in enumerate(gold)], gold]
    scores = [scorer.score([tuple(a) for a in side], [tuple(g) for g in gold]) for side in answers]
    result = compared(*(write_stage(tmp_path / f"s{side}", {name: of_side}) for side, of_side in enumerate(scores)))
    task = change(result, name)
    assert task.first == pytest.approx(100 * scorer.aggregate(scores[0]), abs=1e-3)
    assert abs(task.first - 100 * sum(score.value for score in scores[0]) / 30) > 1
    assert (task.second, task.verdict, task.note) == (100.0, "better", "")


def test_official_metrics_of_sns_bench_are_resampled(tmp_path: Path) -> None:
    golds = [", ".join(f"e{k}" for k in range(1 + n % 4)) for n in range(40)]
    rows = [{"question": "q", "content": "c", "answer": gold} for gold in golds]
    benchmark = sns_bench(None, "")
    for run, outputs in (("a", ["e0"] * 40), ("b", golds)):
        result, scores = score_benchmark(
            benchmark, {"Note-NER.json": Answered(rows, outputs)}, label=run, settings={"embedder": "none"}
        )
        write_results(tmp_path / run, result, item_scores(scores))
        reported = result.tasks["Note-NER.json"]["score"]
    compared_result = compared(tmp_path / "a", tmp_path / "b")
    task = change(compared_result, "Note-NER.json")
    assert task.second == pytest.approx(reported, abs=0.01)
    assert (task.verdict, task.group) == ("better", "Note-NER")
    assert change(compared_result, "sns-bench").difference == task.difference
    assert compared_result.families == {"sns-bench": "sns"}


def test_rows_without_statistics_are_compared_by_their_mean_and_it_says_so(tmp_path: Path) -> None:
    name = next(name for name, task in TASKS.items() if type(task.scorer).__name__ == "SetF1")
    scorer = TASKS[name].scorer
    gold = [tuple(f"t{k}" for k in range(1 + n % 3)) for n in range(20)]
    scores = [scorer.score([(tags[0],) for tags in gold], gold), scorer.score(gold, gold)]
    folders = [write_stage(tmp_path / f"s{n}", {name: one}, with_statistics=False) for n, one in enumerate(scores)]
    assert "mean of the rows" in change(compared(*folders), name).note


def test_several_runs_stand_against_the_first(tmp_path: Path) -> None:
    chances = {"base": 0.3, "sft": 0.6, "rl": 0.3}
    folders = [write_benchmark(tmp_path / run, {"t": coins(p, 200, run)}) for run, p in chances.items()]
    result = compared(*folders)
    assert result.runs == ("base", "sft", "rl")
    assert [one.run for one in result.comparisons] == ["sft", "rl"]
    assert [change(result, "t", run).verdict for run in (0, 1)] == ["better", "no conclusion"]


def test_the_seesaw_shows_what_a_gain_costs(tmp_path: Path) -> None:
    for run, sns, general in (("base", 0.4, 0.7), ("sft", 0.8, 0.4), ("rl", 0.8, 0.7)):
        write_benchmark(tmp_path / run / "a", {"x": coins(sns, 200, run)}, benchmark="platform")
        write_benchmark(tmp_path / run / "b", {"y": coins(general, 200, ("g", general))}, benchmark="gsm8k")
    folders = [tmp_path / run for run in ("base", "sft", "rl")]
    result = compared(*folders, settings=CompareSettings(num_resamples=1000, sns=("platform",)))
    assert result.families == {"platform": "sns", "gsm8k": "general"}
    assert [point.run for point in result.seesaw] == ["base", "sft", "rl"]
    base, sft, rl = result.seesaw
    assert (sft.sns.verdict, sft.general.verdict) == ("better", "worse")
    assert (rl.sns.verdict, rl.general.verdict) == ("better", "no conclusion")
    assert (base.sns.difference, base.general.difference) == (0.0, 0.0)
    assert sft.sns.score - base.sns.score == pytest.approx(sft.sns.difference)
    page = comparison_html(result)
    assert "paid with general ability: the seesaw" in page and "<script" not in page
    assert compared(*folders).seesaw == ()  # without the name, both are general


def test_capabilities_of_a_recipe_make_a_seesaw(tmp_path: Path) -> None:
    general = next(name for name, task in TASKS.items() if task.capability == "general")
    security = "note_security"

    def scores(chance: float, seed: object) -> list[Score]:
        return [Score(value, True) for value in coins(chance, 100, seed)]

    base = write_stage(tmp_path / "base", {security: scores(0.2, 1), general: scores(0.9, 2)})
    sft = write_stage(tmp_path / "sft", {security: scores(0.8, 3), general: scores(0.3, 4)})
    result = compared(base, sft)
    assert [(point.sns.verdict, point.general.verdict) for point in result.seesaw[1:]] == [("better", "worse")]
    group = change(result, TASKS[security].capability)
    assert (group.level, group.verdict) == ("group", "better")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({"prompts": {"t": "built in"}}, {"prompts": {"t": "prompt set"}}, "quiz/t: prompts differs"),
        ({"data": {"t": "aa"}}, {"data": {"t": "bb"}}, 'quiz/t: data differs: "aa" against "bb"'),
        ({"embedder": "a"}, {"embedder": "b"}, 'quiz/: embedder differs: "a" against "b"'),
        (
            {"generation": {"temperature": 0}},
            {"generation": {"temperature": 1}},
            "quiz/: generation.",
        ),
    ],
)
def test_other_settings_are_not_compared(tmp_path: Path, old: dict[str, Any], new: dict[str, Any], reason: str) -> None:
    values = {"t": coins(0.5, 30, 0), "u": coins(0.5, 30, 1)}
    first = write_benchmark(tmp_path / "a", values, settings=old)
    second = write_benchmark(tmp_path / "b", values, settings=new)
    if reason.startswith("quiz/:"):
        with pytest.raises(InputError, match=r"nothing can be compared:\n  quiz : "):
            compared(first, second)
        # beside another benchmark the reason stands in the result
        for folder in (first, second):
            write_benchmark(folder.parent / "runs" / folder.name / "other", values, benchmark="other")
            write_benchmark(
                folder.parent / "runs" / folder.name / "quiz", values, settings=old if folder == first else new
            )
        result = compared(tmp_path / "runs" / "a", tmp_path / "runs" / "b")
        assert change(result, "other")
    else:
        result = compared(first, second)
        assert change(result, "u")
    assert any(text.startswith(reason) for text in reasons(result)), reasons(result)
    assert not [one for one in result.comparisons[0].changes if one.benchmark == "quiz" and one.name == "t"]


def test_what_names_the_models_side_may_differ(tmp_path: Path) -> None:
    values = {"t": coins(0.5, 30, 0)}
    settings = [
        {"engine": engine, "counts": {"rows": engine}, "limit": limit, "generation": {"seed": 1, "max_new_tokens": 4}}
        for engine, limit in (("megatron", None), ("vllm", 30))
    ]
    folders = [write_benchmark(tmp_path / str(n), values, settings=one) for n, one in enumerate(settings)]
    assert reasons(compared(*folders)) == []
    as_file = write_benchmark(tmp_path / "file", values, settings={"predictions_sha256": "x"})
    result = compared(folders[0], as_file)
    assert "how the answers of one run were generated is not known" in result.comparisons[0].notes[0]


def test_other_prompts_are_told_apart_by_their_hashes(tmp_path: Path) -> None:
    values = {"t": coins(0.5, 20, 0), "u": [1.0, 0.0]}
    first, same, other = (
        write_benchmark(tmp_path / name, values, settings={"prompts": {"t": f"built in, sha256 {digest}"}})
        for name, digest in (("a", "0a"), ("b", "0a"), ("c", "0b"))
    )
    assert reasons(compared(first, same)) == []
    assert reasons(compared(first, other))[0].startswith('quiz/t: prompts differs: "built in, sha256 0a" against')


def test_missing_items_are_refused_or_left_out_and_counted(tmp_path: Path) -> None:
    first = write_benchmark(tmp_path / "a", {"t": coins(0.2, 100, 1), "u": coins(0.5, 50, 2)})
    second = write_benchmark(tmp_path / "b", {"t": coins(0.8, 60, 3), "u": coins(0.5, 50, 2)})
    result = compared(first, second)
    assert reasons(result) == [
        "quiz/t: 40 items are in the first run alone and 0 in the other; --missing leave-out compares the rest"
    ]
    left_out = compared(first, second, settings=CompareSettings("leave-out", num_resamples=500))
    task = change(left_out, "t")
    assert (task.num_items, task.left_out, task.verdict) == (60, 40, "better")
    assert change(left_out, "quiz").left_out == 40


def test_few_items_give_no_verdict(tmp_path: Path) -> None:
    first = write_benchmark(tmp_path / "a", {"t": [0.0] * 9})
    second = write_benchmark(tmp_path / "b", {"t": [1.0] * 9})
    task = change(compared(first, second), "t")
    assert (task.difference, task.verdict) == (100.0, "no conclusion")


def test_rows_with_other_gold_answers_are_not_compared(tmp_path: Path) -> None:
    scores = [Score(1.0, True)] * 12
    folders = [write_stage(tmp_path / name, {"note_security": scores}) for name in ("a", "b")]
    path = folders[1] / "evaluation" / "predictions.jsonl"
    path.write_text(path.read_text().replace('"gold 3"', '"other"'))
    with pytest.raises(InputError, match="1 rows have other gold answers in the two runs, first 'note_security-3'"):
        compared(*folders)


def test_items_that_do_not_give_the_score_are_refused(tmp_path: Path) -> None:
    first = write_benchmark(tmp_path / "a", {"t": coins(0.5, 30, 1)}, score=99.0)
    second = write_benchmark(tmp_path / "b", {"t": coins(0.5, 30, 1)})
    with pytest.raises(InputError, match="the 30 items do not give the reported score"):
        compared(first, second)


def test_benchmarks_and_tasks_of_one_run_alone_are_named(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "a" / "x", {"t": coins(0.5, 30, 1), "only": [1.0]})
    write_benchmark(tmp_path / "a" / "y", {"t": [1.0]}, benchmark="other")
    write_benchmark(tmp_path / "b" / "x", {"t": coins(0.5, 30, 1)})
    assert reasons(compared(tmp_path / "a", tmp_path / "b")) == [
        "other/: b has no evaluation on it",
        f"quiz/only: {tmp_path / 'b' / 'x'} has no such task",
    ]


def test_runs_are_named_by_as_much_of_their_path_as_it_takes(tmp_path: Path) -> None:
    folders = [write_benchmark(tmp_path / run / "sns", {"t": [1.0]}) for run in ("base", "sft")]
    assert [run.name for run in read_runs(folders)] == ["base/sns", "sft/sns"]
    with pytest.raises(DataError, match="the same folder stands twice"):
        read_runs([folders[0], folders[0]])


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    good = write_benchmark(tmp_path / "good", {"t": [1.0, 0.0]})
    with pytest.raises(DataError, match=r"no results\.json there"):
        read_runs([good, tmp_path / "absent"])
    scores = good / "scores.jsonl"
    whole = scores.read_bytes()
    for content, message in (
        (whole + b'{"task": "t"', r"scores\.jsonl:3: not JSON"),
        (whole + b"\xff\xfe\n", r"scores\.jsonl:3: not UTF-8"),
        (whole + whole, r"t has the row 0 twice"),
        (whole.replace(b'"t"', b'"v"'), r"task 'v' is not in results\.json"),
        (whole.replace(b'"index"', b'"place"'), r"scores\.jsonl:1: KeyError"),
    ):
        scores.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_runs([good])
    scores.unlink()
    with pytest.raises(DataError, match=r"neither scores\.jsonl nor predictions\.jsonl"):
        read_runs([good])
    with pytest.raises(InputError, match="1 run; give at least two"):
        compared(write_benchmark(tmp_path / "one", {"t": [1.0]}))


def test_equal_files_give_equal_results(tmp_path: Path) -> None:
    first = write_benchmark(tmp_path / "a", {"t": coins(0.4, 40, 1)})
    second = write_benchmark(tmp_path / "b", {"t": coins(0.6, 40, 2)})
    results = [compared(first, second) for _ in range(2)]
    assert json.dumps(results[0].model_dump(mode="json")) == json.dumps(results[1].model_dump(mode="json"))
    lines = (second / "scores.jsonl").read_text().splitlines()
    (second / "scores.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    assert compared(first, second) == results[0]  # the order of the lines plays no part
