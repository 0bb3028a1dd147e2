"""What is done is not done again, what changed is, by whatever way it changed; and what stands is told beforehand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.files import sha256_path
from megatron_redone.launch.environment import from_environ
from megatron_redone.recipes import code_version as code
from megatron_redone.recipes.graph import Recipe, load_recipe
from megatron_redone.recipes.runner import RecipeRunner
from megatron_redone.recipes.standing import disagreements, standings
from megatron_redone.recipes.workspace import MANIFEST, Workspace

RECIPE = """\
name: graph
output: run
stages:
  pool: {kind: sft_set, data: ./a, sns: [./extra.jsonl]}
  few: {kind: sft_set, data: ./a, rows_per_task: 2, general_rows: 0}
  words: {kind: tokenizer, corpus: ./corpus.jsonl, vocab_size: 800}
  tokens: {kind: tokenize, corpus: ./corpus.jsonl, tokenizer: words}
  lengths: {kind: stats, data: [pool], tokenizer: words}
  explore: {kind: rl_set, data: ./b}
  rules: {kind: baselines, data: ./b}
"""
READS = {
    "pool": {"a", "extra.jsonl"}, "few": {"a"}, "words": {"corpus.jsonl"}, "tokens": {"corpus.jsonl", "words"},
    "lengths": {"pool", "words"}, "explore": {"b"}, "rules": {"b"},
}  # fmt: skip
"""The same graph, written down by hand."""


def dependents(changed: str) -> set[str]:
    found: set[str] = set()
    while more := {stage for stage, reads in READS.items() if reads & (found | {changed})} - found:
        found |= more
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs, the recipe, and its finished run."""
    place = tmp_path_factory.mktemp("graph")
    made = place / "made.yaml"
    rows = "tasks: [note_security, query_intent], rows: {train: 8, validation: 2, diagnosis: 2, test: 4}"
    made.write_text(
        "name: made\noutput: made\nstages:\n"
        f"  a: {{kind: synthesize, {rows}, general_rows: 4, corpus_documents: 120}}\n"
        f"  b: {{kind: synthesize, {rows.replace('8', '6')}, general_rows: 2, corpus_documents: 0}}\n"
    )
    runner(load_recipe(made, [f"output={place / 'made'}"])).run()
    for name in ("a", "b"):
        shutil.copytree(place / "made" / name, place / name, ignore=shutil.ignore_patterns(MANIFEST))
    shutil.copy(place / "a" / "corpus.jsonl", place / "corpus.jsonl")
    row = {"id": "more", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    (place / "extra.jsonl").write_text(json.dumps(row) + "\n")
    (place / "recipe.yaml").write_text(RECIPE)
    runner(recipe_in(place)).run()
    return place


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "place")


def recipe_in(place: Path, *overrides: str) -> Recipe:
    return load_recipe(place / "recipe.yaml", [f"output={place / 'run'}", *overrides])


def runner(recipe: Recipe) -> RecipeRunner:
    return RecipeRunner(recipe, "redone run", from_environ({"OMP_NUM_THREADS": "1"}))


