"""Everything that can be known to fail is told before the first stage, in one list; each fault planted once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_redone.curation.synthesize.config import RowsPerTask, SynthesizeConfig
from megatron_redone.curation.synthesize.generate import generate
from megatron_redone.recipes.checks import bucket_problems, problems_before_start
from megatron_redone.recipes.graph import load_recipe

RECIPE = """\
name: part
output: run
stages:
  corpus:
    kind: filter
    documents: [./rows/corpus.jsonl]
    decontamination: {benchmarks: [./benchmarks]}
  words: {kind: tokenizer, corpus: corpus, vocab_size: 700}
  tokens: {kind: tokenize, corpus: corpus, tokenizer: words}
  start:
    kind: pretrain
    model: {preset: qwen3-tiny}
    tokens: tokens
    tokenizer: words
    steps: 1
    evaluate: {data: ./rows}
  explore_set: {kind: rl_set, data: ./rows}
  diagnose: {kind: diagnose, model: start, data: ./rows}
  target_set: {kind: target_set, model: start, data: ./rows, diagnosis: ./diagnosis, num_rows: 4}
  bench: {kind: sns_bench_rows, data: ./sns, tasks: [Note-Gender]}
"""
ITEM = {"instruction": "?"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    config = SynthesizeConfig(
        tasks=("note_security",),
        rows=RowsPerTask(train=4, validation=2, diagnosis=4, test=4),
        general_rows=2,
        corpus_documents=20,
    )
    generate(config, folder, 0)
    return folder


@pytest.fixture
def place(rows: Path, tmp_path: Path) -> Path:
    """A recipe whose inputs are all there, but for the SNS-Bench file, which tests write."""
    (tmp_path / "rows").mkdir()
    for file in rows.iterdir():
        (tmp_path / "rows" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "good.jsonl").write_text('{"question": "which of them?"}\n')
    (tmp_path / "diagnosis").mkdir()
    (tmp_path / "diagnosis" / "diagnosis.json").write_text(json.dumps({"weak_bucket": ["note_security"]}))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def problems(place: Path, *overrides: str, needs_inputs: bool = True, only: str | None = None) -> list[str]:
    recipe = load_recipe(place / "recipe.yaml", [f"output={place / 'run'}", *overrides])
    return problems_before_start(recipe, 1, only, needs_inputs)


def test_what_is_whole_has_no_problem_but_the_missing_benchmark(place: Path) -> None:
    assert problems(place, "bench=null") == []
    (found,) = problems(place)
    assert found.startswith("stage bench: data='./sns': ") and "is not there" in found
    assert problems(place, needs_inputs=False) == []


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (
            lambda p: (p / "benchmarks" / "bad.jsonl").write_text('{"question": \n'),
            "stage corpus: decontamination.benchmarks.0='./benchmarks': ",
        ),
        (lambda p: (p / "benchmarks" / "bad.json").write_bytes(b"\xff\xfe["), "bad.json"),
        (lambda p: (p / "benchmarks" / "good.jsonl").unlink(), "no benchmark files there"),
        (lambda p: (p / "rows" / "test.jsonl").write_text("{}\n"), "stage start: evaluate.data='./rows': "),
        (lambda p: (p / "rows" / "test.jsonl").unlink(), "test.jsonl"),
        (lambda p: (p / "rows" / "diagnosis.jsonl").write_text("no row\n"), "stage diagnose: data='./rows': "),
        (lambda p: (p / "rows" / "train.jsonl").unlink(), "stage explore_set: data='./rows': "),
        (lambda p: (p / "diagnosis" / "diagnosis.json").unlink(), "a diagnosis is a folder with that file"),
    ],
)
def test_inputs_that_cannot_be_used(place: Path, plant: Callable[[Path], object], expected: str) -> None:
    plant(place)
    found = problems(place, "bench=null")
    assert any(expected in problem for problem in found), found
    assert problems(place, "bench=null", needs_inputs=False) == found  # what is there is looked at in a dry run, too


def test_a_benchmark_of_the_platform_is_read_item_by_item(place: Path) -> None:
    (place / "sns").mkdir()
    for text, expected in (
        ("[1, 2]", "2 of 2 items refused"), ("{", "not JSON"), ("{}", "a dict, expected a list"),
    ):  # fmt: skip
        (place / "sns" / "Note-Gender.json").write_text(text)
        (found,) = problems(place)
        assert found.startswith("stage bench: data='./sns': ") and expected in found


def test_a_stage_reads_what_the_right_kind_of_stage_makes(place: Path) -> None:
    found = problems(
        place, "bench=null", "diagnose.model=tokens", "start.tokens=words", "target_set.diagnosis=explore_set"
    )
    assert sorted(problem.partition(",")[0] for problem in found) == [
        "stage diagnose: model='tokens' is a tokenize stage",
        "stage start: tokens='words' is a tokenizer stage",
        "stage target_set: diagnosis='explore_set' is a rl_set stage",
    ]
    assert "but a model is read here; name another stage" in "\n".join(found)


def test_places_that_are_written_while_they_are_read(place: Path) -> None:
    (place / "run" / "corpus").mkdir(parents=True)
    (place / "run" / "corpus" / "corpus.jsonl").write_text('{"id": "a", "text": "b"}\n')
    (found,) = problems(place, "bench=null", "words.corpus=./run/corpus")
    assert "words: corpus='./run/corpus' is what stage corpus of this recipe writes; name the stage" in found
    (found,) = problems(place, "bench=null", "words.corpus=./")
    assert f"words: corpus='./' holds the folder of the run ({place / 'run'})" in found


def test_a_stage_by_itself_is_checked_without_the_inputs_of_others(place: Path) -> None:
    (place / "rows" / "train.jsonl").unlink()
    assert len(problems(place)) == 3  # two sets, one benchmark
    assert problems(place, only="words") == []


def test_all_problems_come_at_once(place: Path) -> None:
    (place / "rows" / "train.jsonl").unlink()
    (place / "benchmarks" / "bad.json").write_text("[")
    found = problems(place, "parallel.tp=3", "diagnose.model=tokens")
    told = "\n".join(found)
    for part in ("parallel.tp", "train.jsonl", "bad.json", "'./sns'", "model='tokens'"):
        assert part in told


def test_a_bucket_names_tasks_of_the_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "bucket.yaml"
    file.write_text("tasks:\n  note_security: {weight: 2.0}\n  query_intent: {}\n")
    assert list(bucket_problems(file)) == []
    file.write_text("tasks:\n  note_securitty: {}\n  none_such: {}\n")
    first, second = bucket_problems(file)
    assert "task 'note_securitty' is not in the catalogue; did you mean 'note_security'?" in first and "none" in second
    for text, expected in (("tasks: 3\n", "names none"), ("tasks: [\n", "not valid YAML"), ("", "the file is empty")):
        file.write_text(text)
        (found,) = bucket_problems(file)
        assert expected in found
