from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.conversations import TrainingConversation, read_conversations
from megatron_redone.curation.held_out import HeldOut
from megatron_redone.curation.sft import pool
from megatron_redone.curation.sft.build import BuiltSets, build_sft_sets, token_counter
from megatron_redone.curation.sft.config import MixConfig, SFTSetConfig
from megatron_redone.curation.sft.mixing import GENERAL, SNS
from megatron_redone.curation.sft.pool import SourceFile, source_files
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.packing import best_fit_bins
from megatron_redone.reporting.data_schema import SFTSetResult
from megatron_redone.reporting.schema import read_result
from tests.scripted_generation import sum_row, sums_template


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


def talk(number: int, turns: int = 1, **keys: Any) -> dict[str, Any]:
    messages = []
    for turn in range(turns):
        messages += [
            {"role": "user", "content": f"what is {number} + {turn}?"},
            {"role": "assistant", "content": f"the answer is {number + turn}"},
        ]
    return {"id": f"talk-{number}", "messages": messages} | keys


def write(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def files_of(sns: Path | None = None, general: Path | None = None) -> list[SourceFile]:
    return [file for root, part in ((sns, SNS), (general, GENERAL)) if root for file in source_files(root, part)]


def build(
    work: Path,
    files: list[SourceFile],
    config: SFTSetConfig | None = None,
    template: ChatTemplate | None = None,
    limit: float = 0.2,
) -> BuiltSets:
    work.mkdir(exist_ok=True)
    count_tokens = token_counter(template) if template else None
    return build_sft_sets(config or SFTSetConfig(), files, work, count_tokens, limit, seed=0)


def written(folder: Path) -> list[TrainingConversation]:
    return list(read_conversations(folder / "conversations.jsonl"))


def result_of(folder: Path) -> SFTSetResult:
    return read_result(folder / "set.json", SFTSetResult)


def test_task_rows_and_conversations_become_one_set_with_its_counts(tmp_path: Path) -> None:
    sns = write(tmp_path / "sns.jsonl", [sum_row(number).to_json() for number in range(6)])
    general = write(tmp_path / "alpaca.jsonl", [{"instruction": f"say {n}", "output": "好"} for n in range(6)])
    built = build(tmp_path / "work", files_of(sns, general), SFTSetConfig(num_rows=8, general_share=0.25))
    found, result = written(tmp_path / "work"), result_of(tmp_path / "work")
    assert len(found) == result.rows == built.counts["conversations"] == 8
    assert sum(one.task == "arithmetic" for one in found) == 6
    assert result.general_share == result.general_share_asked == 0.25
    assert {name: count.rows for name, count in result.by_source.items()} == {"sns.jsonl": 6, "alpaca.jsonl": 2}
    assert {name: count.rows for name, count in result.by_capability.items()} == {"general": 8}
    assert sum(task.share_reached for task in result.tasks) == pytest.approx(1)
    assert result.tokens is None and result.packing is None
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["conversations.jsonl", "set.json"]


def test_a_schedule_makes_a_set_a_step(tmp_path: Path) -> None:
    sns = write(tmp_path / "sns.jsonl", [sum_row(number).to_json() for number in range(20)])
    general = write(tmp_path / "talks.jsonl", [talk(number) for number in range(40)])
    built = build(tmp_path / "work", files_of(sns, general), SFTSetConfig(schedule="redone"))
    assert (built.counts["step1/conversations"], built.counts["step2/conversations"]) == (40, 25)
    assert [result_of(tmp_path / "work" / step).general_share for step in ("step1", "step2")] == [0.5, 0.2]
    second = {one.id for one in written(tmp_path / "work" / "step2")}
    assert second < {one.id for one in written(tmp_path / "work" / "step1")}


@settings(max_examples=15)
@given(turns=st.lists(st.integers(1, 6), min_size=2, max_size=12), length=st.integers(24, 120))
def test_no_answer_is_cut_and_efficiency_is_that_of_the_counted_tokens(
    tmp_path_factory: pytest.TempPathFactory, template: ChatTemplate, turns: list[int], length: int
) -> None:
    folder = tmp_path_factory.mktemp("set")
    talks = {f"talk-{number}": talk(number, count) for number, count in enumerate(turns)}
    tokens = {key: len(template.training_ids(value["messages"]).token_ids) for key, value in talks.items()}
    fitting = {key for key, count in tokens.items() if count <= length}
    files = files_of(write(folder / "talks.jsonl", talks.values()))
    if not fitting:
        with pytest.raises(DataError, match="no row is left"):
            build(folder / "work", files, SFTSetConfig(sequence_length=length), template)
        return
    built = build(folder / "work", files, SFTSetConfig(sequence_length=length), template)
    found, result = written(folder / "work"), result_of(folder / "work")
    assert {one.id for one in found} == fitting
    assert all(list(one.messages) == talks[one.id]["messages"] for one in found)
    assert built.counts["pool/too_long"] == len(talks) - len(fitting)
    kept = sorted((tokens[key] for key in fitting), reverse=True)
    bins = best_fit_bins(kept, length)
    assert result.tokens is not None and result.packing is not None
    assert (result.tokens.total, result.packing.packed_rows) == (sum(kept), len(bins))
    assert result.packing.efficiency == sum(kept) / (len(bins) * length)
    assert all(sum(kept[place] for place in members) <= length for members in bins)


def test_over_long_conversations_may_be_refused_instead(tmp_path: Path, template: ChatTemplate) -> None:
    files = files_of(write(tmp_path / "talks.jsonl", [*(talk(number) for number in range(5)), talk(9, 30)]))
    config = SFTSetConfig(sequence_length=100, too_long="refuse")
    built = build(tmp_path / "work", files, config, template)
    assert built.counts["pool/refused"] == 1
    assert "talks.jsonl:6: " in built.refused[0] and "more than sequence_length=100" in built.refused[0]
    with pytest.raises(DataError, match="1 of 6 rows refused, but at most 10% may be"):
        build(tmp_path / "again", files, config, template, limit=0.1)


def test_bad_rows_are_told_with_their_line_and_too_many_stop_the_job(tmp_path: Path) -> None:
    rows = [*(talk(number) for number in range(8)), "{broken", talk(8) | {"messages": []}]
    path = write(tmp_path / "talks.jsonl", rows)
    built = build(tmp_path / "work", files_of(path))
    assert [problem.partition(": ")[0] for problem in built.refused] == [f"{path}:9", f"{path}:10"]
    assert (built.counts["pool/rows"], built.counts["rows_refused/talks.jsonl"]) == (8, 2)
    with pytest.raises(DataError, match=r"2 of 10 rows refused(.|\n)*talks\.jsonl:9: not JSON"):
        build(tmp_path / "again", files_of(path), limit=0.1)
    with pytest.raises(DataError, match=r"empty\.jsonl: no row"):
        build(tmp_path / "third", files_of(write(tmp_path / "empty.jsonl", [])))


def test_an_id_that_stands_twice_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [talk(number) for number in range(6)])
    second = write(tmp_path / "b.jsonl", [talk(10), talk(3, 2)])
    built = build(tmp_path / "work", files_of(first, second))
    assert built.refused == [f"{second}:2: id 'talk-3' stands before it in the inputs"]
    assert [len(one.messages) for one in written(tmp_path / "work") if one.id == "talk-3"] == [2]
    with pytest.raises(DataError, match="6 of 12 rows have an id that stood before"):
        build(tmp_path / "again", [*files_of(first), *files_of(None, first)])


