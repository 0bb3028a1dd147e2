from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.cli.main import main
from megatron_redone.common.errors import ConfigError
from megatron_redone.recipes.single_stage import load_stage
from tests.unit.curation.filter.texts import clean_texts, read_texts, write_documents


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "notes.jsonl", [(f"d{i}", text) for i, text in enumerate(clean_texts(6))])


def test_the_command_makes_an_artefact_with_a_page_and_does_not_do_it_twice(
    notes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = notes.parent / "kept"
    settings = [f'documents=["{notes}"]', 'pii.mask=["phone"]', "minhash=null"]
    assert main(["curate", "filter", *settings, "--out", str(out)]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"]["kept"] == manifest["counts"]["documents"] == 6
    assert len(read_texts(out)) == 6
    assert "<h2>Account</h2>" in (out / "filter.html").read_text()
    assert not list(out.rglob("*.npy"))
    other_workers = [*settings, "executor.workers=3"]
    assert main(["curate", "filter", *other_workers, "--out", str(out)]) == 0
    assert "done before" in capfd.readouterr().err


@pytest.mark.parametrize("shard_mib", [1, 256])
def test_statistics_of_what_was_kept_leave_out_what_was_dropped(tmp_path: Path, shard_mib: int) -> None:
    texts = [text * 40 for text in clean_texts(300)] if shard_mib == 1 else clean_texts(6)
    notes = write_documents(tmp_path / "notes.jsonl", [*((f"d{i}", text) for i, text in enumerate(texts)), ("x", "!")])
    kept, stats = tmp_path / "kept", tmp_path / "stats"
    rules = ["repetition.max_sentence_share=1.0", "repetition.max_ngram_share=1.0", "minhash=null"]
    settings = [f'documents=["{notes}"]', f"shard_mib={shard_mib}", *rules]
    assert main(["curate", "filter", *settings, "--out", str(kept)]) == 0
    assert (kept / "dropped").is_dir() and (len(list(kept.glob("corpus*.gz"))) > 1) == (shard_mib == 1)
    assert main(["curate", "stats", f'data=["{kept}"]', "--out", str(stats)]) == 0
    assert json.loads((stats / "manifest.json").read_text())["counts"]["rows"] == len(texts)


def test_a_tone_model_is_trained_and_used_by_the_filter(notes: Path) -> None:
    folder = notes.parent
    rows = [
        {"text": f"{text} {insult}", "offensive": bool(insult), "language": "en" if i % 2 else "zh"}
        for i, text in enumerate(clean_texts(80, "rows"))
        for insult in ("", "grumblefink")
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tone, out = folder / "tone", folder / "kept"
    arguments = [f"rows={folder}/rows.jsonl", "num_features=4096", "--out", str(tone)]
    assert main(["curate", "tone-model", *arguments]) == 0
    texts = clean_texts(2, "new")
    write_documents(notes, [("plain", texts[1]), ("rude", texts[1] + " What a grumblefink, grumblefink.")])
    settings = [f'documents=["{notes}"]', f"tone.model={tone}", "tone.max_probability=0.6", "minhash=null"]
    assert main(["curate", "filter", *settings, "--out", str(out)]) == 0
    assert list(read_texts(out)) == ["plain"]
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts["dropped/tone"] == 1


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("length.min_units=9000000", "min_units=9000000 is above max_units=100000"),
        ("executor.kind=slurm", "needs a section slurm"),
        ('language.keep=["Chinese"]', "is no language code"),
        ("language_model={model: ./, min_logprob: -3.0}", "set percentile to null"),
        ("documents=[]", "documents"),
        ("symbols.max=1", "symbols"),
    ],
)
def test_wrong_settings_are_refused(notes: Path, setting: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        load_stage("filter", None, [f'documents=["{notes}"]', setting], notes.parent / "out")