def made_at(place: Path) -> dict[str, int]:
    """When each stage was published: its manifest is written anew each time."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (place / "run").glob(f"*/{MANIFEST}")}


def states(place: Path, *overrides: str) -> dict[str, str]:
    workspace = Workspace(recipe_in(place, *overrides), place / "run")
    return {
        run.id: f"{found.state}{' after ' + ', '.join(waits) if waits else ''}"
        for run, found, waits in standings(workspace)
    }


def append_row(file: Path) -> None:
    """The last row again under another id."""
    row = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row | {"id": "one-more"}, ensure_ascii=False) + "\n")


def longer_text(file: Path) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps({"id": "one-more", "text": "Something entirely different was written here."}) + "\n")


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("a", lambda place: append_row(place / "a" / "train.jsonl")),
        ("b", lambda place: append_row(place / "b" / "train.jsonl")),
        ("corpus.jsonl", lambda place: longer_text(place / "corpus.jsonl")),
        (
            "extra.jsonl",
            lambda place: (place / "extra.jsonl").write_text(
                (place / "extra.jsonl").read_text().replace("Hello", "Bye")
            ),
        ),
    ],
)
def test_changing_one_input_runs_exactly_the_stages_that_depend_on_it(
    place: Path, name: str, edit: Callable[[Path], object]
) -> None:
    assert set(states(place).values()) == {"done"}
    before = made_at(place)
    edit(place)
    told = {stage for stage, state in states(place).items() if state != "done"}
    assert told == dependents(name)
    runner(recipe_in(place)).run()
    after = made_at(place)
    assert {stage for stage in after if after[stage] != before[stage]} == dependents(name)
    assert set(states(place).values()) == {"done"}


def test_a_stage_whose_input_was_made_again_without_a_difference_is_not_run(place: Path) -> None:
    before = made_at(place)
    with (place / "a" / "train.jsonl").open("a") as file:
        file.write("\n")  # an empty line is no row
    assert states(place)["lengths"] == "done after pool"
    runner(recipe_in(place)).run()
    after = made_at(place)
    assert {stage for stage in after if after[stage] != before[stage]} == {"pool", "few"}


def test_the_plan_tells_what_changed_and_what_waits(place: Path) -> None:
    assert states(place, "words.vocab_size=820") == {
        "pool": "done", "few": "done", "words": "changed", "tokens": "done after words",
        "lengths": "done after words", "explore": "done", "rules": "done",
    }  # fmt: skip
    workspace = Workspace(recipe_in(place, "words.vocab_size=820"), place / "run")
    reasons = {run.id: found.reason for run, found, _ in standings(workspace)}
    assert reasons["words"] == "vocab_size was 800, now 820"
    shutil.rmtree(place / "run" / "pool")
    assert states(place)["pool"] == "absent" and states(place)["lengths"] == "done after pool"


def test_another_layout_is_no_change_of_a_stage(place: Path) -> None:
    assert set(states(place, "lengths.parallel.tp=2", "lengths.threads=3").values()) == {"done"}


def test_from_runs_a_stage_and_all_its_readers_again(place: Path) -> None:
    before, hashes = made_at(place), sha256_path(place / "run" / "lengths")
    runner(recipe_in(place)).run(from_stage="words")
    after = made_at(place)
    assert {stage for stage in after if after[stage] != before[stage]} == {"words", "tokens", "lengths"}
    assert sha256_path(place / "run" / "lengths") == hashes and not list((place / "run" / ".work").iterdir())


def test_from_is_remembered_when_the_run_is_interrupted(place: Path) -> None:
    interrupted = runner(recipe_in(place))
    interrupted._prepare("words", interrupted.recipe.runs)  # and then the process is killed
    assert {stage for stage, state in states(place).items() if state.startswith("again")} == {
        "words",
        "tokens",
        "lengths",
    }
    before = made_at(place)
    runner(recipe_in(place)).run()
    after = made_at(place)
    assert {stage for stage in after if after[stage] != before[stage]} == {"words", "tokens", "lengths"}
    assert set(states(place).values()) == {"done"}


def test_only_runs_one_stage_and_gives_what_a_whole_run_gives(finished: Path, place: Path) -> None:
    shutil.rmtree(place / "run")
    for stage in ("words", "pool", "lengths", "tokens"):
        runner(recipe_in(place)).run(only_stage=stage)
        told = {one["folder"]: one["status"] for one in json.loads((place / "run" / "run.json").read_text())["stages"]}
        assert told[stage] == "done"
    assert {one for one, status in told.items() if status == "done"} == {"words", "pool", "lengths", "tokens"}
    for stage in ("words", "pool", "lengths", "tokens"):
        assert sha256_path(place / "run" / stage) == sha256_path(finished / "run" / stage)


def test_only_refuses_to_run_without_what_it_reads(place: Path) -> None:
    shutil.rmtree(place / "run" / "pool")
    with pytest.raises(ConfigError, match=r"stage lengths: data\.0='pool' is not done in .*; run that stage first"):
        runner(recipe_in(place)).run(only_stage="lengths")


def test_only_tells_what_a_whole_run_would_make_first(
    place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_redone.recipes.runner.LOG.propagate", True)
    runner(recipe_in(place)).run(only_stage="lengths")
    assert caplog.text.count("would be run again first") == 0
    runner(recipe_in(place, "words.vocab_size=820")).run(only_stage="tokens")
    assert "words was made with other settings (vocab_size was 800, now 820); without --only" in caplog.text
    text = (place / "recipe.yaml").read_text() + "  last: {kind: stats, data: [lengths, pool], tokenizer: words}\n"
    (place / "recipe.yaml").write_text(text)
    append_row(place / "a" / "train.jsonl")
    runner(recipe_in(place)).run(only_stage="pool")
    recipe = recipe_in(place)
    found = disagreements(Workspace(recipe, place / "run"), [recipe.run_of("last")])
    assert found == [
        "lengths was made from another pool than stands there now; without --only it would be run again first"
    ]


def test_stages_by_themselves_run_side_by_side_but_not_beside_a_whole_run(place: Path) -> None:
    """In one process record locks do not exclude each other, so the second holder is a process of its own."""
    import subprocess
    import sys

    hold = (
        "import sys; from pathlib import Path; from megatron_redone.recipes.graph import load_recipe\n"
        "from megatron_redone.recipes.workspace import Workspace\n"
        "recipe = load_recipe(Path(sys.argv[1]))\n"
        "with Workspace(recipe, Path(sys.argv[2])).locked_for([recipe.run_of('words')]):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(place / "recipe.yaml"), str(place / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    runner(recipe_in(place)).run(only_stage="pool")
    with pytest.raises(InputError, match="words: another run works in this folder"):
        runner(recipe_in(place)).run(only_stage="words")
    with pytest.raises(InputError, match="another run works in this folder"):
        runner(recipe_in(place)).run()
    other.communicate()
    runner(recipe_in(place)).run()


def test_other_code_is_told_and_counts_only_when_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "run" / "pool" / MANIFEST
    manifest = json.loads(path.read_text())
    assert manifest["code_version"] == code.code_version()
    path.write_text(json.dumps(manifest | {"code_version": "0.1.0+000000000000"}))
    workspace = Workspace(recipe_in(place), place / "run")
    told = {run.id: found for run, found, _ in standings(workspace)}
    assert told["pool"].state == "done" and "made by code 0.1.0+000000000000, this is " in told["pool"].reason
    assert told["few"].reason == ""
    before = made_at(place)
    runner(recipe_in(place)).run()
    assert made_at(place) == before
    runner(recipe_in(place)).run(rerun_on_new_code=True)
    after = made_at(place)
    assert {stage for stage in after if after[stage] != before[stage]} == {"pool"}
    assert json.loads(path.read_text())["code_version"] == code.code_version()


def test_the_code_version_follows_the_rooms_that_make_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rl/dapo.py", "reporting/html.py", "cli/run.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    compute = code.code_version.__wrapped__
    first = compute()
    (tmp_path / "reporting" / "html.py").write_text("x = 2\n")
    (tmp_path / "cli" / "run.py").write_text("x = 2\n")
    assert compute() == first
    (tmp_path / "rl" / "dapo.py").write_text("x = 2\n")
    assert compute() != first


@pytest.mark.parametrize("killed_before", ["the manifest is complete", "checkpoints are gone", "the old one is moved"])
def test_a_kill_while_a_stage_is_published_costs_nothing(place: Path, killed_before: str) -> None:
    """The folder is put into the states that publishing goes through; no executor runs again."""
    run, work = place / "run", place / "run" / ".work" / "pool"
    work.parent.mkdir(exist_ok=True)
    before = made_at(place)["pool"]
    shutil.copytree(run / "pool", work)  # with its manifest and its time stamps
    shutil.rmtree(run / "pool")
    if killed_before == "the manifest is complete":
        (work / "work.json").write_text("{}")
        (work / "checkpoints").mkdir()
        (work / "checkpoints" / "latest.json").write_text("{}")
    elif killed_before == "the old one is moved":
        (run / "pool").mkdir()
    shutil.rmtree(run / ".work" / "pool.old", ignore_errors=True)
    runner(recipe_in(place)).run()
    assert made_at(place)["pool"] == before and set(states(place).values()) == {"done"}
    assert not (run / "pool" / "checkpoints").exists() and not (run / "pool" / "work.json").exists()
    assert not list((run / ".work").iterdir())
