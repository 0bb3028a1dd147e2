"""Megatron torch_dist checkpoint, as `to_megatron` writes it -> Hugging Face model folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from megatron_redone.checkpoint.distributed import read_state, verify_checkpoint
from megatron_redone.checkpoint.hf_folder import write_safetensors
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import atomic_directory
from megatron_redone.conversion.hf_model import DTYPES, EMBEDDING, HEAD, copy_companions
from megatron_redone.conversion.output import check_output
from megatron_redone.conversion.to_megatron import BUFFERS_FILE, COMPANION_FOLDER, KIND, in_precision
from megatron_redone.models.build import build_model
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import read_shape
from megatron_redone.models.weights import export_weights
from megatron_redone.parallel.context import ParallelContext


def to_hf(megatron: Path, out: Path, context: ParallelContext) -> ModelShape:
    """Writes config, tokenizer and every tensor, in its original data type, as folder `out`; whole or not at all.

    A collective; one process reads a checkpoint that was cut for any layout. The format of torch_dist holds pickles:
    its checksums find damage, not malice, so convert only checkpoints of people you trust.

    Returns the shape of the model.

    Raises:
        CheckpointError: not a converted model, or a file of it is missing or damaged.
        InputError: see `check_output`. DiskFullError: the disk is full.
    """
    check_output(out)
    record = context.on_main(lambda: verify_checkpoint(megatron))
    if record.get("kind") != KIND:
        raise CheckpointError(
            f"{megatron}: a checkpoint of a training stage, not a converted model; the stage's output is a "
            "Hugging Face folder already"
        )
    shape = read_shape(megatron / COMPANION_FOLDER)
    model = build_model(shape, in_precision(context, record["precision"]))
    loaded = read_state(megatron, {"model": model.sharded_state_dict()})
    model.load_state_dict(loaded["model"])
    stream = _in_original_form(export_weights(model, context), record)
    if not context.is_main:
        for _ in stream:
            pass
    else:
        with atomic_directory(out) as work:
            write_safetensors(work, _with_buffers(stream, megatron / COMPANION_FOLDER / BUFFERS_FILE))
            copy_companions(megatron / COMPANION_FOLDER, work)
    context.barrier()
    return shape


def _in_original_form(stream: Iterator[tuple[str, Tensor]], record: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors in the data types they came in, and the second copy of a tied embedding if there was one."""
    for name, tensor in stream:
        original = tensor.to(DTYPES[record["other_dtypes"].get(name, record["dtype"])])
        yield name, original
        if name == EMBEDDING and record["has_tied_head"]:
            yield HEAD, original.clone()


def _with_buffers(stream: Iterator[tuple[str, Tensor]], buffers: Path) -> Iterator[tuple[str, Tensor]]:
    yield from stream
    if buffers.is_file():
        yield from load_file(buffers).items()
