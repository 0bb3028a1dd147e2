"""Speed and memory of tokenizing, against the bare tokenizer library and Megatron-LM's own script.

Every program reads the same text with the same tokenizer. Tokens a second leave out the start of Python and of imports,
by what each program says itself: ours the seconds of its stage (reading the files through, starting its processes,
encoding, writing, counting ids), Megatron-LM's script its documents a second (encoding and writing, counted when its
processes stand), the bare library the calls alone. The seconds of the whole program stand beside.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from megatron_redone.benchmarks.program import ProgramRun, run_program
from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.data.indexed_writer import UINT16_BELOW
from megatron_redone.data.text_files import Piece, read_texts, scan
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.launch.processes import redone_command

NUM_WORDS = 30_000
WORDS_AT_ONCE = 20_000
LIBRARY_BATCH = 512
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class DataBenchmark:
    """What is measured.

    Attributes:
        folder: new or empty; holds the texts and, for a while, results.
        tokenizer: folder of a Hugging Face tokenizer.
        text: JSONL file; None: `megabytes` of made-up text.
        workers: numbers of processes that ours is run with; the peer has the last.
        shard_mib: shards of ours, so that each worker has some.
        peer: Megatron-LM's tools/preprocess_data.py, or None.
        peer_path: PYTHONPATH of the peer.
        memory_megabytes: sizes of made-up text over which memory is looked at, with the most workers.
    """

    folder: Path
    tokenizer: Path
    text: Path | None = None
    megabytes: int = 32
    workers: tuple[int, ...] = (1, 2)
    rounds: int = 3
    shard_mib: int = 4
    peer: Path | None = None
    peer_path: str = ""
    memory_megabytes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Measured:
    """One program in one round."""

    name: str
    tokens: int
    seconds: float
    """Without the start of the program."""
    whole_seconds: float
    cpu_seconds: float
    """Of the whole program and its processes."""
    peak_mib: float
    """Of the program and its processes together."""

    @property
    def tokens_per_second(self) -> float:
        """Of the work without the start."""
        return self.tokens / self.seconds


Program = Callable[[Path], Measured]
"""Measures a text."""


def write_text(path: Path, megabytes: float, seed: int = 0) -> int:
    """Writes about so many megabytes of made-up documents (Zipf's law over made-up words); returns their number."""
    random = numpy_rng(seed, "benchmark text")
    words = np.array([_word(random, number) for number in range(NUM_WORDS)])
    size = number = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * MEGABYTE:
            drawn = words[random.zipf(1.2, WORDS_AT_ONCE) % NUM_WORDS]
            ends = np.cumsum(random.integers(20, 900, 60))
            for part in np.split(drawn, ends[ends < WORDS_AT_ONCE])[:-1]:
                line = json.dumps({"id": f"m{number}", "text": " ".join(part)}, ensure_ascii=False) + "\n"
                size += len(line.encode())
                number += 1
                file.write(line)
    return number


def _word(random: np.random.Generator, number: int) -> str:
    """Every third word of one to three Chinese characters, the others of two to ten letters."""
    if number % 3 == 0:
        return "".join(chr(0x4E00 + int(place)) for place in random.integers(0, 2500, 1 + number % 9 // 3))
    return "".join(chr(97 + int(place)) for place in random.integers(0, 26, 2 + number % 9))


def measure_data(benchmark: DataBenchmark, progress: Callable[[str], None]) -> tuple[list[Measured], list[Measured]]:
    """Speeds in every round, and memory over sizes of text.

    Raises:
        DataError: a program found another number of tokens than ours.
    """
    folder = benchmark.folder
    folder.mkdir(parents=True, exist_ok=True)
    text = benchmark.text or folder / "text.jsonl"
    if benchmark.text is None:
        write_text(text, benchmark.megabytes)
    runs: list[Measured] = []
    for _ in range(benchmark.rounds):
        for measure in _programs(benchmark):
            runs.append(measure(text))
            progress(_said(runs[-1]))
    if len({run.tokens for run in runs}) > 1:
        found = {run.name: run.tokens for run in runs}
        raise DataError(f"{text}: programs found different numbers of tokens ({found}); a text spells special tokens?")
    memory = []
    for megabytes in benchmark.memory_megabytes:
        path = folder / f"memory{megabytes}.jsonl"
        write_text(path, megabytes)
        run = _ours(benchmark, max(benchmark.workers), 64, path)
        memory.append(replace(run, name=f"{megabytes:,} MB"))
        progress(_said(memory[-1]))
        path.unlink()
    return runs, memory


def _said(run: Measured) -> str:
    return f"{run.name}: {run.tokens_per_second:,.0f} tokens/s, {run.whole_seconds:.1f} s, {run.peak_mib:,.0f} MiB"


def _programs(benchmark: DataBenchmark) -> list[Program]:
    most = max(benchmark.workers)
    programs: list[Program] = [partial(_ours, benchmark, count, benchmark.shard_mib) for count in benchmark.workers]
    programs += [partial(_library, benchmark, most, fast) for fast in (False, True)]
    if benchmark.peer is not None:
        programs.append(partial(_peer, benchmark, most))
    return programs


def _ours(benchmark: DataBenchmark, workers: int, shard_mib: int, text: Path) -> Measured:
    out = benchmark.folder / "ours"
    settings = [f"corpus={text.resolve()}", f"tokenizer={benchmark.tokenizer.resolve()}", f"workers={workers}"]
    settings += [f"shard_mib={shard_mib}", "end_token=true", "--out", str(out.resolve())]
    found = run_program("ours", redone_command(["curate", "tokenize", *settings]), cold=False)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    shutil.rmtree(out)
    return _measured(f"ours, {workers} worker(s)", found, manifest["counts"]["tokens"], manifest["seconds"])


def _peer(benchmark: DataBenchmark, workers: int, text: Path) -> Measured:
    prefix, documents = benchmark.folder / "peer", scan(text, 1 << 62).num_lines
    command = ["env", f"PYTHONPATH={benchmark.peer_path}", sys.executable, "-W", "ignore", str(benchmark.peer)]
    command += ["--input", str(text), "--output-prefix", str(prefix), "--workers", str(workers), "--append-eod"]
    command += ["--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(benchmark.tokenizer)]
    command += ["--log-interval", str(documents)]  # it tells its rate once, after the last document
    found = run_program("peer", command, cold=False)
    rates = re.findall(r"Processed (\d+) documents \(([\d.]+) docs/s", found.errors)
    if not rates or int(rates[-1][0]) != documents:
        raise DataError(f"{benchmark.peer}: does not tell its rate as expected; it said {found.errors[-500:]!r}")
    data = prefix.with_name("peer_text_document.bin")
    size = 2 if load_tokenizer(benchmark.tokenizer).vocab_size < UINT16_BELOW else 4
    tokens = data.stat().st_size // size
    for path in (data, data.with_suffix(".idx")):
        path.unlink()
    return _measured(
        f"Megatron-LM preprocess_data.py, {workers} workers", found, tokens, documents / float(rates[-1][1])
    )


def _library(benchmark: DataBenchmark, threads: int, fast: bool, text: Path) -> Measured:
    code = (
        "from megatron_redone.benchmarks.data import bare_library; "
        f"bare_library({str(benchmark.tokenizer / 'tokenizer.json')!r}, {str(text)!r}, {fast})"
    )
    settings = ["env", f"RAYON_NUM_THREADS={threads}", "TOKENIZERS_PARALLELISM=true"]
    found = run_program("library", [*settings, sys.executable, "-c", code], cold=False)
    tokens, seconds = json.loads(found.output)
    return _measured(f"bare library, encode_batch{'_fast' * fast}, {threads} thread(s)", found, tokens, seconds)


def _measured(name: str, run: ProgramRun, tokens: int, seconds: float) -> Measured:
    return Measured(name, tokens, seconds, run.seconds, run.cpu_seconds, run.peak_bytes / 2**20)


def bare_library(tokenizer_json: str, text: str, fast: bool) -> None:
    """Prints the tokens of a JSONL file with an end token for each document, and the seconds the library took."""
    import time

    import tokenizers

    backend = tokenizers.Tokenizer.from_file(tokenizer_json)
    encode = backend.encode_batch_fast if fast else backend.encode_batch
    piece = Piece(Path(text), 0, scan(Path(text), 1 << 62).num_bytes, 1)
    tokens, seconds = 0, 0.0
    batch: list[str] = []
    documents = (document.text for document in read_texts(piece) if not isinstance(document, str))
    for document in [*documents, None]:
        if document is not None:
            batch.append(document)
        if batch and (document is None or len(batch) == LIBRARY_BATCH):
            began = time.perf_counter()
            ids = [found.ids for found in encode(batch, add_special_tokens=False)]
            seconds += time.perf_counter() - began
            tokens += sum(map(len, ids)) + len(ids)
            batch = []
    print(json.dumps([tokens, seconds]))


def summary(runs: Sequence[Measured], most_workers: int) -> list[dict[str, Any]]:
    """By program: medians over rounds, and the median ratio of our tokens/s (most workers) to its own, by round."""
    ours = [run for run in runs if run.name == f"ours, {most_workers} worker(s)"]
    rows = []
    for name in dict.fromkeys(run.name for run in runs):
        own = [run for run in runs if run.name == name]
        ratios = [a.tokens_per_second / b.tokens_per_second for a, b in zip(ours, own, strict=True)]
        rows.append(
            {
                "program": name,
                "tokens_per_second": statistics.median(run.tokens_per_second for run in own),
                "cpu_seconds": statistics.median(run.cpu_seconds for run in own),
                "whole_seconds": statistics.median(run.whole_seconds for run in own),
                "peak_mib": max(run.peak_mib for run in own),
                "ours_over_this": statistics.median(ratios),
                "ours_over_this_range": [min(ratios), max(ratios)],
            }
        )
    return rows


def as_json(runs: Sequence[Measured], memory: Sequence[Measured]) -> dict[str, Any]:
    """Everything that was measured."""
    return {"runs": [asdict(run) for run in runs], "memory": [asdict(run) for run in memory]}
