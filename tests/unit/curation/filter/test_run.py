from __future__ import annotations

import gzip
import json
import os
import random
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import DataError, InputError, Interrupted, Preempted
from megatron_redone.curation.filter import steps
from megatron_redone.curation.filter.config import FilterConfig
from megatron_redone.curation.filter.executors import HostExecutor
from megatron_redone.curation.filter.passes import Inputs, plan_passes
from megatron_redone.curation.filter.pieces import Piece, labelled_files, plan_tasks
from megatron_redone.curation.filter.rules import judge
from megatron_redone.curation.filter.run import STEP_OF_REASON, Filtered, filter_corpus
from tests.unit.curation.filter.texts import clean_texts, read_texts, write_documents

FEW_BANDS = {"num_buckets": 8, "hashes_per_bucket": 4}


def run(work: Path, documents: list[Path], **options: Any) -> Filtered:
    work.mkdir(exist_ok=True)
    config = FilterConfig.model_validate({"minhash": FEW_BANDS, **options.pop("settings", {})}, strict=False)
    return filter_corpus(config, documents, work, 1, options.pop("max_refused_share", 0.1), **options)


def files(folder: Path, texts: list[str], per_file: int) -> list[Path]:
    """Documents spread over files, ids d0, d1, ..."""
    documents = [(f"d{i}", text) for i, text in enumerate(texts)]
    starts = range(0, len(documents), per_file)
    return [write_documents(folder / f"f{start:04d}.jsonl", documents[start : start + per_file]) for start in starts]


def dropped(folder: Path, reason: str) -> list[dict[str, Any]]:
    """Samples for review."""
    return [json.loads(line) for line in (folder / "dropped" / f"{reason}.jsonl").read_text().splitlines()]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """One task a file, instead of one for many MiB."""
    monkeypatch.setattr(
        "megatron_redone.curation.filter.run.plan_tasks",
        lambda inputs, _: [[Piece(str(path), label)] for path, label in labelled_files(inputs)],
    )


def varied(text: str) -> str:
    """The text with its end changed: a near duplicate."""
    return (
        text[:-6] + "完全不同的尾" if ord(text[0]) > 255 else " ".join([*text.split()[:-3], "another", "end", "here"])
    )


@pytest.mark.usefixtures("small_shards")
def test_duplicates_are_found_over_shards_and_the_first_is_kept(tmp_path: Path) -> None:
    texts = clean_texts(24)
    planted = [*texts, texts[3], texts[4], varied(texts[6]), varied(texts[7]), texts[3]]
    done = run(tmp_path / "out", files(tmp_path / "in", planted, 5))
    assert sorted(read_texts(tmp_path / "out")) == sorted(f"d{i}" for i in range(24))
    assert done.counts["dropped/exact_duplicate"] == 3
    assert done.counts["dropped/near_duplicate"] == 2
    assert done.counts["shards"] == 6
    samples = dropped(tmp_path / "out", "near_duplicate")
    assert {(s["id"], s["source"]) for s in samples} == {("d26", "f0025.jsonl:2"), ("d27", "f0025.jsonl:3")}


def test_near_duplicates_stay_where_the_search_is_off(tmp_path: Path) -> None:
    texts = clean_texts(4)
    run(tmp_path / "out", files(tmp_path / "in", [*texts, varied(texts[0])], 9), settings={"minhash": None})
    assert len(read_texts(tmp_path / "out")) == 5
    assert (tmp_path / "out/corpus.jsonl").is_file()
    assert not (tmp_path / "out/steps").exists()


@settings(max_examples=6)
@given(st.lists(st.sampled_from(["clean", "same", "near", "short", "symbols", "german", "repeated"]), max_size=12))
def test_the_account_adds_up(kinds: list[str]) -> None:
    import tempfile

    texts = clean_texts(len(kinds) + 1)
    made = {
        "same": texts[0],
        "near": varied(texts[0]),
        "short": "no",
        "symbols": "★☆★☆ ■□■□ one two three four five",
        "german": "Gestern fuhren wir mit dem Zug an die Küste, und das Wetter war den ganzen Tag wunderschön.",
        "repeated": "again and again. " * 9,
    }
    documents = [texts[0], *(made.get(kind, text) for kind, text in zip(kinds, texts[1:], strict=True))]
    with tempfile.TemporaryDirectory() as name:
        done = run(Path(name) / "out", files(Path(name) / "in", documents, 100))
        result = json.loads((Path(name) / "out/filter.json").read_text())
        kept = read_texts(Path(name) / "out")
    dropped = sum(count for key, count in done.counts.items() if key.startswith("dropped/"))
    assert done.counts["documents"] == len(documents) == dropped + len(kept)
    assert result["read"]["units"] == result["kept"]["units"] + sum(entry["units"] for entry in result["dropped"])
    assert {entry["reason"] for entry in result["dropped"]} <= set(STEP_OF_REASON)


