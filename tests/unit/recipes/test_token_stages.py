"""From texts over shards and a blend to a trained model, as a recipe runs it; stopped, changed, and resumed."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import CheckpointError, DataError, Preempted
from megatron_redone.common.seeding import rng
from megatron_redone.curation.regmix.tables import read_prior
from megatron_redone.launch.environment import from_environ
from megatron_redone.recipes.graph import load_recipe
from megatron_redone.recipes.runner import RecipeRunner

RECIPE = """
name: blend
output: {output}
stages:
  words: {{kind: tokenizer, corpus: ./texts/a, vocab_size: 315}}
  other: {{kind: tokenizer, corpus: ./texts/a, vocab_size: 312}}
  a: {{kind: tokenize, corpus: ./texts/a, tokenizer: words, validation_share: 0.2, end_token: true}}
  b: {{kind: tokenize, corpus: ./texts/b/rows.jsonl.gz, tokenizer: words, text_key: body}}
  start:
    kind: pretrain
    model: {{preset: qwen3-tiny}}
    tokenizer: words
    blend: {{corpora: {{a: a, b: b}}, phases: [{{weights: {{a: 3, b: 1}}}}]}}
    validation: {{every: 4, samples: 2}}
    sequence_length: 32
    global_batch_size: 2
    steps: 6
    checkpoint: {{in_background: false}}
"""


def run(folder: Path, output: str, *overrides: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(output=folder / output), encoding="utf-8")
    RecipeRunner(load_recipe(path, overrides), "redone run", from_environ({"OMP_NUM_THREADS": "1"})).run()
    return folder / output


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    random = rng("texts")
    rows = [" ".join(random.choices(["sea", "walk", "tea", "rain", "cat", "book"], k=9)) for _ in range(160)]
    for name in ("a", "b"):
        (folder / "texts" / name).mkdir(parents=True)
    lines = [json.dumps({"id": f"r{n}", "text": row}) for n, row in enumerate(rows)]
    (folder / "texts" / "a" / "corpus.jsonl").write_text("\n".join(lines[:100]))
    body = "\n".join(line.replace('"text"', '"body"') for line in lines[100:])
    (folder / "texts" / "b" / "rows.jsonl.gz").write_bytes(gzip.compress(body.encode()))
    run(folder, "whole")
    return folder


def stopped_run(folder: Path, output: str, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    asked = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(
            "megatron_redone.training.run.agreed_stop",
            lambda context: signal.SIGTERM if next(asked) == steps - 1 else 0,
        )
        with pytest.raises(Preempted, match=f"stopped after step {steps} of 6"):
            run(folder, output)


def test_the_manifest_tells_documents_and_samples(texts: Path) -> None:
    a, b, start = (manifest(texts / "whole" / name)["counts"] for name in ("a", "b", "start"))
    assert a["documents"] + a["validation_documents"] == 100 and a["validation_documents"] > 5
    assert (b["documents"], b["validation_documents"]) == (60, 0)
    assert (start["samples/a"], start["samples/b"], start["trained_tokens"]) == (9, 3, 12 * 32)
    rows = [json.loads(line) for line in (texts / "whole" / "start" / "metrics.jsonl").read_text().splitlines()]
    assert [row["samples/a"] for row in rows] in ([1, 3, 4, 6, 7, 9], [2, 3, 5, 6, 8, 9])
    assert [row["step"] for row in rows if "validation_loss/a" in row] == [3, 5]
    assert "validation_loss/b" not in rows[3]


def test_an_unchanged_resume_ends_with_the_same_files(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_run(texts, "cut", monkeypatch, 4)
    run(texts, "cut")
    outputs = [manifest(texts / name / "start")["outputs"] for name in ("whole", "cut")]
    assert outputs[0]["folder"]["sha256"] == outputs[1]["folder"]["sha256"]


def test_a_later_phase_may_be_added_and_the_past_not_changed(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_run(texts, "changed", monkeypatch, 4)
    with pytest.raises(CheckpointError, match="give a new one `from_sample: 8` or later"):
        run(texts, "changed", "start.blend.phases=[{weights: {a: 1, b: 1}}]")
    (texts / "blend.yaml").write_text("weights: {b: 1.0}\n")
    phases = "start.blend.phases=[{weights: {a: 3, b: 1}}, {from_sample: 9, weights_from: ./blend.yaml}]"
    output = run(texts, "changed", phases)
    counts = manifest(output / "start")["counts"]
    assert (counts["samples/a"] + counts["samples/b"], counts["samples/b"]) in [(12, 5), (12, 6)]
    before = (texts / "whole" / "start" / "metrics.jsonl").read_text().splitlines()
    after = (output / "start" / "metrics.jsonl").read_text().splitlines()
    assert before[:4] == after[:4] and before[4] != after[4]


def test_tokens_and_validation_that_do_not_fit_are_refused(texts: Path) -> None:
    with pytest.raises(DataError, match="has a validation split; tokenise with validation_share"):
        run(texts, "novalidation", "start.blend.corpora={b: b}", "start.blend.phases=[{weights: {b: 1}}]")
    with pytest.raises(DataError, match="tokenise the text with the tokenizer of the model"):
        run(texts, "novalidation", "start.tokenizer=other")


MIXTURES = """
name: mixtures
output: {output}
stages:
  words: {{kind: tokenizer, corpus: ./texts/a, vocab_size: 315}}
  a: {{kind: tokenize, corpus: ./texts/a, tokenizer: words, validation_share: 0.2, end_token: true}}
  b: {{kind: tokenize, corpus: ./texts/b/rows.jsonl.gz, tokenizer: words, text_key: body}}
  mixtures: {{kind: regmix_mixtures, domains: {{a: a, b: b}}, num_mixtures: 2, max_over_prior: 30}}
  proxies:
    kind: regmix_proxies
    mixtures: mixtures
    domains: {{a: a, b: b}}
    validation: {{a: a, b: b}}
    tokenizer: words
    model: {{preset: qwen3-tiny}}
    sequence_length: 32
    global_batch_size: 1
    steps: 2
    checkpoint: {{in_background: false}}
"""


def test_mixtures_and_proxies_read_what_tokenize_wrote(texts: Path) -> None:
    path = texts / "mixtures.yaml"
    path.write_text(MIXTURES.format(output=texts / "mixed"), encoding="utf-8")
    RecipeRunner(load_recipe(path), "redone run", from_environ({"OMP_NUM_THREADS": "1"})).run()
    a, b = (manifest(texts / "mixed" / name)["counts"] for name in ("a", "b"))
    tokens = {"a": a["tokens"], "b": b["tokens"] + b["documents"]}  # those of `a` hold their end tokens
    natural = read_prior(texts / "mixed" / "mixtures")
    assert natural == pytest.approx({name: count / sum(tokens.values()) for name, count in tokens.items()})
    assert manifest(texts / "mixed" / "proxies")["counts"]["runs"] == 2
