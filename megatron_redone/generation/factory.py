"""The one place where a generation engine is chosen by settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from megatron_redone.checkpoint.distributed import read_state
from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.checkpoint.manifest import MANIFEST, verify_checkpoint
from megatron_redone.generation.base import GenerationEngine
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.build import ModelChunks, build_model
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import read_shape
from megatron_redone.models.weights import export_weights, load_folder
from megatron_redone.parallel.context import ParallelContext

WeightStream = Callable[[], Iterable[tuple[str, Tensor]]]
"""Starts a stream of (Hugging Face name, whole tensor): `MegatronEngine.export_hf_weights`. A collective."""


def engine_for_model(
    config: GenerationConfig,
    model: ModelChunks,
    context: ParallelContext,
    export: WeightStream,
    tokenizer: str | None = None,
) -> GenerationEngine:
    """The engine of the settings, with the weights that `model` has now. Every rank calls it alike.

    The caller closes it. After the model has changed it calls `update_weights(export(), version)`.

    Args:
        tokenizer: fingerprint of the tokenizer that the ids are of; servers must have the same.
    Raises:
        InputError: the engine is not installed, or cannot run this model or layout.
    """
    if config.engine == "megatron":
        return MegatronGenerator(model, context, config.max_sequences)
    engine = _copying_engine(config, model.shape, context, tokenizer)
    engine.update_weights(export(), version=0)
    return engine


def engine_for_folder(
    config: GenerationConfig, folder: Path, context: ParallelContext, tokenizer: str | None = None
) -> GenerationEngine:
    """The engine of the settings, with the weights of a model folder. Every rank calls it alike.

    Without a transfer folder servers keep the weights that they have, which must be those of this folder.
    """
    if config.engine == "megatron":
        return MegatronGenerator(_load_model(folder, context), context, config.max_sequences)
    engine = _copying_engine(config, read_shape(folder), context, tokenizer)
    if (folder / MANIFEST).is_file():
        engine.update_weights(export_weights(_load_model(folder, context), context), version=0)
    else:
        tensors = SafetensorsFolder(folder)
        engine.update_weights(((name, tensors[name]) for name in tensors), version=0)
    return engine


def _load_model(folder: Path, context: ParallelContext) -> ModelChunks:
    """The model of a Hugging Face folder or of a Megatron checkpoint that was converted from one."""
    model = build_model(read_shape(folder), context)
    if (folder / MANIFEST).is_file():
        context.on_main(lambda: verify_checkpoint(folder))
        model.load_state_dict(read_state(folder, {"model": model.sharded_state_dict()})["model"])
    else:
        load_folder(model, context, folder)
    return model


def engine_settings(config: GenerationConfig) -> GenerationConfig:
    """What of the settings an engine is built from: engines of equal ones can stand for each other."""
    return config.model_copy(update={"temperature": 1.0, "top_p": 1.0, "over_long": "drop"})


def _copying_engine(
    config: GenerationConfig, shape: ModelShape, context: ParallelContext, tokenizer: str | None
) -> GenerationEngine:
    """An engine that has its own copy of the weights."""
    if config.engine == "servers":
        from megatron_redone.generation.remote_engine import RemoteEngine

        return RemoteEngine(config.servers, shape, context, tokenizer)
    from megatron_redone.generation.vllm_engine import VLLMEngine

    return VLLMEngine(config, shape, context)
