"""The training benchmark measures the work that training does: its tokens, labels and losses are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.benchmarks.config import TrainBenchmarkConfig
from megatron_redone.benchmarks.peer import TransformersPeer
from megatron_redone.benchmarks.rows import benchmark_engine, benchmark_rows
from megatron_redone.benchmarks.train import RankRecord, StepRecord, TrainResult, benchmark_train
from megatron_redone.common.errors import ConfigError, DataError
from megatron_redone.config.loading import validate
from megatron_redone.data.tokenizer import train_sentencepiece
from megatron_redone.models.flops import training_flops
from megatron_redone.models.presets import get_preset
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import microbatches_of
from tools.make_tiny_checkpoint import write_tiny_checkpoint


def settings(**changes: object) -> TrainBenchmarkConfig:
    return TrainBenchmarkConfig.model_validate(
        {"preset": "qwen3-tiny", "sequence_length": 64, "rows": 2, "steps": 2, "warmup": 1, "profiled": 1} | changes
    )


def test_tokens_labels_operations_and_parts(parallel_context: ParallelContext) -> None:
    result = benchmark_train(settings(document_length=24), parallel_context)
    assert [step.real_tokens for step in result.steps] == [96, 96]  # two documents of 24 fit into a row of 64
    assert [step.total_tokens for step in result.steps] == [128, 128]
    assert [step.labelled_tokens for step in result.steps] == [92, 92]  # the first token of a document has no label
    assert result.steps[0].flops == training_flops(get_preset("qwen3-tiny"), [24] * 4, 92)
    assert sum(share for name, share in result.parts.items() if name != "communication") == pytest.approx(1.0)
    assert min(result.parts[name] for name in ("data", "forward", "loss", "backward", "optimizer")) > 0
    (rank,) = result.ranks
    megabytes = 4 * get_preset("qwen3-tiny").num_parameters() / 2**20
    assert rank.weights_mib == pytest.approx(megabytes)
    assert rank.gradients_mib == pytest.approx(megabytes, rel=0.01)  # the buffer is padded
    assert rank.optimizer_mib == pytest.approx(2 * megabytes, rel=0.01)


def test_lengths_are_spread_as_in_the_papers_data_and_rows_are_packed() -> None:
    config = settings(lengths="redone", sequence_length=16_384, rows=8)
    (rows,) = benchmark_rows(config, get_preset("qwen3-tiny"), None, 1)
    assert len(rows) == 8 and all(sum(map(len, row)) <= 16_384 for row in rows)
    assert sorted(sum(map(len, row)) for row in rows)[1] > 0.98 * 16_384  # one may be the loose end
    found = sorted(len(document) for row in rows for document in row)
    assert 250 < found[len(found) // 2] < 450 and found[-1] > 1500
    assert benchmark_rows(config, get_preset("qwen3-tiny"), None, 1) == [rows]
    with pytest.raises(ConfigError, match=r"give one source of lengths"):
        validate(TrainBenchmarkConfig, {"preset": "qwen3-tiny", "lengths": "redone", "document_length": 8}, "test")


def test_the_peer_computes_the_same_loss(parallel_context: ParallelContext) -> None:
    config = settings(document_length=24)
    engine, _ = benchmark_engine(config, parallel_context)
    (rows,) = benchmark_rows(config, engine.shape, None, 1)
    peer = TransformersPeer(engine, parallel_context)
    ours = engine.accumulate_gradients(microbatches_of(rows, engine), NextToken())["loss"]
    assert peer.step(rows) == pytest.approx(ours, rel=1e-5)


def test_medians_and_ratios() -> None:
    steps = [
        StepRecord(seconds, 2 * seconds, 100, 200, 50, 1e9, 1.0, peer_seconds=1.0, peer_cpu_seconds=6.0)
        for seconds in (1.0, 2.0, 10.0)
    ]
    found = TrainResult(1, 1, 2, 1, "cpu", steps, [RankRecord(0, 0, 0, 0, 1e9), RankRecord(0, 0, 0, 0, 3e9)]).summary()
    assert found["useful_tokens_per_second"] == 50
    assert found["total_tokens_per_second"] == 100
    assert found["labelled_tokens_per_second"] == 25
    assert found["share_of_matmul_peak"] == 0.5e9 / 4e9
    assert found["peer_cpu_seconds_over_ours"] == 1.5


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A model folder with a tokenizer."""
    texts = [f"{word} of the {number} words here" for number in range(200) for word in ("some", "all")]
    tokenizer = train_sentencepiece(texts, tmp_path / "tokenizer", 300, 0)
    shape = get_preset("qwen3-tiny").model_copy(update={"vocab_size": tokenizer.vocab_size})
    write_tiny_checkpoint(shape, tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    return tmp_path / "model"


def test_conversations_are_packed_and_come_round_again(
    parallel_context: ParallelContext, tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "say it"}, {"role": "assistant", "content": "it"}]
    path.write_text("".join(json.dumps({"id": str(number), "messages": turns}) + "\n" for number in range(3)))
    config = TrainBenchmarkConfig(model=tiny_model, conversations=path, sequence_length=256)
    engine, tokenizer = benchmark_engine(config, parallel_context)
    rows = benchmark_rows(config, engine.shape, tokenizer, 2)
    assert sorted(document.sample_id for document in rows[0][0]) == ["0", "1", "2"] and rows[1] == rows[0]
    labelled = sum(sum(document.loss_mask) for document in rows[0][0])
    assert 0 < labelled < sum(len(document) for document in rows[0][0])
    too_short = TrainBenchmarkConfig(model=tiny_model, conversations=path, sequence_length=8)
    with pytest.raises(DataError, match="3 documents, 3 of them over max_tokens=8"):
        benchmark_rows(too_short, engine.shape, tokenizer, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": None}, "give exactly one of them"),
        ({"conversations": "rows.jsonl"}, "its tokenizer is needed"),
        ({"document_length": 65}, "document_length=65 is more than sequence_length=64"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**changes)


def test_the_layout_is_part_of_the_settings() -> None:
    assert settings(parallel={"tp": 2}).parallel == ParallelConfig(tp=2)
