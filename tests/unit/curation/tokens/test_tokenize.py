"""The result depends on texts and settings alone, and what is wrong with an input is told with file and line."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset

from megatron_redone.common.errors import DataError, Preempted, RedoneError
from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.held_out import HeldOutSources
from megatron_redone.curation.tokens import pool, shard, tokenize as module
from megatron_redone.curation.tokens.config import TokenizeConfig
from megatron_redone.curation.tokens.duplicates import count_duplicates
from megatron_redone.curation.tokens.tokenize import Tokenized, tokenize
from megatron_redone.data.indexed_corpus import PretrainSamples, write_corpus
from megatron_redone.data.token_folder import read_token_shards
from megatron_redone.data.tokenizer import load_tokenizer
from tests.unit.curation.tokens.conftest import END, lines_of

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of kibibytes, and batches that do not fit them."""
    monkeypatch.setattr(module, "MIB", 1 << 10)
    monkeypatch.setattr(shard, "MAX_DOCUMENTS", 7)


def run(tmp_path: Path, tokenizer: Path, out: str = "out", share: float = 0.0, **settings: Any) -> Tokenized:
    (tmp_path / out).mkdir(exist_ok=True)
    return tokenize(TokenizeConfig(**settings), tmp_path / "corpus", tokenizer, tmp_path / out, share, "tokens")


def documents(folder: Path, split: str = "train") -> list[list[int]]:
    prefixes = read_token_shards(folder, split).prefixes  # type: ignore[arg-type]
    return [ids.tolist() for prefix in prefixes for ids in IndexedDataset(str(prefix))]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_text_becomes_its_ids_in_order(tmp_path: Path, write: Write, tokenizer_folder: Path) -> None:
    write("b.jsonl.gz", lines_of(range(100, 160)))
    write("a.jsonl", lines_of(range(100)))
    write("c.jsonl", lines_of(range(160, 170)))
    done = run(tmp_path, tokenizer_folder, shard_mib=2)
    tokenizer = load_tokenizer(tokenizer_folder)
    texts = [json.loads(line)["text"] for line in lines_of(range(170))]
    expected = [tokenizer.encode(text) for text in texts]
    assert documents(tmp_path / "out") == expected
    assert tokenizer.eos_id not in {i for ids in expected for i in ids}  # a text that spells the end token is text
    described = json.loads((tmp_path / "out" / "tokens.json").read_text())
    assert done.counts["shards"] == len(described["splits"]["train"]["shards"]) > 3
    assert done.counts == described["counts"]
    assert done.counts["documents"] == 170 and done.counts["tokens"] == sum(map(len, expected))
    assert [entry["file"] for entry in described["inputs"]] == ["a.jsonl", "b.jsonl.gz", "c.jsonl"]
    for entry in described["inputs"]:
        content = (tmp_path / "corpus" / entry["file"]).read_bytes()
        text = gzip.decompress(content) if entry["file"].endswith(".gz") else content
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert (entry["bytes"], entry["lines"]) == (len(text), text.count(b"\n"))
    for entry in described["splits"]["train"]["shards"]:
        for suffix in ("bin", "idx"):
            content = (tmp_path / "out" / f"{entry['name']}.{suffix}").read_bytes()
            assert entry[f"{suffix}_sha256"] == hashlib.sha256(content).hexdigest()
    assert described["tokenizer"]["fingerprint"] == tokenizer.fingerprint


def test_shards_read_as_one_corpus(tmp_path: Path, write: Write, tokenizer_folder: Path) -> None:
    write("a.jsonl", lines_of(range(120)))
    run(tmp_path, tokenizer_folder, shard_mib=1)
    run(tmp_path, tokenizer_folder, "end", shard_mib=1, end_token=True)
    whole = documents(tmp_path / "out")
    eos = load_tokenizer(tokenizer_folder).eos_id
    assert documents(tmp_path / "end") == [[*ids, eos] for ids in whole]
    write_corpus(tmp_path / "single" / "corpus", whole)
    single = PretrainSamples(tmp_path / "single" / "corpus", 64, eos, seed=2)
    for folder in ("out", "end"):
        found = read_token_shards(tmp_path / folder)
        assert len(found.prefixes) > 4 and found.eos_stored == (folder == "end")
        samples = PretrainSamples(found.prefixes, 64, eos, 2, found.eos_stored, name="corpus")
        count = samples.samples_in(2)
        assert [samples[index] for index in range(count)] == [single[index] for index in range(count)]


