"""A model folder as an engine that answers, with its tokenizer: what benchmarks are answered by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from megatron_redone.checkpoint.hf_config import companion_folder
from megatron_redone.common.errors import InputError
from megatron_redone.data.tokenizer import Tokenizer, load_tokenizer
from megatron_redone.generation.base import GenerationEngine
from megatron_redone.generation.config import GenerationConfig, VLLMConfig
from megatron_redone.generation.factory import engine_for_folder
from megatron_redone.models.families import read_shape
from megatron_redone.parallel.context import ParallelContext


@dataclass(frozen=True)
class OpenModel:
    """A model that answers.

    Attributes:
        max_positions: tokens of prompt and answer that it was made for.
    """

    engine: GenerationEngine
    tokenizer: Tokenizer
    max_positions: int


def open_model(folder: Path, kind: str, max_sequences: int, context: ParallelContext) -> OpenModel:
    """A Hugging Face folder or a converted Megatron checkpoint, ready to generate.

    Args:
        kind: `megatron` or `vllm`.
        max_sequences: sequences that are generated at once.

    Raises:
        CheckpointError: not a model folder that we can read.
        InputError: no tokenizer, one with more ids than the model has embeddings, or an engine that is not installed.
    """
    shape = read_shape(folder)
    tokenizer = load_tokenizer(companion_folder(folder))
    if tokenizer.vocab_size > shape.vocab_size:
        raise InputError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model {shape.vocab_size} embeddings; "
            "use the tokenizer that the model was trained with"
        )
    config = GenerationConfig(
        engine="vllm" if kind == "vllm" else "megatron",
        max_sequences=max_sequences,
        vllm=VLLMConfig(max_model_len=shape.max_positions),
    )
    return OpenModel(engine_for_folder(config, folder, context, tokenizer.fingerprint), tokenizer, shape.max_positions)