@pytest.mark.usefixtures("small_shards")
def test_workers_and_shards_do_not_change_what_is_kept(tmp_path: Path) -> None:
    texts = clean_texts(12)
    inputs = files(tmp_path / "in", [*texts, texts[2], varied(texts[5])], 4)
    alone = run(tmp_path / "alone", inputs)
    together = run(tmp_path / "together", inputs, settings={"executor": {"workers": 2}})
    assert alone.counts == together.counts
    for name in ("filter.json", "corpus-00001.jsonl.gz", "kept_samples.jsonl"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "together" / name).read_bytes()


@pytest.mark.usefixtures("small_shards")
def test_after_a_kill_finished_shards_are_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = files(tmp_path / "in", clean_texts(20), 5)
    judged: list[str] = []

    def counting(text: str, config: FilterConfig) -> object:
        judged.append(text)
        if len(judged) == 13 and child == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return judge(text, config)

    monkeypatch.setattr(steps, "judge", counting)
    child = os.fork()
    if child == 0:
        run(tmp_path / "out", inputs)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    done = run(tmp_path / "out", inputs)
    assert len(judged) == 10  # two of four files were finished; the third, begun before the kill, is read anew
    assert done.counts["kept"] == 20
    whole = run(tmp_path / "whole", inputs)
    assert whole.counts == done.counts


@pytest.mark.usefixtures("small_shards")
def test_a_stop_is_obeyed_between_passes_and_the_rest_follows(tmp_path: Path) -> None:
    inputs = files(tmp_path / "in", clean_texts(8), 2)
    folder = tmp_path / "out"

    def stop() -> Interrupted | None:
        return Preempted("stop now") if (folder / "steps/hashes").is_dir() else None

    with pytest.raises(Preempted, match="stop now"):
        run(folder, inputs, stop=stop)
    assert not (folder / "steps/pairs").exists()
    assert run(folder, inputs).counts["kept"] == 8


@pytest.mark.usefixtures("small_shards")
def test_a_stop_is_obeyed_between_the_tasks_of_a_pass(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    inputs = files(tmp_path / "in", clean_texts(8), 2)
    pieces = [[Piece(str(path), label)] for path, label in labelled_files(inputs)]
    (rules, *_) = plan_passes(FilterConfig(), Inputs(pieces, tmp_path / "kept"), folder, 0)
    executor = HostExecutor(rules.pipeline, folder / "stop", tasks=4, logging_dir=str(folder / "rules"))
    executor.run_task(0)
    (folder / "stop").touch()
    with pytest.raises(Preempted):
        executor.run_task(1)
    assert executor.get_incomplete_ranks() == [1, 2, 3]


def test_repeated_ids_with_another_text_are_refused_with_file_and_line(tmp_path: Path) -> None:
    first, second, third = clean_texts(3)
    path = write_documents(
        tmp_path / "in/n.jsonl", [("a", first), ("a", second), ("b", second), ("a", first), ("c", third)]
    )
    done = run(tmp_path / "out", [path])
    assert read_texts(tmp_path / "out") == {"a": first, "b": second, "c": third}
    assert done.counts["dropped/repeated_id"] == 1
    assert done.counts["dropped/exact_duplicate"] == 1
    assert done.refused == ["n.jsonl:2: id='a' stood before with another text; ids must be unique"]


def test_too_many_refused_lines_end_the_run_and_a_few_do_not(tmp_path: Path) -> None:
    path = write_documents(tmp_path / "in/n.jsonl", [(f"d{i}", text) for i, text in enumerate(clean_texts(9))])
    path.write_text(path.read_text() + "not json\n")
    assert run(tmp_path / "out", [path]).refused == [
        "n.jsonl:10: not JSON (Expecting value at column 1); one object a line"
    ]
    with pytest.raises(DataError, match=r"n.jsonl: 1 of 10 lines cannot be read, more than max_refused_share=0.05"):
        run(tmp_path / "strict", [path], max_refused_share=0.05)


def test_an_input_without_documents_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "n.jsonl").touch()
    with pytest.raises(DataError, match=r"no documents in the input; the first problem: n.jsonl:1: the file is empty"):
        run(tmp_path / "out", [tmp_path / "n.jsonl"])


