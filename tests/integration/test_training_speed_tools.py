"""Both sides of the comparison of training speed read the same tokens and learn the same ones; the table adds up."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from megatron_redone.common.errors import RedoneError
from megatron_redone.curation.conversations import read_conversations
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.models.families import read_shape
from tools.compare_training_speed import OURS, Side, one_row, rate, run_side, summary, table
from tools.make_benchmark_inputs import SHAPES, main as make_inputs

MAX_TOKENS = 256

SIDE = """
import json, os, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MALLOC_MMAP_MAX_", "PYTHONPATH")}
json.dump({"options": options, "seen": seen}, open(options["--out"], "w"))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmark") / "inputs"
    assert make_inputs(["--out", str(out), "--conversations", "300", "--max-tokens", str(MAX_TOKENS)]) == 0
    return out


def test_the_inputs_are_a_model_folder_and_conversations_that_fit(inputs: Path) -> None:
    template = ChatTemplate(load_tokenizer(inputs / "model"))
    assert read_shape(inputs / "model") == SHAPES["20m"]
    lengths = [
        len(template.training_ids(c.messages).token_ids) for c in read_conversations(inputs / "conversations.jsonl")
    ]
    assert len(lengths) == 300 and max(lengths) <= MAX_TOKENS


def test_transformers_gives_the_same_tokens_and_the_same_ones_to_learn(inputs: Path) -> None:
    template = ChatTemplate(load_tokenizer(inputs / "model"))
    theirs = AutoTokenizer.from_pretrained(inputs / "model", local_files_only=True)
    for conversation in list(read_conversations(inputs / "conversations.jsonl"))[:100]:
        ours = template.training_ids(conversation.messages)
        rendered = theirs.apply_chat_template(
            [dict(message) for message in conversation.messages], return_dict=True, return_assistant_tokens_mask=True
        )
        assert rendered["input_ids"] == ours.token_ids
        assert [bool(learnt) for learnt in rendered["assistant_masks"]] == ours.loss_mask


def test_several_conversations_fill_one_row_for_the_check(inputs: Path) -> None:
    conversations = list(read_conversations(inputs / "conversations.jsonl"))
    template = ChatTemplate(load_tokenizer(inputs / "model"))
    kept = one_row(conversations, inputs / "model", MAX_TOKENS)
    lengths = [len(template.training_ids(c.messages).token_ids) for c in conversations[: len(kept) + 1]]
    assert len(kept) > 1
    assert sum(lengths[:-1]) <= MAX_TOKENS < sum(lengths)


def test_every_side_gets_the_threads_and_allocator_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "of-ours-alone")
    options = Namespace(inputs=tmp_path, sequence_length=64, threads=3)
    for name, path in ((OURS, "of-ours-alone"), ("TRL", None)):
        found = run_side(Side(name, [sys.executable, "-c", SIDE], ["--precision", "fp32"]), ["--steps", "4"], options)
        assert found["seen"] == {"OMP_NUM_THREADS": "3", "MALLOC_MMAP_MAX_": "0", "PYTHONPATH": path}
        assert found["options"]["--steps"] == "4" and found["options"]["--precision"] == "fp32"


def test_a_side_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    options = Namespace(inputs=tmp_path, sequence_length=64, threads=1)
    with pytest.raises(RedoneError, match="no such peer"):
        run_side(Side("TRL", [sys.executable, "-c", "raise SystemExit('no such peer')"], []), [], options)


def test_ratios_are_formed_inside_a_round() -> None:
    def run(seconds: list[float]) -> dict[str, list[float]]:
        tokens = [100.0] * len(seconds)
        return {"step_seconds": seconds, "cpu_seconds": [2 * s for s in seconds], "real_tokens": tokens,
                "labelled_tokens": [10.0] * len(seconds)}  # fmt: skip

    runs = {OURS: [run([1.0, 1.0, 9.0]), run([2.0])], "TRL": [run([2.0]), run([6.0])]}
    assert rate(runs[OURS][0], "step_seconds") == 100.0
    found = summary(runs)
    assert found["TRL"]["ratios_useful_tokens_per_second"] == [2.0, 3.0]
    row = table(found).splitlines()[-1]
    assert row == "| TRL | 33 | 17 | 10.0% | 2.50 (2.00 to 3.00) | 2.50 (2.00 to 3.00) |"