def test_processes_and_pieces_do_not_show(tmp_path: Path, write: Write, tokenizer_folder: Path) -> None:
    write("a.jsonl", lines_of(range(90)))
    write("b.jsonl.gz", lines_of(range(90, 120)))
    settings = {"shard_mib": 2, "validation_share": 0.2}
    one = run(tmp_path, tokenizer_folder, "one", **settings)
    two = run(tmp_path, tokenizer_folder, "two", workers=2, **settings)
    assert one == two and files_of(tmp_path / "one") == files_of(tmp_path / "two")
    run(tmp_path, tokenizer_folder, "coarse", **settings | {"shard_mib": 1000})
    for split in ("train", "validation"):
        assert documents(tmp_path / "coarse", split) == documents(tmp_path / "one", split)


def test_validation_is_a_matter_of_the_id(tmp_path: Path, write: Write, tokenizer_folder: Path) -> None:
    write("a.jsonl", lines_of(range(400)))
    counts = run(tmp_path, tokenizer_folder, validation_share=0.25).counts
    assert counts["documents"] + counts["validation_documents"] == 400
    assert 70 < counts["validation_documents"] < 130
    held_out = {tuple(ids) for ids in documents(tmp_path / "out", "validation")}
    write("a.jsonl", lines_of(reversed(range(0, 400, 2))))
    run(tmp_path, tokenizer_folder, "half", validation_share=0.25)
    half = {tuple(ids) for ids in documents(tmp_path / "half", "validation")}
    tokenizer = load_tokenizer(tokenizer_folder)
    even = {tuple(tokenizer.encode(json.loads(line)["text"])) for line in lines_of(range(0, 400, 2))}
    assert half == held_out & even