def test_benchmarks_are_taken_out_and_named(tmp_path: Path) -> None:
    texts = clean_texts(6)
    bench = tmp_path / "bench/quiz.json"
    bench.parent.mkdir()
    bench.write_text(json.dumps([{"q": "nothing"}, {"q": texts[1]}, {"q": texts[2]}]))
    settings = {"decontamination": {"benchmarks": ["./bench"]}}
    done = run(tmp_path / "out", files(tmp_path / "in", texts, 9), settings=settings, benchmarks=[bench.parent])
    assert done.counts["dropped/benchmark"] == 2
    details = {sample["detail"].split(" ")[0] for sample in dropped(tmp_path / "out", "benchmark")}
    assert details == {"bench/quiz.json:1", "bench/quiz.json:2"}


def test_samples_are_bounded_and_do_not_depend_on_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [(f"d{i}", f"too few {i}") for i in range(60)] + [("good", clean_texts(1)[0])]
    path = write_documents(tmp_path / "in/n.jsonl", documents)
    run(tmp_path / "whole", [path], settings={"samples_per_reason": 7})
    monkeypatch.setattr("megatron_redone.curation.filter.run.plan_tasks", lambda inputs, _: plan_tasks(inputs, 400))
    assert run(tmp_path / "cut", [path], settings={"samples_per_reason": 7}).counts["shards"] > 3
    whole, cut = ((tmp_path / name / "dropped/too_short.jsonl").read_text() for name in ("whole", "cut"))
    assert whole == cut
    assert len(whole.splitlines()) == 7


SLURM = {"executor": {"kind": "slurm", "slurm": {"partition": "cpu", "account": "lab", "time": "01:00:00"}}}


def test_without_sbatch_the_batch_scripts_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no `sbatch` on this host"):
        run(tmp_path / "out", files(tmp_path / "in", clean_texts(4), 9), settings=SLURM)
    scripts = sorted(path.parent.name for path in (tmp_path / "out").rglob("launch_script.slurm"))
    assert scripts == ["bands", "clusters", "ids", "keep", "rules", "signatures", "texts"]
    script = (tmp_path / "out/steps/passes/bands/launch_script.slurm").read_text()
    for line in ("--partition=cpu", "--account=lab", "--time=01:00:00", "--array=0-7", "launch_pickled_pipeline"):
        assert line in script


def test_with_sbatch_the_passes_are_chained_and_the_rest_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "submitted"
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {log}\necho "Submitted batch job $(grep -c . {log})"\n')
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    inputs = files(tmp_path / "in", clean_texts(4), 9)
    with pytest.raises(Preempted, match="7 passes are submitted"):
        run(tmp_path / "out", inputs, settings=SLURM)
    submitted = [line for line in log.read_text().splitlines() if "--export" in line]
    assert len(submitted) == 7
    assert sum("--dependency=afterok:" in line for line in submitted) == 6
    local = run(tmp_path / "out", inputs)  # as the jobs would: the same tasks, elsewhere
    assert local.counts["kept"] == 4


def test_workers_that_a_compressed_file_leaves_idle_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = random.Random(0).randbytes(3 << 20).hex()  # hardly compressible, so that the file is above one MiB
    lines = [json.dumps({"text": noise[i : i + 4000]}) for i in range(0, len(noise), 4000)]
    (tmp_path / "raw.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    settings = {"minhash": None, "shard_mib": 1, "executor": {"workers": 2}}
    run(tmp_path / "out", [tmp_path / "raw.jsonl.gz"], settings=settings)
    assert "2 workers, but only 1 tasks: a compressed file is never divided (raw.jsonl.gz)" in caplog.text
