"""The files of a tokenizer folder and what both kinds of tokenizer read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError

CONFIG_FILE = "tokenizer_config.json"
SENTENCEPIECE_FILE = "tokenizer.model"
HUGGINGFACE_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"


def read_config(folder: Path) -> dict[str, Any]:
    """The tokenizer_config.json of a folder; empty where there is none.

    Raises:
        DataError: the file is no JSON object.
    """
    path = folder / CONFIG_FILE
    return json_object(path.read_bytes(), str(path)) if path.is_file() else {}


def json_object(content: bytes, where: str) -> dict[str, Any]:
    """Decodes a file that has to hold one JSON object.

    Raises:
        DataError: it does not.
    """
    try:
        value = json.loads(content)
    except ValueError as error:  # bad JSON or bad UTF-8
        raise DataError(f"{where}: not JSON ({error}); the file is damaged, copy it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: a {type(value).__name__}, expected a JSON object")
    return value


def template_of_config(config: Mapping[str, Any], where: str) -> str | None:
    """The `chat_template` of a config: one text, or the one called "default" of a list of named ones.

    Raises:
        DataError: another type, or a list without a default.
    """
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {str(item.get("name")): item.get("template") for item in template if isinstance(item, dict)}
        if "default" not in named:
            raise DataError(f'{where}: chat_template lists {sorted(named)} and no "default"; keep one template')
        template = named["default"]
    if template is not None and not isinstance(template, str):
        raise DataError(f"{where}: chat_template is a {type(template).__name__}, expected a string")
    return template
