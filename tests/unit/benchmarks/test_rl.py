"""The alignment benchmark: both sides read the same tokens, time adds up by part, ratios are formed inside a round."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.benchmarks.inputs import row_texts, write_model_folder
from megatron_redone.benchmarks.part_clock import PARTS, PartClock
from megatron_redone.benchmarks.quiet import Watched
from megatron_redone.benchmarks.rl import OURS, check_same_work, measure_alignment, sides, summary
from megatron_redone.benchmarks.rl_config import RLBenchmarkConfig
from megatron_redone.benchmarks.rl_inputs import BenchmarkInputs, prepare_inputs
from megatron_redone.benchmarks.rl_ours import measure_dapo, measure_dpo
from megatron_redone.cli.benchmark_rl import PART_NAMES, rollout_table, side_table
from megatron_redone.common.errors import ConfigError, DataError, RedoneError
from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.config.loading import validate
from megatron_redone.curation.synthesize.task_rows import TaskRows
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.tasks.reading import write_rows

PEER = """
import json, sys
settings = json.load(open(sys.argv[1]))
part, sizes = settings["part"], settings["config"][settings["part"]]
lines = [json.loads(line) for line in open(settings["inputs"]["prompts" if part == "dapo" else "pairs_in_order"])]
size = sizes["prompts_per_rollout"] if part == "dapo" else sizes["pairs_per_step"]
steps = []
for number in range(sizes["warmup"], sizes["warmup"] + sizes["steps"]):
    of_step = lines[number * size : (number + 1) * size]
    read = sum(len(line["prompt_ids"]) for line in of_step)
    answers = sum(len(line.get(key, [])) for line in of_step for key in ("chosen_ids", "rejected_ids"))
    both = 2 * read + answers
    steps.append({"seconds": 1e3 * settings["micro_batch"], "cpu_seconds": 1.0, "parts": {"update": 1.0},
                  "prompt_tokens": read + FAULT, "new_tokens": 0, "trained_tokens": both + FAULT})