def test_a_killed_run_ends_as_one_that_was_not(
    tmp_path: Path, write: Write, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.jsonl", lines_of(range(150)))
    run(tmp_path, tokenizer_folder, "whole", shard_mib=1)
    written: list[int] = []
    real = shard._write_shard

    def dying(job: shard.ShardJob) -> shard.ShardRecord:
        if len(written) == 4:
            (job.folder / ".corpus-00004.bin.tmp").write_bytes(b"half")
            raise RuntimeError("the end of the process")
        written.append(job.plan.number)
        return real(job)

    monkeypatch.setattr(shard, "_write_shard", dying)
    with pytest.raises(RuntimeError):
        run(tmp_path, tokenizer_folder, shard_mib=1)
    (tmp_path / "out" / "corpus-00001.bin").write_bytes(b"torn")  # a power cut can do this to a file that was whole
    (tmp_path / "out" / "shards" / "00002.json").write_text("{")
    assert written == [0, 1, 2, 3]
    written.clear()
    monkeypatch.setattr(shard, "_write_shard", lambda job: (written.append(job.plan.number), real(job))[1])
    run(tmp_path, tokenizer_folder, shard_mib=1)
    assert written[:3] == [1, 2, 4] and 0 not in written and 3 not in written
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_stop_is_heard_between_shards(
    tmp_path: Path, write: Write, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.jsonl", lines_of(range(60)))
    monkeypatch.setattr(pool, "stop_signal", lambda: 15)
    with pytest.raises(Preempted, match="tokens: reading files: stopped; the same command goes on"):
        run(tmp_path, tokenizer_folder)


def test_a_killed_process_is_told() -> None:
    with pytest.raises(RedoneError, match=r"tokens: one of 2 processes was killed.*lower `workers`"):
        list(pool.run_jobs(os._exit, [9, 9], 2, "tokens"))


BAD_LINES: list[tuple[str | bytes, str]] = [
    ("{broken", "not JSON"),
    (b'{"text": "\xff\xfe"}', "not UTF-8 at byte 10"),
    ('["a list"]', "a list, expected a JSON object"),
    ('{"id": 1}', "no text under the key `text`"),
    ('{"text": 5}', "no text under the key `text`"),
    ('{"text": "half \\ud83d of a pair"}', "half of a surrogate pair"),
    ('{"id": [1], "text": "a"}', "`id` is a list"),
    ('{"id": "\\udc00", "text": "a"}', "half of a surrogate pair"),
    ('{"text": "' + "x" * 3000 + '"}', "longer than 1,024 bytes"),
    ("[" * 100_000, "longer than 1,024 bytes"),
]


def test_bad_rows_are_refused_with_file_and_line(
    tmp_path: Path, write: Write, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "MIB", 1 << 10)
    good = lines_of(range(200))
    lines: list[str | bytes] = [*good[:50], "", *[bad for bad, _ in BAD_LINES], '{"text": ""}', *good[50:]]
    write("b.jsonl", lines)
    write("a.jsonl", [])
    done = run(tmp_path, tokenizer_folder, share=0.06, shard_mib=1, max_document_mib=1)
    assert done.refused[0].startswith(f"{tmp_path / 'corpus' / 'a.jsonl'}: an empty file")
    for number, ((_, problem), message) in enumerate(zip(BAD_LINES, done.refused[1:], strict=True), 52):
        assert message.startswith(f"{tmp_path / 'corpus' / 'b.jsonl'}:{number}: ") and problem in message
    counts = done.counts
    assert (counts["rows"], counts["rows_refused"], counts["empty_documents"]) == (211, 11, 1)
    assert counts["documents"] == 200 and counts["documents_without_id"] == 1
    with pytest.raises(DataError, match=r"(?s)\d+ of 21\d rows refused, but at most 5% may be.*a.jsonl: an empty file"):
        run(tmp_path, tokenizer_folder, "strict", share=0.05, shard_mib=1, max_document_mib=1)
    assert not (tmp_path / "strict" / "tokens.json").exists()


@pytest.mark.parametrize("cut", [-1, -9, 60, 5])
def test_a_gzip_file_that_is_cut_is_named_with_its_line(
    cut: int, tmp_path: Path, write: Write, tokenizer_folder: Path
) -> None:
    path = write("a.jsonl.gz", lines_of(range(100)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"a.jsonl.gz:\d+: cannot be read on from here .*copy it again"):
        run(tmp_path, tokenizer_folder, share=1.0)


def test_a_damaged_gzip_file_is_named(tmp_path: Path, write: Write, tokenizer_folder: Path) -> None:
    path = write("a.jsonl.gz", lines_of(range(100)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.jsonl.gz:\d+: cannot be read on from here"):
        run(tmp_path, tokenizer_folder, share=1.0)


def test_an_id_outside_the_vocabulary_is_named_with_its_line(
    tmp_path: Path, write: Write, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.jsonl", lines_of(range(30)))
    tokenizer = load_tokenizer(tokenizer_folder)

    class Damaged:
        vocab_size, eos_id, fingerprint = tokenizer.vocab_size, tokenizer.eos_id, ""

        def encode_batch(self, texts: list[str]) -> list[list[int]]:
            return [[400, 7] if text.startswith("note 20 ") else [3] for text in texts]

    monkeypatch.setattr(shard, "_tokenizer", lambda folder: Damaged())
    with pytest.raises(DataError, match=f"{path}:21: the tokenizer gives ids from 7 to 400, outside its own 0..256"):
        run(tmp_path, tokenizer_folder)


def test_duplicate_ids_are_counted_over_files_and_shards(
    tmp_path: Path, write: Write, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_redone.curation.tokens.duplicates.KEYS_AT_ONCE", 16)
    write("a.jsonl", lines_of(range(80)))
    write(
        "b.jsonl", [*lines_of(range(80, 90)), *lines_of([3]), '{"text": "no id"}', '{"text": "no id"}', *lines_of([3])]
    )
    done = run(tmp_path, tokenizer_folder, shard_mib=1)
    assert (done.counts["duplicate_ids"], done.counts["documents"]) == (3, 94)
    shown = json.loads((tmp_path / "out" / "tokens.json").read_text())["first_duplicate_ids"]
    a, b = (tmp_path / "corpus" / name for name in ("a.jsonl", "b.jsonl"))
    assert shown == [f"{b}:11: same id as {a}:4", f"{b}:13: same id as {b}:12", f"{b}:14: same id as {a}:4"]


def test_ranges_of_keys_miss_no_border(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_redone.curation.tokens.duplicates.KEYS_AT_ONCE", 2)
    keys = np.array([0, 0, 2**62, 2**63, 2**63, 2**64 - 1, 2**64 - 1], dtype=np.uint64)
    np.save(tmp_path / "t.npy", np.stack([keys, np.arange(len(keys), dtype=np.uint64)]))
    assert count_duplicates([tmp_path / "t.npy"], [Path("f")]) == (
        3,
        ["f:1: same id as f:0", "f:4: same id as f:3", "f:6: same id as f:5"],
    )


def test_other_rows_of_a_folder_are_no_corpus(tmp_path: Path, write: Write, tokenizer_folder: Path) -> None:
    for name, start in (("corpus.jsonl", 0), ("corpus-2.jsonl.gz", 5), ("train.jsonl", 20)):
        write(name, lines_of(range(start, start + 5)))
    assert run(tmp_path, tokenizer_folder).counts["documents"] == 10
    with pytest.raises(DataError, match=r"no .jsonl and no .jsonl.gz in it"):
        tokenize(TokenizeConfig(), tokenizer_folder.parent / "nothing", tokenizer_folder, tmp_path, 0.0, "tokens")
    with pytest.raises(DataError, match=r"no .jsonl or .jsonl.gz; give a file"):
        config = tokenizer_folder / "tokenizer.json"
        tokenize(TokenizeConfig(), config, tokenizer_folder, tmp_path, 0.0, "tokens")


def test_nothing_but_empty_documents_is_refused(tmp_path: Path, write: Write, tokenizer_folder: Path) -> None:
    write("a.jsonl", ['{"text": ""}'] * 3)
    with pytest.raises(DataError, match=r"no tokens to write \(3 empty documents\)"):
        run(tmp_path, tokenizer_folder)


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path, write: Write, tokenizer_folder: Path) -> None:
    write("a.jsonl", lines_of(range(5)))
    run(tmp_path, tokenizer_folder)
    other = tmp_path / "tokenizer"
    other.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / name).write_bytes((tokenizer_folder / name).read_bytes().replace(END.encode(), b"<|stop|>"))
    shards = read_token_shards(tmp_path / "out")
    shards.check_tokenizer(load_tokenizer(tokenizer_folder))
    with pytest.raises(DataError, match="tokenise the text with the tokenizer of the model"):
        shards.check_tokenizer(load_tokenizer(other))
    (tmp_path / "out" / "tokens.json").write_text('{"format_version": 9}')
    with pytest.raises(DataError, match="format version 9, this library reads 1"):
        read_token_shards(tmp_path / "out")
    (tmp_path / "out" / "tokens.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_token_shards(tmp_path / "out")


def test_workers_that_a_compressed_file_leaves_idle_are_told(
    tmp_path: Path, write: Write, tokenizer_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write("a.jsonl.gz", lines_of(range(200)))
    run(tmp_path, tokenizer_folder, shard_mib=2, workers=1)
    assert "is never divided" not in caplog.text
    run(tmp_path, tokenizer_folder, "again", shard_mib=2, workers=2)
    assert "2 workers, but only 1 tasks: a compressed file is never divided (a.jsonl.gz)" in caplog.text


@pytest.mark.parametrize("workers", [1, 2])
def test_planted_held_out_documents_are_left_out_and_counted(
    tmp_path: Path, write: Write, tokenizer_folder: Path, workers: int
) -> None:
    words = [f"secret{number}" for number in range(16)]
    leaked = [
        {"id": "held-out", "text": "its id alone"},
        {"id": "renamed", "text": f"before it, {' '.join(words)}, and after it"},
    ]
    clean = {"id": "half", "text": " ".join(words[:8])}  # no 13 words of it
    lines = lines_of(range(60))
    write("a.jsonl", [*lines[:30], *(json.dumps(one) for one in (*leaked, clean)), *lines[30:]])
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"id": "held-out", "question": " ".join(words)}) + "\n", encoding="utf-8")
    (tmp_path / "out").mkdir()
    config = TokenizeConfig(shard_mib=1, workers=workers)
    held_out = HeldOutSources((test,), HeldOutConfig())
    done = tokenize(config, tmp_path / "corpus", tokenizer_folder, tmp_path / "out", 0.0, "tokens", held_out)
    tokenizer = load_tokenizer(tokenizer_folder)
    texts = [json.loads(line)["text"] for line in [*lines[:30], json.dumps(clean), *lines[30:]]]
    assert documents(tmp_path / "out") == [tokenizer.encode(text) for text in texts]
    assert (done.counts["held_out/id"], done.counts["held_out/ngrams"], done.counts["documents"]) == (1, 1, 61)
