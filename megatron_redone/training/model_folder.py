"""Hugging Face model folders in and out of the engine: what passes between stages."""

from __future__ import annotations

from pathlib import Path

import torch

from megatron_redone.checkpoint.distributed import read_state
from megatron_redone.checkpoint.hf_config import companion_folder
from megatron_redone.checkpoint.hf_folder import SafetensorsFolder, write_safetensors
from megatron_redone.checkpoint.manifest import MANIFEST, verify_checkpoint
from megatron_redone.common.errors import InputError
from megatron_redone.common.files import atomic_directory, atomic_write_json
from megatron_redone.data.tokenizer import Tokenizer, load_tokenizer
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import read_shape, shape_to_hf
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine


def load_engine(
    folder: Path, context: ParallelContext, optimizer: OptimizerConfig | None = None
) -> tuple[MegatronEngine, Tokenizer]:
    """An engine with the weights of a model folder, and the folder's tokenizer.

    The folder is a Hugging Face one, or a Megatron checkpoint that was converted from one; of that each rank reads its
    own part only.

    Raises:
        CheckpointError: not a model folder that we can read.
        InputError: no tokenizer, or one with more ids than the model has embeddings.
    """
    shape = read_shape(folder)
    tokenizer = load_tokenizer(companion_folder(folder))
    check_vocabulary(shape, tokenizer, folder)
    engine = MegatronEngine(shape, context, optimizer)
    engine.tokenizer_fingerprint = tokenizer.fingerprint
    if (folder / MANIFEST).is_file():
        context.on_main(lambda: verify_checkpoint(folder))
        engine.load_megatron_weights(lambda state: read_state(folder, state))
    else:
        engine.load_hf_weights(SafetensorsFolder(folder), str(folder))
    return engine, tokenizer


def check_vocabulary(shape: ModelShape, tokenizer: Tokenizer, source: Path) -> None:
    """Raises InputError when the tokenizer has ids that the model has no embedding for."""
    if tokenizer.vocab_size > shape.vocab_size:
        raise InputError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} ids, the model {shape.vocab_size} embeddings; "
            "every id needs one: use the tokenizer that the model was trained with"
        )


def save_model_folder(engine: MegatronEngine, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes config.json, safetensors and tokenizer as `folder`, whole or not at all. A collective."""
    dtype = "bfloat16" if engine.context.dtype == torch.bfloat16 else "float32"
    if not engine.context.is_main:
        for _ in engine.export_hf_weights():
            pass
    else:
        with atomic_directory(folder) as work:
            write_safetensors(work, engine.export_hf_weights())
            atomic_write_json(work / "config.json", shape_to_hf(engine.shape, dtype))
            tokenizer.save(work)
    engine.context.barrier()
