"""Model folders as a hub gives them: weights, config, tokenizer files, template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import get_preset
from tools.make_tiny_checkpoint import write_tiny_checkpoint

COMPANION_TEXTS = {
    "tokenizer.json": '{ "version": "1.0",  "a": "é" }',
    "tokenizer_config.json": '{"model_max_length": 128}\n',
    "special_tokens_map.json": "{}",
    "generation_config.json": '{"temperature": 0.7}',
    "chat_template.jinja": "{% for m in messages %}{{ m.content }}\r\n{% endfor %}",
    "additional_chat_templates/tool.jinja": "tool",
}


def small(preset: str, **changes: object) -> ModelShape:
    return get_preset(preset).model_copy(update={"num_layers": 2, "vocab_size": 51, **changes})


@pytest.fixture
def hub_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder with all that stands beside the weights."""

    def write(shape: ModelShape, dtype: Literal["float32", "bfloat16"] = "float32") -> Path:
        folder = tmp_path / "hub"
        write_tiny_checkpoint(shape, folder, seed=5, dtype=dtype)
        for name, text in COMPANION_TEXTS.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(text.encode())
        return folder

    return write
