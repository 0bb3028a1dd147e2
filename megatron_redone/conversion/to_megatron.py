"""Hugging Face model folder -> Megatron torch_dist checkpoint.

The checkpoint folder holds the sharded weights as any Megatron layout loads them, the files that stood beside the
weights (`hugging_face/`), and a manifest with checksums of all of it, so that `to_hf` can give everything back.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from megatron_redone.checkpoint.hf_folder import save_safetensors
from megatron_redone.checkpoint.write import write_checkpoint
from megatron_redone.common.errors import ConfigError
from megatron_redone.common.logging import get_logger
from megatron_redone.conversion.hf_model import HuggingFaceModel, check_tied_head, copy_companions, open_model
from megatron_redone.conversion.output import check_output
from megatron_redone.models.build import build_model
from megatron_redone.models.weights import load_weights
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext

KIND = "converted model"
COMPANION_FOLDER = "hugging_face"
BUFFERS_FILE = "buffers.safetensors"


def check_to_megatron(hf: Path, out: Path, tp: int, pp: int) -> ParallelConfig:
    """Everything that can be known to fail before a rank is started; gives the layout of the ranks.

    Raises:
        CheckpointError: see `open_model`. InputError: see `check_output`.
        ConfigError: an axis of the layout does not divide the model.
    """
    check_output(out)
    shape = open_model(hf).shape
    layout = ParallelConfig(tp=tp, pp=pp, etp=tp if shape.is_moe else 1)  # experts are cut like the rest
    problems = shape.layout_problems(layout)
    if problems:
        raise ConfigError(problems)
    return layout


def to_megatron(hf: Path, out: Path, context: ParallelContext) -> HuggingFaceModel:
    """Writes the model as checkpoint folder `out`, cut for the layout of `context`; whole or not at all.

    A collective. Weights are kept in bf16 where every tensor of the model is bf16, else in fp32.

    Returns the model that was converted.

    Raises:
        CheckpointError: see `open_model`; and a tied head that is not tied. InputError: see `check_output`.
        ConfigError: an axis of the layout does not divide the model. DiskFullError: the disk is full.
    """
    check_output(out)
    source = open_model(hf)
    context.on_main(lambda: check_tied_head(source))
    if context.is_main and not source.has_tokenizer:
        get_logger("convert").warning("%s: no tokenizer there; the checkpoint will have none either", hf)
    model = build_model(source.shape, in_precision(context, source.precision))
    load_weights(model, context, source.tensors, str(hf))
    record: dict[str, Any] = {
        "kind": KIND,
        "layout": {"tp": context.tp.size, "pp": context.pp.size},
        "precision": source.precision,
        "dtype": source.dtype,
        "other_dtypes": dict(source.other_dtypes),
        "has_tied_head": source.has_tied_head,
    }
    state = {"model": model.sharded_state_dict()}
    write_checkpoint(
        out, state, record, context, add_files=lambda folder: _add_files(source, folder / COMPANION_FOLDER)
    )
    return source


def _add_files(source: HuggingFaceModel, target: Path) -> None:
    copy_companions(source.folder, target)
    if source.buffers:
        save_safetensors({name: source.tensors[name] for name in source.buffers}, target / BUFFERS_FILE)


def in_precision(context: ParallelContext, precision: Literal["fp32", "bf16"]) -> ParallelContext:
    """The same layout with weights of this precision."""
    return dataclasses.replace(context, config=context.config.model_copy(update={"precision": precision}))
