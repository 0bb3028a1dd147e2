"""What the training benchmark trains, and on which rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from megatron_redone.benchmarks.config import TrainBenchmarkConfig
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import conversation_from_row
from megatron_redone.data.document import Document
from megatron_redone.data.packing import pack_documents
from megatron_redone.data.tokenizer import Tokenizer
from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.model_folder import load_engine
from megatron_redone.training.sft import Example, encode

Row = list[Document]


def benchmark_engine(config: TrainBenchmarkConfig, context: ParallelContext) -> tuple[MegatronEngine, Tokenizer | None]:
    """The engine to be measured, and the tokenizer of a model folder."""
    if config.model is not None:
        return load_engine(config.model, context, OptimizerConfig())
    assert config.preset is not None
    shape = get_preset(config.preset)
    if config.layers is not None:
        shape = shape.model_copy(update={"num_layers": config.layers})
    engine = MegatronEngine(shape, context, OptimizerConfig())
    engine.load_hf_weights(RandomWeights(shape, config.seed), f"preset {config.preset}")
    return engine, None


def benchmark_rows(
    config: TrainBenchmarkConfig, shape: ModelShape, tokenizer: Tokenizer | None, num_steps: int
) -> list[list[Row]]:
    """The rows of every step; conversations come round again when they are used up."""
    if config.conversations is None:
        rows = _random_rows(config, shape)
    else:
        assert tokenizer is not None
        rows = itertools.cycle(_packed_rows(config, config.conversations, ChatTemplate(tokenizer)))
    return [list(itertools.islice(rows, config.rows)) for _ in range(num_steps)]


def _random_rows(config: TrainBenchmarkConfig, shape: ModelShape) -> Iterator[Row]:
    length = config.document_length or config.sequence_length
    for number in itertools.count():
        random = numpy_rng(config.seed, "benchmark", number)
        row = []
        for place, tokens in enumerate(_lengths(config, length, random)):
            ids = random.integers(0, shape.vocab_size, tokens).tolist()
            row.append(Document(ids, [1.0] * tokens, f"{number}.{place}"))
        yield row


SPREAD = 0.8
"""Standard deviation of the logarithm of a document's length, where lengths are mixed."""


def _lengths(config: TrainBenchmarkConfig, length: int, random: np.random.Generator) -> list[int]:
    """Tokens of the documents of a row: alike, or mixed; what does not fit any more begins the next row elsewhere."""
    if not config.mixed_lengths:
        return [length] * (config.sequence_length // length)
    left = config.sequence_length
    found: list[int] = []
    while left >= 2:
        tokens = int(np.clip(random.lognormal(np.log(length), SPREAD), 2, config.sequence_length))
        if tokens > left and found:
            break
        found.append(min(tokens, left))
        left -= found[-1]
    return found


def _packed_rows(config: TrainBenchmarkConfig, path: Path, template: ChatTemplate) -> list[Row]:
    examples = [
        Example(str(value.get("id", number)), conversation_from_row(value, f"{path}:{number}"))
        for number, value in read_jsonl(path)
    ]
    rows, _ = pack_documents([encode(example, template) for example in examples], config.sequence_length, config.seed)
    return rows
