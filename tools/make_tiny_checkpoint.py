"""Writes a tiny Hugging Face checkpoint with random weights, for trying out what reads one.

    python tools/make_tiny_checkpoint.py --family qwen3_moe --out runs/tiny

The weights are a function of the seed. There is no tokenizer, so it serves conversions and parity checks, not training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from megatron_redone.checkpoint.hf_folder import write_safetensors
from megatron_redone.common.errors import RedoneError
from megatron_redone.common.files import atomic_directory, atomic_write_json
from megatron_redone.conversion.output import check_output
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import FAMILIES, shape_to_hf
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def tiny_shape(family: str) -> ModelShape:
    """The family's tiny preset."""
    return get_preset(f"{family.replace('_moe', '-moe').replace('_', '.')}-tiny")


def write_tiny_checkpoint(
    shape: ModelShape, out: Path, seed: int = 0, dtype: Literal["float32", "bfloat16"] = "float32"
) -> int:
    """Writes config.json and model.safetensors as folder `out`; returns the bytes of the weights."""
    check_output(out)
    weights = RandomWeights(shape, seed)
    with atomic_directory(out) as work:
        num_bytes = write_safetensors(work, ((name, weights[name].to(DTYPES[dtype])) for name in weights))
        atomic_write_json(work / "config.json", shape_to_hf(shape, dtype))
    return num_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, writes the folder, returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", required=True, choices=list(FAMILIES))
    parser.add_argument("--out", required=True, type=Path, help="new folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    options = parser.parse_args(arguments)
    shape = tiny_shape(options.family)
    try:
        num_bytes = write_tiny_checkpoint(shape, options.out, options.seed, options.dtype)
    except RedoneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: {shape.family}, {shape.num_parameters():,} parameters, {num_bytes:,} bytes of weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
