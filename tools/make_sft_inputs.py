"""Conversations of public data sets, for measuring SFT sets: `python -m tools.make_sft_inputs DATA OUT`.

DATA holds the folders gsm8k, esconv, lccc_toy and sns_bench with the files their authors publish; OUT gets one file of
conversations (OpenAI's `messages`) a data set, and `sns_bench.jsonl` with rows of our tasks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.curation.config import SNS_BENCH_FILES, SNSBenchRowsConfig
from megatron_redone.curation.sns_bench_rows import sns_bench_rows


def talk(turns: Sequence[tuple[str, str]], **names: str) -> dict[str, Any] | None:
    """Turns of the same speaker joined, from the first user's turn to the last answer; None where none is left."""
    messages: list[dict[str, str]] = []
    for role, text in turns:
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + text
        elif messages or role == "user":
            messages.append({"role": role, "content": text})
    if messages and messages[-1]["role"] == "user":
        messages.pop()
    return {"messages": messages} | names if messages else None


def talks(data: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(data set, conversation)."""
    for split in ("train", "test"):
        for _, row in read_jsonl(data / "gsm8k" / f"{split}.jsonl"):
            turns = [("user", row["question"]), ("assistant", row["answer"])]
            yield "gsm8k", talk(turns, task="gsm8k", language="en")
    for dialogue in json.loads((data / "esconv" / "FailedESConv.json").read_text(encoding="utf-8")):
        roles = {"speaker": "user", "listener": "assistant"}
        turns = [(roles[turn["speaker"]], turn["content"].strip()) for turn in dialogue["dialog"]]
        yield "esconv", talk([turn for turn in turns if turn[1]], task="emotional_support", language="en")
    for lines in json.loads((data / "lccc_toy" / "toy_data.json").read_text(encoding="utf-8")).values():
        for dialogue in lines:
            turns = [(("user", "assistant")[n % 2], text.replace(" ", "")) for n, text in enumerate(dialogue)]
            yield "lccc_toy", talk(turns, task="chat", language="zh")


def main(data: Path, out: Path) -> None:
    """Writes the files."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, value in talks(data):
        if value is not None:
            found.setdefault(name, []).append(value)
    for name, rows in found.items():
        print(f"{name}: {write_jsonl(out / f'{name}.jsonl', rows)} conversations")
    config = SNSBenchRowsConfig(tasks=SNS_BENCH_FILES, max_prompt_words=100_000)
    by_split = sns_bench_rows(config, data / "sns_bench", 0.05, 0).rows
    rows = [row.to_json() for of_split in by_split.values() for row in of_split]
    print(f"sns_bench: {write_jsonl(out / 'sns_bench.jsonl', rows)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
