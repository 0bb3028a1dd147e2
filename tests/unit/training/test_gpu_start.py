"""Rows of one length, and of the multiple that FP8 needs, change no loss; graphs are captured when it is time."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from typing import Any

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.parallel.gpu_config import GPUConfig
from megatron_redone.training.batches import pack
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.gpu_start import MLPGraphs
from megatron_redone.training.rows import Rows
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import EPSILON, SIGNALS, documents, shape_of

GRAPHS = {"layer_spec": "transformer_engine", "cuda_graphs": "mlp", "graph_tokens": 128}


def engine_of(context: ParallelContext) -> MegatronEngine:
    shape = shape_of("qwen3-tiny")
    engine = MegatronEngine(shape, context, OptimizerConfig(lr=1e-2, epsilon=EPSILON))
    engine.load_hf_weights(SpreadWeights(shape, 3), "test weights")
    return engine


def test_rows_of_one_length_give_the_same_loss(parallel_context: ParallelContext) -> None:
    plain = engine_of(parallel_context)
    batches = [pack(documents(0, 256)[:3], plain, SIGNALS), pack(documents(0, 256)[3:], plain, SIGNALS)]
    expected = plain.train_step(batches, NextToken(), 1e-2)
    filled = engine_of(parallel_context)
    # The model stays the local one; how rows are filled is asked of the context's settings.
    filled.context = replace(parallel_context, config=ParallelConfig(gpu=GPUConfig.model_validate(GRAPHS)))
    lengths = [batch.num_tokens for batch in filled._even(batches)]
    assert lengths == [128, 128] and [batch.num_tokens for batch in batches] != lengths
    filled._graphs._captured = True
    found = filled.train_step(batches, NextToken(), 1e-2)
    assert found["loss"] == pytest.approx(expected["loss"], rel=2e-6)
    assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5)


def test_a_longer_row_is_refused(parallel_context: ParallelContext) -> None:
    engine = engine_of(parallel_context)
    batch = pack(documents(0, 256), engine, SIGNALS)
    with pytest.raises(DataError, match=r"does not fit parallel.gpu's 16 tokens of every row"):
        engine.rows.filled_to(batch, 16)


def test_fp8_rows_come_in_multiples(parallel_context: ParallelContext) -> None:
    rows = Rows(engine_of(parallel_context).model)
    assert rows.multiple == 1
    gpu = GPUConfig.model_validate({"layer_spec": "transformer_engine", "fp8": {}})
    rows.context = replace(parallel_context, config=ParallelConfig(precision="bf16", gpu=gpu))
    assert rows.multiple == 128


def test_graphs_are_captured_once_after_the_first_steps(
    parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    class Helper:
        def __init__(self, **options: Any) -> None:
            made.append(options)

        def create_cudagraphs(self) -> None: ...

    module = types.ModuleType("cuda_graphs")
    module.TECudaGraphHelper = Helper  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "megatron.core.transformer.cuda_graphs", module)
    engine = engine_of(parallel_context)
    gpu = GPUConfig.model_validate({**GRAPHS, "graph_warmup_steps": 2})
    graphs = MLPGraphs(replace(parallel_context, config=ParallelConfig(gpu=gpu)), engine.ddp, engine.optimizer)
    seen = []
    for _ in range(4):
        graphs.after_step()
        seen.append(len(made))
    assert seen == [0, 1, 1, 1]
    assert made[0]["seq_length"] == 128 and made[0]["micro_batch_size"] == 1
