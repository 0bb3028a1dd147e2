"""An interrupted run over a blend ends as one that was not; a changed blend goes on where each corpus is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.common.errors import CheckpointError, ConfigError, DataError
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.blend import Blend, BlendedSamples, BlendPhase
from megatron_redone.data.document import Document
from megatron_redone.data.indexed_corpus import PretrainSamples, write_corpus
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.blend_ledger import BlendLedger
from megatron_redone.training.config import OptimizerConfig, PretrainConfig, ValidationConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.ledger import DataLedger
from megatron_redone.training.pretrain import check_epochs, pretrain_blend, train_on
from megatron_redone.training.run import TrainingRun
from megatron_redone.training.validation import Validation
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import shape_of

EOS, LENGTH, BATCH, STEPS = 1, 16, 3, 6
FIRST = {"notes": 3.0, "web": 1.0}
CONFIG = PretrainConfig(
    sequence_length=LENGTH, global_batch_size=BATCH, steps=STEPS, optimizer=OptimizerConfig(lr=1e-2)
)
SIZES = {"notes": 9, "web": 40, "code": 20}


class KilledError(Exception):
    """Stands for the end of the process."""


class NotedSamples(BlendedSamples):
    """Notes what is read, and dies when sample `dies_at` is asked for."""

    def __init__(self, *arguments: Any, dies_at: int | None = None) -> None:
        super().__init__(*arguments)
        self.read: dict[int, list[str]] = {}
        self.dies_at = dies_at

    def __getitem__(self, index: int) -> list[Document]:
        if index == self.dies_at:
            raise KilledError
        found = super().__getitem__(index)
        self.read[index] = [document.sample_id for document in found]
        return found


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PretrainSamples]:
    folder = tmp_path_factory.mktemp("corpora")
    for number, (name, size) in enumerate(SIZES.items()):
        write_corpus(folder / name, [[2 + number * 50 + (n * k) % 50 for k in range(5 + n % 7)] for n in range(size)])
    return {name: PretrainSamples(folder / name, LENGTH, EOS, seed=5, name=name) for name in SIZES}


def train(
    folder: Path,
    context: ParallelContext,
    corpora: Mapping[str, PretrainSamples],
    *phases: tuple[int, Mapping[str, float]],
    dies_at: int | None = None,
    tokens: str = "",
) -> tuple[NotedSamples, dict[str, torch.Tensor], dict[str, int | float]]:
    shape = shape_of("qwen3-tiny")
    engine = MegatronEngine(shape, context, CONFIG.optimizer)
    engine.load_hf_weights(SpreadWeights(shape, 3), "test weights")
    blend = Blend(list(corpora), [BlendPhase(start, weights) for start, weights in phases])
    samples = NotedSamples(list(corpora.values()), blend, dies_at=dies_at)
    per_epoch = {name: corpus.tokens_per_epoch / LENGTH for name, corpus in corpora.items()}
    ledger = BlendLedger(blend, {name: f"tokens of {name}{tokens}" for name in corpora}, per_epoch)
    folder.mkdir(exist_ok=True)
    run = TrainingRun(folder, "pretrain", 0, context, CheckpointConfig(every=2, in_background=False))
    counts = pretrain_blend(CONFIG, samples, ledger, engine, run)
    return samples, {name: tensor.clone() for name, tensor in engine.export_hf_weights()}, counts


def test_an_unchanged_resume_changes_no_bit(
    tmp_path: Path, parallel_context: ParallelContext, corpora: dict[str, PretrainSamples]
) -> None:
    whole, expected, counts = train(tmp_path / "whole", parallel_context, corpora, (0, FIRST))
    with pytest.raises(KilledError):
        train(tmp_path / "cut", parallel_context, corpora, (0, FIRST), dies_at=14)
    resumed, found, again = train(tmp_path / "cut", parallel_context, corpora, (0, FIRST))
    assert min(resumed.read) == 4 * BATCH  # from the checkpoint, not from the start
    assert {index: whole.read[index] for index in resumed.read} == resumed.read
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for name in ("metrics.jsonl", "ledger.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert counts == again
    assert (counts["samples/notes"], counts["samples/web"], counts["samples/code"]) in [(13, 5, 0), (14, 4, 0)]
    assert counts["epochs/notes"] == pytest.approx(
        counts["samples/notes"] * LENGTH / corpora["notes"].tokens_per_epoch, abs=1e-4
    )
    assert '"samples/notes": ' in (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_changed_blend_loses_and_repeats_nothing(
    tmp_path: Path, parallel_context: ParallelContext, corpora: dict[str, PretrainSamples]
) -> None:
    old = {name: corpora[name] for name in FIRST}
    with pytest.raises(KilledError):
        train(tmp_path / "run", parallel_context, old, (0, FIRST), dies_at=14)
    second = {"code": 1.0, "web": 1.0}
    resumed, _, counts = train(tmp_path / "run", parallel_context, corpora, (0, FIRST), (13, second))
    taken: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for index in range(STEPS * BATCH):
        corpus, own = resumed.blend[index]
        taken[corpus].append(own)
        assert index < 4 * BATCH or resumed.read[index] == [d.sample_id for d in resumed.corpora[corpus][own]]
    assert all(own == list(range(len(own))) and own for own in taken.values())
    assert [counts[f"samples/{name}"] for name in corpora] == [len(own) for own in taken.values()]


class OneReplica:
    """A replica that trains nothing and notes the tokens of its rows."""

    def __init__(self, rank: int, replicas: int) -> None:
        self.context = SimpleNamespace(dp=SimpleNamespace(rank=rank, size=replicas))
        self.row_multiple = 1
        self.rows: list[list[list[int]]] = []

    def train_step(self, batches: list[PackedBatch], objective: object, rate: float) -> dict[str, float]:
        self.rows.append([batch.tokens.tolist() for batch in batches if float(batch.loss_weights.sum())])
        return {"loss": 0.0}


class OneRun:
    """Runs all steps."""

    trained_tokens = 0

    def __init__(self) -> None:
        self.ledger = DataLedger()

    def note_samples(self, read: list[str]) -> None:
        self.ledger.add(read)

    def steps(self, engine: object, num_steps: int, step: Callable[[int], Mapping[str, float]], **_: Any) -> None:
        for number in range(num_steps):
            step(number)


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_any_number_of_replicas_reads_the_same_rows(replicas: int, corpora: dict[str, PretrainSamples]) -> None:
    def read(rank: int, size: int) -> tuple[list[list[list[int]]], dict[str, Any]]:
        engine, run = OneReplica(rank, size), OneRun()
        blended = BlendedSamples(list(corpora.values()), Blend(list(corpora), [BlendPhase(0, FIRST | {"code": 2.0})]))
        train_on(blended, CONFIG, STEPS, engine, run)  # type: ignore[arg-type]
        return engine.rows, run.ledger.state()

    alone, ledger = read(0, 1)
    ranks = [read(rank, replicas) for rank in range(replicas)]
    assert all(state == ledger for _, state in ranks)
    for step, rows in enumerate(alone):
        assert sorted(rows) == sorted(row for found, _ in ranks for row in found[step])


@pytest.mark.parametrize(
    ("phases", "left_out", "tokens", "problem"),
    [
        ([(0, {"notes": 1.0, "web": 1.0})], "", "", r"until sample 12 it was .*'notes': 3.*, now .*'notes': 1"),
        ([(0, FIRST), (11, {"web": 1.0})], "", "", r"give a new one `from_sample: 12` or later"),
        ([(0, FIRST)], "", " changed", "'notes', of which 9 samples are read, has other tokens than before"),
        ([(0, {"notes": 1.0})], "web", "", "'web', of which 3 samples are read, is no longer there"),
    ],
)
def test_a_blend_with_another_past_is_refused(
    phases: list[tuple[int, dict[str, float]]], left_out: str, tokens: str, problem: str,
    corpora: dict[str, PretrainSamples],
) -> None:  # fmt: skip
    def ledger(names: list[str], *entries: tuple[int, Mapping[str, float]], tokens: str = "") -> BlendLedger:
        blend = Blend(names, [BlendPhase(start, weights) for start, weights in entries])
        return BlendLedger(blend, {name: name + tokens for name in names}, dict.fromkeys(names, 1.0))

    before = ledger(["notes", "web"], (0, FIRST))
    before.advance(12)
    kept = [name for name in corpora if name != left_out]
    with pytest.raises(CheckpointError, match=problem):
        ledger(kept, *phases, tokens=tokens).restore(before.state())
    after = ledger(kept + [left_out] * bool(left_out), (0, FIRST), (12, {"notes": 1.0}))
    after.restore(before.state())
    assert after.num_samples == 12 and after.advance(2)["samples/notes"] == 11


def test_a_run_that_repeats_a_corpus_too_often_is_refused(corpora: dict[str, PretrainSamples]) -> None:
    samples = BlendedSamples(list(corpora.values()), Blend(list(corpora), [BlendPhase(0, FIRST)]))
    check_epochs(samples, 18, None)
    with pytest.raises(
        ConfigError, match=r"blend.max_epochs=2.0: notes would be gone through 2\.\d+ times in 18 samples"
    ):
        check_epochs(samples, 18, 2.0)


def test_validation_is_the_mean_loss_of_the_first_rows(
    parallel_context: ParallelContext, corpora: dict[str, PretrainSamples], tmp_path: Path
) -> None:
    shape = shape_of("qwen3-tiny")
    engine = MegatronEngine(shape, parallel_context, CONFIG.optimizer)
    engine.load_hf_weights(SpreadWeights(shape, 3), "test weights")
    all_rows = corpora["notes"].tokens_per_epoch // LENGTH
    rows = [corpora["notes"][row] for row in range(all_rows)]
    from megatron_redone.training.batches import pack

    packed = [pack(row, engine) for row in rows]
    sums = [float(values.double().sum()) for values in engine.logprobs(packed)]
    labels = sum(len(document) - 1 for row in rows for document in row)
    found = Validation(ValidationConfig(samples=1000), {"notes": corpora["notes"]}).losses(engine)
    assert found == {"validation_loss/notes": pytest.approx(-sum(sums) / labels, rel=1e-6)}
    few = Validation(ValidationConfig(samples=2), {"notes": corpora["notes"]}).losses(engine)
    own = sum(len(document) - 1 for row in rows[:2] for document in row)
    assert few == {"validation_loss/notes": pytest.approx(-sum(sums[:2]) / own, rel=1e-6)}
    write_corpus(tmp_path / "tiny", [[5, 6]])
    with pytest.raises(DataError, match="3 do not fill a row of sequence_length=16"):
        Validation(ValidationConfig(), {"tiny": PretrainSamples(tmp_path / "tiny", LENGTH, EOS, seed=0)})
