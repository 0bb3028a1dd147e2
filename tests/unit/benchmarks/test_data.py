"""The data benchmark compares programs that do the same work, by ratios inside a round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer as Backend, models, pre_tokenizers

from megatron_redone.benchmarks.data import DataBenchmark, Measured, bare_library, measure_data, summary, write_text
from megatron_redone.data.text_files import Piece, TextDocument, read_texts, scan
from megatron_redone.data.tokenizer import load_tokenizer

END = "<|end|>"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens([AddedToken(END, special=True)])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    return folder


def texts_of(path: Path) -> list[str]:
    found = list(read_texts(Piece(path, 0, path.stat().st_size, 1)))
    assert all(isinstance(document, TextDocument) for document in found)
    return [document.text for document in found if isinstance(document, TextDocument)]


def test_the_made_up_text_has_its_size_and_repeats(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert write_text(tmp_path / name, 0.3) == scan(tmp_path / name, 1 << 20).num_lines
    assert 300_000 <= (tmp_path / "a").stat().st_size < 700_000
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    words = " ".join(texts_of(tmp_path / "a")).split()
    assert len(set(words)) > 2000 and any(word[0] >= "\u4e00" for word in words)


@pytest.mark.parametrize("fast", [False, True])
def test_the_bare_library_counts_what_we_write(
    tmp_path: Path, tokenizer: Path, fast: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "t.jsonl", 0.02)
    bare_library(str(tokenizer / "tokenizer.json"), str(tmp_path / "t.jsonl"), fast)
    tokens, seconds = json.loads(capsys.readouterr().out)
    ours = load_tokenizer(tokenizer)
    assert tokens == sum(len(ours.encode(text)) + 1 for text in texts_of(tmp_path / "t.jsonl")) and seconds > 0


def test_ratios_are_medians_of_rounds() -> None:
    def run(name: str, seconds: float) -> Measured:
        return Measured(name, 100, seconds, seconds + 5, seconds + 1, 10 * seconds)

    runs = [run("ours, 2 worker(s)", s) for s in (1.0, 2.0, 4.0)] + [run("peer", s) for s in (3.0, 2.0, 8.0)]
    ours, peer = summary(runs, 2)
    assert ours["ours_over_this"] == 1.0 and ours["tokens_per_second"] == 50.0
    assert (peer["ours_over_this"], peer["ours_over_this_range"]) == (2.0, [1.0, 3.0])
    assert (peer["whole_seconds"], peer["peak_mib"]) == (8.0, 80.0)


@pytest.mark.slow
def test_all_programs_find_the_same_tokens(tmp_path: Path, tokenizer: Path) -> None:
    benchmark = DataBenchmark(tmp_path / "b", tokenizer, megabytes=1, rounds=1, shard_mib=1, memory_megabytes=(1,))
    said: list[str] = []
    runs, memory = measure_data(benchmark, said.append)
    assert [run.name.split(",")[0] for run in runs] == ["ours", "ours", "bare library", "bare library"]
    assert len({run.tokens for run in runs}) == 1 and len(said) == 5
    assert memory[0].tokens == runs[0].tokens and memory[0].peak_mib > 50
