"""`redone serve`: a rollout server until it is told to stop."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import get_logger
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.generation.config import GenerationConfig

LOG = get_logger("serve")


def serve(
    model: Path,
    host: str,
    port: int,
    transfer_folder: Path | None,
    ready_file: Path | None,
    overrides: Sequence[str],
    allow_broadcast: bool = False,
) -> None:
    """Starts vLLM with the model's weights and answers until SIGTERM or Ctrl-C.

    Args:
        overrides: `key=value` of the section `generation`.
        allow_broadcast: join broadcasts of weights that a job asks for.
        ready_file: gets `{"url": ..., ...}` when the server answers.
    """
    data: dict[str, Any] = {"engine": "vllm", "max_new_tokens": 1024}
    config = validate(GenerationConfig, apply_overrides(data, overrides), "settings")
    from megatron_redone.checkpoint.hf_config import read_config
    from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
    from megatron_redone.data.tokenizer import load_tokenizer
    from megatron_redone.data.tokenizer_files import HUGGINGFACE_FILE, SENTENCEPIECE_FILE
    from megatron_redone.generation.vllm_core import VLLMCore
    from megatron_redone.generation.vllm_server import RolloutServer
    from megatron_redone.models.families import read_shape

    settings = read_config(model)
    has_tokenizer = any((model / name).is_file() for name in (HUGGINGFACE_FILE, SENTENCEPIECE_FILE))
    tokenizer = load_tokenizer(model).fingerprint if has_tokenizer else None
    core = VLLMCore(config, read_shape(model), _stored_dtype(settings))
    tensors = SafetensorsFolder(model)
    core.receive(((name, tensors[name]) for name in tensors), version=0)
    tensors.close()
    server = RolloutServer(core, tokenizer, transfer_folder, host, port, allow_broadcast)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    LOG.info("serving %s at %s", model, server.url)
    if ready_file is not None:
        atomic_write_json(ready_file, {"url": server.url, **json.loads(server.info().model_dump_json())})
    server.serve()


def _stored_dtype(settings: dict[str, Any]) -> Any:
    import torch

    name = str(settings.get("dtype") or settings.get("torch_dtype") or "float32").removeprefix("torch.")
    return {"bfloat16": torch.bfloat16}.get(name, torch.float32)