json.dump({"steps": steps, "threads": 1, "versions": {"peer": "1"}}, open(sys.argv[3], "w"))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings over a tiny model, few rows and short pairs."""
    folder = tmp_path_factory.mktemp("rl_benchmark")
    rows = TaskRows("query_intent", 0).rows("train", 12)
    write_rows(folder / "rows.jsonl", rows)
    shape = get_preset("qwen2.5-tiny").model_copy(update={"vocab_size": 2048})
    write_model_folder(shape, row_texts(rows), folder / "model", seed=0)
    answers = ["maybe so", "not at all today", "yes", "no never", "perhaps tomorrow"]
    write_jsonl(
        folder / "pairs.jsonl",
        [{"id": str(n), "prompt": f"question {n}", "chosen": answers[n], "rejected": "other"} for n in range(5)],
    )
    return {
        "model": str(folder / "model"),
        "rows": str(folder / "rows.jsonl"),
        "pairs": str(folder / "pairs.jsonl"),
        "rounds": 2,
        "threads": 1,
        "max_other_cores": 1000.0,
        "parts": ["dapo", "dpo"],
        "dapo": {
            "prompts_per_rollout": 4, "responses_per_prompt": 2, "minibatch_prompts": 2, "max_prompt_tokens": 200,
            "max_new_tokens": 4, "max_tokens_per_microbatch": 512, "peer_batches": [2, 4], "steps": 2,
        },
        "dpo": {
            "pairs_per_step": 2, "max_length": 64, "max_tokens_per_microbatch": 256, "peer_batches": [1], "steps": 2,
        },
    }  # fmt: skip


def config_of(settings: dict[str, Any], **more: Any) -> RLBenchmarkConfig:
    return validate(RLBenchmarkConfig, {**settings, **more}, "test")


def test_our_dapo_steps_read_the_prompts_that_the_peer_gets(
    tiny: dict[str, Any], tmp_path: Path, parallel_context: ParallelContext
) -> None:
    config = config_of(tiny)
    inputs = prepare_inputs(config, tmp_path)
    steps = measure_dapo(config, inputs, tmp_path / "work", parallel_context)
    given = [len(line["prompt_ids"]) for _, line in read_jsonl(inputs.prompts)]
    assert len(given) == (1 + 2) * 4
    assert [step.prompt_tokens for step in steps] == [sum(given[4:8]), sum(given[8:12])]
    for step in steps:
        assert 4 * 2 <= step.new_tokens <= 4 * 2 * 4
        assert step.trained_tokens == 2 * step.prompt_tokens + step.new_tokens
        assert set(step.parts) == set(PARTS) and all(seconds > 0 for seconds in step.parts.values())
        assert sum(step.parts.values()) == pytest.approx(step.seconds)


def test_our_dpo_steps_train_on_the_pairs_that_the_peer_gets(
    tiny: dict[str, Any], tmp_path: Path, parallel_context: ParallelContext
) -> None:
    config = config_of(tiny)
    inputs = prepare_inputs(config, tmp_path)
    steps = measure_dpo(config, inputs, tmp_path / "work", parallel_context)
    lines = [line for _, line in read_jsonl(inputs.pairs_in_order)]
    tokens = [2 * len(line["prompt_ids"]) + len(line["chosen_ids"]) + len(line["rejected_ids"]) for line in lines]
    assert len(lines) == (2 + 2) * 2
    assert [step.trained_tokens for step in steps] == [sum(tokens[4:6]), sum(tokens[6:8])]


def test_a_comparison_says_ratios_time_by_part_and_quiet(tiny: dict[str, Any], tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text(PEER.replace("FAULT", "0"), encoding="utf-8")
    said: list[str] = []
    config = config_of(tiny, peer=f"{sys.executable} {peer}", parts=["dpo"], rounds=1)
    folder = tmp_path / "work"
    folder.mkdir()
    found = measure_alignment(config, folder, os.environ, said.append)["dpo"]
    ours, theirs = found["sides"][OURS], found["sides"]["peer, 1 pairs at once"]
    assert found["fastest_peer"] == "peer, 1 pairs at once" and found["unit"] == "pairs_per_second"
    assert ours["pairs_per_second"]["median"] == pytest.approx(2 / ours["seconds_per_step"]["median"])
    assert theirs["peer_over_ours"]["median"] == pytest.approx(1e3 / ours["seconds_per_step"]["median"])
    assert ours["all_quiet"] and ours["repeats"] == 0 and len(ours["runs"]) == 1
    assert theirs["versions"] == {"peer": "1"}
    assert any("others" in line for line in said)


def test_sides_that_read_other_tokens_are_no_comparison() -> None:
    run = {"steps": [{"prompt_tokens": 5, "trained_tokens": 7}]}
    other = {"steps": [{"prompt_tokens": 6, "trained_tokens": 7}]}
    check_same_work("dpo", {OURS: [run], "peer": [other]})
    with pytest.raises(RedoneError, match=r"peer read \[6\] prompt_tokens, ours \[5\]; the comparison is void"):
        check_same_work("dapo", {OURS: [run], "peer": [other]})


def test_ratios_are_formed_inside_a_round() -> None:
    def runs(*seconds: float, tokens: int = 100) -> list[Watched[dict[str, Any]]]:
        step = {"cpu_seconds": 1.0, "parts": {"generate": 0.5}, "new_tokens": tokens}
        return [
            Watched({"steps": [{"seconds": value, **step}], "versions": {}}, 0.01 * place, place, place == 0)
            for place, value in enumerate(seconds)
        ]

    config = RLBenchmarkConfig()
    found = summary("dapo", config, {OURS: runs(1.0, 2.0), "slow": runs(4.0, 6.0), "fast": runs(2.0, 5.0, tokens=90)})
    assert found["fastest_peer"] == "fast"
    assert found["sides"]["slow"]["peer_over_ours"] == {"median": 3.5, "min": 3.0, "max": 4.0}
    assert found["sides"][OURS]["answers_per_second"]["max"] == 64.0
    assert found["sides"][OURS]["parts"] == {**dict.fromkeys(PARTS, 0.0), "generate": 0.5}
    assert found["sides"]["slow"]["same_lengths"] and not found["sides"]["fast"]["same_lengths"]
    assert found["sides"]["slow"]["repeats"] == 1 and not found["sides"]["slow"]["all_quiet"]


def test_the_tables_say_who_was_fastest_and_who_was_not_quiet() -> None:
    def side(seconds: float, *, quiet: bool) -> dict[str, Any]:
        spread = {"median": seconds, "min": seconds, "max": seconds}
        return {
            "seconds_per_step": spread, "answers_per_second": spread, "peer_over_ours": spread,
            "cpu_seconds_per_step": spread, "parts": dict.fromkeys(PARTS, 0.5), "same_lengths": quiet,
            "other_cores": [0.02, 0.3], "repeats": 2, "all_quiet": quiet,
        }  # fmt: skip

    sides_of = {OURS: side(1.0, quiet=True), "peer": side(2.5, quiet=False)}
    result = {"unit": "answers_per_second", "fastest_peer": "peer", "sides": sides_of}
    table = side_table("dapo", result, RLBenchmarkConfig())
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == [OURS, "peer (fastest) (answers of other lengths)"]
    assert cells[3] == ["", "2.50 (2.50 to 2.50)"]
    assert cells[-1] == ["0.30 cores, 2 repeated", "0.30 cores, 2 repeated, NOT QUIET"]
    assert [column.header for column in table.columns][4:9] == list(PART_NAMES.values())

    engine = {"name": "vllm", "tokens_per_second": 500.0, "ratio": 0.5, "ratio_range": (0.4, 0.8)}
    record = {"sequences": 8, "config": {"new_tokens": 4}, "engines": [engine], "other_cores": 0.01}
    table = rollout_table({**record, "repeats": 0, "all_quiet": True})
    assert [next(iter(column.cells)) for column in table.columns] == [
        "vllm", "500", "2.00 (1.25 to 2.50)", "0.01 cores"
    ]  # fmt: skip


def test_every_micro_batch_of_the_peer_is_a_side() -> None:
    config = config_of({}, peer="python peer.py", compile_peer=True, dpo={"peer_batches": [2, 8]})
    names = [side.name for side in sides(config, "dpo")]
    assert names == [
        "ours",
        "peer, 2 pairs at once",
        "peer, 8 pairs at once",
        "peer, 2 pairs at once, compiled",
        "peer, 8 pairs at once, compiled",
    ]
    assert [side.name for side in sides(config_of({}), "dapo")] == ["ours"]


def test_a_peer_that_fails_is_told_with_its_last_words(tiny: dict[str, Any], tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text("raise SystemExit('no such peer')", encoding="utf-8")
    config = config_of(tiny, peer=f"{sys.executable} {peer}", parts=["dpo"])
    from megatron_redone.benchmarks.rl import Job, Side, _run_side

    inputs = BenchmarkInputs(*[tmp_path / "x"] * 5)
    job = Job(config, inputs, tmp_path, os.environ, print)
    with pytest.raises(RedoneError, match="no such peer"):
        _run_side(job, "dpo", Side("peer", (sys.executable, str(peer)), {}))


def test_parts_end_where_the_next_begins() -> None:
    ticks = iter([0.0, 1.0, 4.0, 4.5, 5.0, 6.0])
    clock = PartClock(wall=lambda: next(ticks), cpu=lambda: 0.0)
    clock.enter("generate")
    clock.enter("reward")
    clock.enter("generate")
    clock.end_step()
    assert clock.steps[0].seconds == 5.0
    assert clock.steps[0].parts == {"rest": 1.0, "generate": 3.5, "reward": 0.5}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"parts": ["dapo", "dapo"]}, r"parts=dapo,dapo: give some of dapo, dpo, rollout, each once"),
        (
            {"dapo": {"prompts_per_rollout": 4, "minibatch_prompts": 4}},
            r"must be a multiple of minibatch_prompts=4, and",
        ),
        ({"dapo": {"peer_batches": [7]}}, r"peer_batches=7 does not divide the 32 sequences"),
        ({"dpo": {"peer_batches": [3]}}, r"peer_batches=3 does not divide pairs_per_step=8"),
    ],
)
def test_settings_that_make_no_fair_comparison_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config_of(settings)


def test_data_that_does_not_fit_is_refused(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row has a prompt of at most dapo.max_prompt_tokens=2"):
        prepare_inputs(config_of(tiny, dapo={**tiny["dapo"], "max_prompt_tokens": 2}), tmp_path)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"id": "1", "prompt": "p", "chosen": "a", "rejected": "a"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"0 of 1 pairs can be used"):
        prepare_inputs(config_of(tiny, pairs=str(pairs)), tmp_path)