def test_a_share_that_the_inputs_cannot_give_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sns = write(tmp_path / "sns.jsonl", [sum_row(number).to_json() for number in range(6)])
    general = write(tmp_path / "talks.jsonl", [talk(0)])
    with caplog.at_level("WARNING"):
        build(tmp_path / "work", files_of(sns, general), SFTSetConfig(num_rows=10, general_share=0.5))
    assert "general share 0.167 instead of 0.500" in caplog.text and "6 rows instead of num_rows=10" in caplog.text
    assert result_of(tmp_path / "work").general_share == pytest.approx(1 / 6)


def test_copies_have_ids_of_their_own(tmp_path: Path) -> None:
    files = files_of(write(tmp_path / "talks.jsonl", [talk(0), talk(1)]))
    build(tmp_path / "work", files, SFTSetConfig(num_rows=6, max_repeats=3))
    found = written(tmp_path / "work")
    assert sorted(one.id for one in found) == [f"talk-{n}{copy}" for n in range(2) for copy in ("", "#2", "#3")]
    result = result_of(tmp_path / "work")
    assert (result.rows, result.different_rows, result.tasks[0].sampling_rate) == (6, 2, 3.0)


def test_an_interrupted_job_goes_on_at_the_file_it_had_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.jsonl", [talk(number, id=f"{name}{number}") for number in range(3)])
    files = [file for name in "abc" for file in source_files(tmp_path / f"{name}.jsonl", SNS)]
    build(tmp_path / "whole", files)
    read: list[str] = []
    original = pool.read_records

    def interrupted(path: Path) -> Any:
        read.append(path.name)
        if read == ["a.jsonl", "b.jsonl"]:
            raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(pool, "read_records", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "work", files)
    build(tmp_path / "work", files)
    assert read == ["a.jsonl", "b.jsonl", "b.jsonl", "c.jsonl"]
    for name in ("conversations.jsonl", "set.json"):
        assert (tmp_path / "work" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("as_list", [False, True])
def test_memory_does_not_grow_with_the_text(tmp_path: Path, as_list: bool) -> None:
    text = "x" * 20_000
    rows = [{"instruction": f"{number} {text}", "output": "a"} for number in range(1000)]
    path = tmp_path / ("rows.json" if as_list else "rows.jsonl")
    path.write_text(json.dumps(rows) if as_list else "\n".join(map(json.dumps, rows)))
    del rows
    tracemalloc.start()
    build(tmp_path / "work", files_of(path), SFTSetConfig(num_rows=900))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 20_000_000
    assert peak_bytes < 8_000_000


def test_settings_that_contradict_each_other_are_refused() -> None:
    for given_settings, rule in (
        ({"general_share": 0.1, "general_rows": 3}, "give one of them"),
        ({"num_rows": 3, "general_rows": 4}, "more than num_rows=3"),
        ({"capability_shares": {"a": 0.7, "b": 0.5}, "num_rows": 9}, "add up to 1 at most"),
        ({"capability_shares": {"a": 0.7}}, "needs num_rows"),
        ({"task_weights": {"a": 0.0}}, "must be above 0"),
        ({"schedule": "redone", "num_rows": 9}, "schedule: num_rows beside it would have no effect"),
    ):
        with pytest.raises(ValueError, match=rule):
            SFTSetConfig(**given_settings)  # type: ignore[arg-type]
    assert SFTSetConfig(num_rows=5, task_balance=0.2).mixes == (MixConfig(num_rows=5, task_balance=0.2),)


def test_planted_held_out_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    long = " ".join(f"word{number}" for number in range(20))
    leak = talk(50, id="renamed", messages=[{"role": "user", "content": f"so: {long}"}, *talk(50)["messages"][1:]])
    sns = write(tmp_path / "sns.jsonl", [talk(number) for number in range(20)] + [leak])
    test = write(tmp_path / "test.jsonl", [talk(3), {"id": "other", "question": long}])
    held_out = HeldOut([test], HeldOutConfig())
    built = build_sft_sets(SFTSetConfig(), files_of(sns), tmp_path, None, 0.0, seed=0, held_out=held_out)
    assert {row.id for row in written(tmp_path)} == {f"talk-{number}" for number in range(20) if number != 3}
    assert (built.counts["held_out/id"], built.counts["held_out/ngrams"]) == (1, 1)
    assert built.counts["pool/rows"] == 19 and not built.refused  # left out is not refused
