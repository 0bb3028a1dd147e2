"""Lineage over artefacts written by hand: what is said is in the manifests and lists, and nothing more is said."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.common.files import sha256_path
from megatron_redone.curation.tokens.shard import VALIDATION, document_key, split_of
from megatron_redone.recipes.lineage.artefacts import find_artefacts
from megatron_redone.recipes.lineage.trace import IdTrace, trace_id, trace_path
from megatron_redone.recipes.lineage.training import tally
from megatron_redone.training.ledger import DataLedger

STARTED = "2025-01-01T00:00:{:02d}+00:00"


class Runs:
    """Folders of stages as the runner publishes them."""

    def __init__(self, root: Path) -> None:
        self.root, self._number = root, 0

    def stage(
        self,
        name: str,
        kind: str,
        inputs: Mapping[str, str] | None = None,
        files: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        counts: Mapping[str, int] | None = None,
        samples: bytes | None = None,
        **settings: Any,
    ) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True)
        if kind in ("sft", "dapo", "pretrain", "evaluate"):
            (folder / "model").mkdir()
        if samples is not None:
            (folder / "samples.jsonl.gz").write_bytes(samples)
        for file, lines in (files or {}).items():
            (folder / file).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        self._number += 1
        manifest = {
            "stage": name,
            "kind": kind,
            "status": "done",
            "config": {"kind": kind, **settings},
            "code_version": "1",
            "seeds": [0],
            "inputs": {field: self._record(reference) for field, reference in (inputs or {}).items()},
            "outputs": {"folder": {"path": name, "sha256": sha256_path(folder)}},
            "counts": dict(counts or {}),
            "started": STARTED.format(self._number),
            "seconds": 1.0,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    def _record(self, reference: str) -> dict[str, str]:
        path = Path(reference) if "/" in reference else self.root / reference
        return {"path": reference, "sha256": sha256_path(path)}

    def training(
        self,
        name: str,
        kind: str,
        inputs: Mapping[str, str],
        steps: Sequence[tuple[Sequence[str], Sequence[str] | None]],
        updated: Sequence[float] | None = None,
    ) -> Path:
        """A stage that read (and learnt from) these samples in its steps."""
        ledger, chains, samples, metrics = DataLedger(), [], [], []
        for step, (read, learnt) in enumerate(steps):
            ledger.add(read)
            chains.append({"step": step, **ledger.state()})
            samples.append({"step": step, "read": read} | ({} if learnt is None else {"learnt": learnt}))
            metrics.append({"step": step, "updated": 1.0 if updated is None else updated[step]})
        text = "".join(json.dumps(line) + "\n" for line in samples)
        files = {"ledger.jsonl": chains, "metrics.jsonl": metrics}
        return self.stage(name, kind, inputs, files, samples=gzip.compress(text.encode()))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    made = Runs(tmp_path / "runs")
    rows = [{"id": f"row-{number}", "task": "t", "source": "user.jsonl:3"} for number in range(4)]
    made.stage("data", "synthesize", files={"train.jsonl": rows, "test.jsonl": [{"id": "row-test", "task": "t"}]})
    made.stage("set", "sft_set", {"data": "data"}, {"conversations.jsonl": [{**row, "origin": "gold"} for row in rows]})
    made.stage("base", "evaluate")
    made.training("warmup", "sft", {"model": "base", "conversations": "set"}, [(["row-0"], None), (["row-1"], None)])
    made.training(
        "explore",
        "dapo",
        {"model": "warmup", "rows": "data"},
        [(["row-1", "row-2"], ["row-1"]), (["row-3"], ["row-3"])],
    )
    made.stage("judged", "evaluate", {"model": "explore"}, {"predictions.jsonl": [{"id": "row-test", "value": 1.0}]})
    return made


def verdicts(trace: IdTrace) -> dict[str, str]:
    return {found.artefact.name: found.verdict for found in trace.training}


def trace(runs: Runs, identifier: str) -> IdTrace:
    return trace_id(find_artefacts([runs.root]), identifier)


def test_a_row_is_found_in_every_set_with_what_trained_on_it(runs: Runs) -> None:
    found = trace(runs, "row-1")
    assert [one.place for one in found.standing] == ["data/train.jsonl:2", "set/conversations.jsonl:2"]
    assert verdicts(found) == {"warmup": "learnt", "explore": "learnt"}
    assert [tally(one) for one in found.training] == ["learnt in step 1 of 2", "learnt in step 0 of 2"]


def test_what_was_not_read_or_thrown_away_is_not_claimed(runs: Runs) -> None:
    assert verdicts(trace(runs, "row-0")) == {"warmup": "learnt", "explore": "not read"}
    assert verdicts(trace(runs, "row-2")) == {"warmup": "not read", "explore": "read only"}
    held_out = trace(runs, "row-test")
    assert set(verdicts(held_out).values()) == {"not read"}
    assert [one.place for one in held_out.answered] == ["judged/predictions.jsonl:1"]


def test_models_that_start_from_one_that_learnt_it_carry_it_on(runs: Runs) -> None:
    runs.stage("difficulty", "refinement_set", {"model": "explore", "data": "data"})  # reads a model, makes none
    assert [artefact.name for artefact in trace(runs, "row-0").started_from] == ["explore", "judged"]
    assert [artefact.name for artefact in trace(runs, "row-3").started_from] == ["judged"]


def test_a_step_whose_update_was_left_out_taught_nothing(runs: Runs) -> None:
    runs.training("late", "sft", {"conversations": "set"}, [(["row-0"], None), (["row-1"], None)], updated=[0.0, 1.0])
    assert verdicts(trace(runs, "row-0"))["late"] == "read only"
    assert verdicts(trace(runs, "row-1"))["late"] == "learnt"


def test_an_id_that_begins_like_another_is_another(runs: Runs) -> None:
    runs.stage("more", "sft_set", files={"conversations.jsonl": [{"id": "row-10"}]})
    assert verdicts(trace(runs, "row-10")) == {}


def test_a_list_that_does_not_fit_the_ledger_proves_nothing(runs: Runs) -> None:
    path = runs.root / "warmup" / "samples.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).replace(b"row-0", b"row-9")
    path.write_bytes(gzip.compress(lines))
    (warmup, _) = trace(runs, "row-0").training
    assert warmup.verdict == "unknown" and "part at step 0" in warmup.reason
    path.write_bytes(gzip.compress(lines.splitlines(keepends=True)[0].replace(b"row-9", b"row-0")))
    assert "has 1 steps, ledger.jsonl 2" in trace(runs, "row-0").training[0].reason
    path.write_bytes(path.read_bytes()[:-5])
    assert "is damaged" in trace(runs, "row-0").training[0].reason
    path.unlink()
    assert "before samples were listed" in trace(runs, "row-0").training[0].reason


def test_documents_are_followed_from_sessions_to_tokens(runs: Runs) -> None:
    log = [{"id": "s0", "user": "u"}, {"id": "s1", "user": "u"}]
    told = [{"id": "d0", "made_of": ["s0"]}, {"id": "d1", "made_of": ["s0", "s1"]}, {"id": "d2", "made_of": ["gone"]}]
    joined = [{"id": "g0", "made_of": ["d0"]}, {"id": "g1", "made_of": ["d2"]}, {"id": "g2", "made_of": ["d1", "d2"]}]
    runs.stage("log", "interaction_logs", files={"sessions.jsonl": log})
    runs.stage("told", "interactions", {"logs": "log"}, {"corpus-00000.jsonl": told})
    runs.stage("cut", "general_text", {"texts": "told"}, {"corpus-0.jsonl": joined[:2], "corpus-1.jsonl": joined[2:]})
    runs.stage("tokens", "tokenize", {"corpus": "cut"}, counts={"documents": 3})
    samples = ["corpus:0:0:epoch0", "corpus:12:0:epoch0", "corpus:1:5:epoch0"]
    runs.training("pretrain", "pretrain", {"tokens": "tokens"}, [(samples[:2], None), (samples[2:], None)])
    found = trace(runs, "s0")
    assert [one.id for one in found.derived] == ["d0", "d1", "g0", "g2"]
    assert [(one.verdict, one.steps_learnt) for one in found.training] == [("learnt", {"g0": [0]})]
    runs.stage("other", "interactions", {"logs": "log"}, {"corpus-00000.jsonl": told[:1]})
    document = trace(runs, "g2")
    assert {one.artefact.name for one in document.parents} == {"told", "log"}, "not what others made of the same log"
    assert {one.id for one in document.parents} == {"d1", "d2", "s0", "s1"} and document.lost_parents == ["gone"]
    assert verdicts(document) == {"pretrain": "not read"}, "document 12 is not document 2"


def test_a_blend_names_its_corpora(runs: Runs) -> None:
    for name in ("a", "b"):
        runs.stage(f"{name}_texts", "interactions", files={"corpus.jsonl": [{"id": f"{name}0"}, {"id": f"{name}1"}]})
        runs.stage(f"{name}_tokens", "tokenize", {"corpus": f"{name}_texts"}, counts={"documents": 2})
    inputs = {"blend.corpora.notes": "a_tokens", "blend.corpora.web": "b_tokens"}
    runs.training("pretrain", "pretrain", inputs, [(["notes:1:0:epoch0", "web:0:7:epoch2"], None)])
    learnt = {one: verdicts(trace(runs, one))["pretrain"] for one in ("a0", "a1", "b0", "b1")}
    assert learnt == {"a0": "not read", "a1": "learnt", "b0": "learnt", "b1": "not read"}


def test_numbers_of_documents_are_not_guessed(runs: Runs) -> None:
    runs.stage("corpus", "interactions", files={"corpus.jsonl": [{"id": "d0"}, {"id": "d1"}]})
    runs.stage("tokens", "tokenize", {"corpus": "corpus"}, counts={"documents": 1})
    runs.training("pretrain", "pretrain", {"tokens": "tokens"}, [(["corpus:0:0:epoch0"], None)])
    (found,) = trace(runs, "d1").training
    assert found.verdict == "unknown" and "their numbers cannot be told" in found.reason


def test_documents_kept_for_validation_have_no_number(runs: Runs) -> None:
    names = [f"d{number}" for number in range(12)]
    kept = [name for name in names if split_of(document_key(name), 0.5) == VALIDATION]
    trained = [name for name in names if name not in kept]
    runs.stage("corpus", "interactions", files={"corpus.jsonl": [{"id": name} for name in names]})
    counts = {"documents": len(trained)}
    runs.stage("tokens", "tokenize", {"corpus": "corpus"}, counts=counts, validation_share=0.5)
    runs.training("pretrain", "pretrain", {"tokens": "tokens"}, [(["corpus:1:0:epoch0"], None)])
    found = [name for name in names if verdicts(trace(runs, name))["pretrain"] == "learnt"]
    assert found == [trained[1]] and kept[0] != names[-1]


def test_an_unknown_id_is_refused_with_the_nearest(runs: Runs) -> None:
    with pytest.raises(InputError, match=r"'row-tets' is no row.* in 6 artefacts; the nearest are row-test"):
        trace(runs, "row-tets")
    with pytest.raises(InputError, match="no id is like it"):
        trace(runs, "zebra")


def test_a_file_belongs_to_its_stage_and_tells_when_it_was_changed(runs: Runs) -> None:
    graph = find_artefacts([runs.root])
    path = runs.root / "data" / "train.jsonl"
    found = trace_path(graph, path)
    assert found.artefact is not None and found.artefact.name == "data" and found.is_as_published
    assert [(other.name, read.field) for other, read in found.read_by] == [("set", "data"), ("explore", "rows")]
    assert [artefact.name for artefact in found.trained] == ["warmup", "explore"]
    path.write_text(path.read_text().replace("row-0", "row-x"))
    assert not trace_path(graph, path).is_as_published


def test_a_file_from_outside_is_known_by_its_content(runs: Runs, tmp_path: Path) -> None:
    outside = tmp_path / "user.jsonl"
    outside.write_text('{"id": "x"}\n')
    runs.stage("own", "general_text", {"texts": str(outside)}, {"corpus.jsonl": [{"id": "g"}]})
    graph = find_artefacts([runs.root])
    moved = outside.rename(tmp_path / "moved.jsonl")
    assert [other.name for other, _ in trace_path(graph, moved).read_by] == ["own"]
    moved.write_text('{"id": "y"}\n')
    with pytest.raises(InputError, match="no stage of 7 wrote it, or read it as it is now"):
        trace_path(graph, moved)


def test_an_input_that_was_made_again_is_not_taken_for_the_one_that_was_read(runs: Runs) -> None:
    manifest = runs.root / "data" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(sha256_path(runs.root / "data"), "0" * 64))
    graph = find_artefacts([runs.root])
    by_name = {artefact.name: artefact for artefact in graph.artefacts}
    assert graph.producers(by_name["set"]) == []


def test_work_in_progress_and_manifests_of_others_are_left_out(runs: Runs) -> None:
    runs.stage(".work/half", "sft_set", files={"conversations.jsonl": [{"id": "half"}]})
    (runs.root / "base" / "checkpoint").mkdir()
    (runs.root / "base" / "checkpoint" / "manifest.json").write_text('{"format": 1}')
    assert len(find_artefacts([runs.root]).artefacts) == 6
    with pytest.raises(InputError, match="no such folder"):
        find_artefacts([runs.root / "nowhere"])


def test_pairs_and_copies_of_a_row_are_made_of_it_and_what_learnt_them_learnt_it(runs: Runs) -> None:
    pair = {"id": "pair-1", "row": "row-2", "task": "t", "how": "model_errors", "source": "data/train.jsonl#row-2"}
    runs.stage("pairs", "pairs", {"data": "data", "model": "explore"}, {"train.jsonl": [pair]})
    runs.training("dpo", "dpo", {"model": "explore", "pairs": "pairs"}, [(["pair-1"], None)])
    repeated = [{"id": name, "task": "t", "origin": "gold"} for name in ("row-2", "row-2#2", "row-22#2")]
    runs.stage("twice", "sft_set", {"data": "data"}, {"conversations.jsonl": repeated})
    runs.training("tuned", "sft", {"model": "base", "conversations": "twice"}, [(["row-2#2"], None)])
    found = trace(runs, "row-2")
    assert {one.id for one in found.derived} == {"pair-1", "row-2#2"}
    assert verdicts(found) == {"warmup": "not read", "explore": "read only", "dpo": "learnt", "tuned": "learnt"}
    assert [one.id for one in trace(runs, "pair-1").parents][:1] == ["row-2"]
    sentences = [(one.artefact.name, one.sentence) for one in found.reasons]
    assert ("pairs", "pair by model_errors from data/train.jsonl#row-2") in sentences
    assert ("twice", "drawn for the mix, answer: gold") in sentences


def test_the_reasons_of_targeted_and_refinement_sets(runs: Runs) -> None:
    told = {"tasks": [{"task": "t", "reason": "40.0 is below 60.0"}, {"task": "u", "reason": "not this"}]}
    runs.stage("diagnose", "diagnose", {"model": "explore"}, {"diagnosis.json": [told]})
    chosen = [
        {"id": "row-1", "task": "t", "origin": "gold"},
        {"id": "row-2", "task": "t", "origin": "best of 8, quality 0.93"},
    ]
    weights = [{"id": "row-1", "weight": 2.5, "reason": "rare answer"}]
    inputs = {"model": "explore", "diagnosis": "diagnose", "data": "data"}
    runs.stage("target", "target_set", inputs, {"conversations.jsonl": chosen, "weights.jsonl": weights})
    difficulty = [{"id": "row-1", "pass_rate": 0.375}]
    files = {"rows.jsonl": [{"id": "row-1", "task": "t"}], "difficulty.jsonl": difficulty}
    runs.stage("refine_set", "refinement_set", {"model": "explore", "data": "data"}, files, num_samples=8)
    assert [(one.artefact.name, one.sentence) for one in trace(runs, "row-1").reasons] == [
        ("set", "drawn for the mix, answer: gold"),
        ("target", "task t is in the weak bucket of diagnose: 40.0 is below 60.0"),
        ("target", "weight 2.5 (rare answer)"),
        ("refine_set", "mean score 0.375 in 8 answers of explore"),
    ]
    soft = trace(runs, "row-2").reasons
    assert ("target", "soft label, best of 8, quality 0.93, of explore") in [
        (r.artefact.name, r.sentence) for r in soft
    ]
