"""The one place where a model folder becomes a generation engine of the asked kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from megatron_redone.checkpoint.hf_config import companion_folder
from megatron_redone.checkpoint.manifest import MANIFEST, verify_checkpoint
from megatron_redone.common.errors import InputError
from megatron_redone.data.tokenizer import Tokenizer, load_tokenizer
from megatron_redone.generation.base import GenerationEngine
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import read_shape

if TYPE_CHECKING:
    from megatron_redone.parallel.context import ParallelContext

EngineKind = Literal["megatron", "vllm"]


@dataclass(frozen=True)
class OpenModel:
    """A model that answers.

    Attributes:
        max_positions: tokens of prompt and answer that it was made for.
    """

    engine: GenerationEngine
    tokenizer: Tokenizer
    max_positions: int


def open_model(folder: Path, kind: EngineKind, max_sequences: int, context: Callable[[], ParallelContext]) -> OpenModel:
    """A Hugging Face folder or a converted Megatron checkpoint, ready to generate.

    Args:
        max_sequences: sequences that are generated at once.
        context: gives the layout where the engine runs in this process.

    Raises:
        CheckpointError: not a model folder that we can read.
        InputError: no tokenizer, one with more ids than the model has embeddings, or an engine that is not here.
    """
    if kind == "vllm":
        raise InputError(
            "--engine vllm: this version has no vLLM engine (it will come with the extra `vllm`); use --engine megatron"
        )
    shape = read_shape(folder)
    tokenizer = load_tokenizer(companion_folder(folder))
    if tokenizer.vocab_size > shape.vocab_size:
        raise InputError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model {shape.vocab_size} embeddings; "
            "use the tokenizer that the model was trained with"
        )
    return OpenModel(_megatron(folder, shape, max_sequences, context()), tokenizer, shape.max_positions)


def _megatron(folder: Path, shape: ModelShape, max_sequences: int, context: ParallelContext) -> GenerationEngine:
    from megatron_redone.checkpoint.distributed import read_state
    from megatron_redone.generation.megatron_engine import MegatronGenerator
    from megatron_redone.models.build import build_model
    from megatron_redone.models.weights import load_folder

    model = build_model(shape, context)
    if (folder / MANIFEST).is_file():
        verify_checkpoint(folder)
        model.load_state_dict(read_state(folder, {"model": model.sharded_state_dict()})["model"])
    else:
        load_folder(model, context, folder)
    return MegatronGenerator(model, context, max_sequences)
