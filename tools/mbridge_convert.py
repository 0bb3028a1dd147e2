"""Loads a dense Hugging Face model into Megatron's tensors and saves it again, with mbridge: the peer of our converter.

    MBRIDGE_ENVIRONMENT/bin/python tools/mbridge_convert.py --hf MODEL --out NEW_FOLDER

Runs in an environment made from requirements/mbridge.lock and imports nothing of this project. mbridge builds
Megatron's model with Transformer Engine, which needs a GPU; here it gets a stand-in that holds parameters of the same
names, shapes and marks, on the CPU, so that its own reading, converting and writing run unchanged. One process, gloo.
Prints one JSON object: seconds of loading and of saving, without imports.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

COLUMN, ROW, WHOLE = 0, 1, None
"""Along which dimension Megatron cuts a parameter over tensor-parallel ranks."""


def stand_in(config: Any, dtype: Any) -> Any:
    """A module with the parameters of Megatron's dense decoder under the names of its Transformer Engine layers."""
    import torch

    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    hidden, wide = config.hidden_size, config.intermediate_size
    layer = {
        "self_attention.linear_proj.weight": ((hidden, queries), ROW),
        "self_attention.linear_qkv.layer_norm_weight": ((hidden,), WHOLE),
        "self_attention.linear_qkv.weight": ((queries + 2 * keys, hidden), COLUMN),
        "mlp.linear_fc1.layer_norm_weight": ((hidden,), WHOLE),
        "mlp.linear_fc1.weight": ((2 * wide, hidden), COLUMN),
        "mlp.linear_fc2.weight": ((hidden, wide), ROW),
    }
    if config.model_type == "qwen3":
        layer |= dict.fromkeys(
            ("self_attention.q_layernorm.weight", "self_attention.k_layernorm.weight"), ((head_dim,), WHOLE)
        )
    if config.model_type == "qwen2":
        layer["self_attention.linear_qkv.bias"] = ((queries + 2 * keys,), COLUMN)
    shapes = {"embedding.word_embeddings.weight": ((config.vocab_size, hidden), COLUMN)}
    for number in range(config.num_hidden_layers):
        shapes |= {f"decoder.layers.{number}.{name}": shape for name, shape in layer.items()}
    shapes["decoder.final_layernorm.weight"] = ((hidden,), WHOLE)
    if not config.tie_word_embeddings:
        shapes["output_layer.weight"] = ((config.vocab_size, hidden), COLUMN)
    root = torch.nn.Module()
    root.decoder = torch.nn.Module()
    root.decoder.layers = torch.nn.ModuleList(torch.nn.Module() for _ in range(config.num_hidden_layers))
    for number, block in enumerate(root.decoder.layers, start=1):
        block.layer_number = number  # type: ignore[assignment]
    for name, (shape, split) in shapes.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            module = module._modules[part]  # type: ignore[assignment]
        parameter = torch.nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False)
        if split is not None:
            parameter.tensor_model_parallel, parameter.partition_dim = True, split  # type: ignore[attr-defined]
        module.register_parameter(last, parameter)
    root.config = config  # type: ignore[assignment]
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs both ways and prints the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hf", type=Path, required=True, help="folder of a dense Qwen2.5 or Qwen3 model in bf16")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--memory-efficient", action="store_true", help="tensor by tensor, as mbridge offers")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    import torch
    import torch.distributed as dist
    from mbridge import AutoBridge
    from megatron.core import parallel_state

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    bridge = AutoBridge.from_pretrained(str(options.hf))
    model = stand_in(bridge.hf_config, torch.bfloat16)
    began = time.perf_counter()
    bridge.load_weights([model], str(options.hf), memory_efficient=options.memory_efficient)
    loaded = time.perf_counter()
    options.out.mkdir(parents=True)
    bridge.save_weights([model], str(options.out), memory_efficient=options.memory_efficient)
    os.sync()
    saved = time.perf_counter()
    result = {
        "load_seconds": loaded - began,
        "save_seconds": saved - loaded,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {name: metadata.version(name) for name in ("mbridge", "megatron-core", "transformers", "torch")},
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
