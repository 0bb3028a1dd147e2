"""From a YAML file and `key=value` overrides to a validated configuration, and back.

    data = load_yaml(path)
    data = apply_overrides(data, ["explore.optimizer.lr=3e-6"])
    config = validate(RecipeConfig, data, source=str(path))
    print(dump_yaml(config))

Every error is a ConfigError that lists all problems found at that step.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.field_defaults import with_field_defaults
from megatron_redone.config.problems import explain
from megatron_redone.config.yaml_document import Section, read_document, write_document

Model = TypeVar("Model", bound=BaseModel)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; its sections remember the line of each key for later errors.

    Raises:
        ConfigError: no such file, not UTF-8, not YAML, a key that stands twice, or not a mapping.
    """
    if not path.is_file():
        raise ConfigError([f"{path}: no such file; check the path"])
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8"]) from error
    value = read_document(text, str(path))
    if not isinstance(value, dict):
        kind = "empty" if value is None else f"a {type(value).__name__}"
        raise ConfigError([f"{path}: the file is {kind}; a configuration is a mapping (`key: value` lines)"])
    return value


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `data` with each `a.b.c=value` set, in order.

    The value is read as YAML (`true`, `3e-6`, `[1, 2]`, `{lr: 1e-4}`; nothing after `=` is null). A number in
    the path is the place in a list, from 0. Sections that do not exist yet are made; whether the key is known
    is for `validate` to say.

    Raises:
        ConfigError: one problem an override that cannot be applied, naming the override.
    """
    result: dict[str, Any] = copy.deepcopy(data if isinstance(data, dict) else dict(data))
    problems: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            problems.append(f"override {override!r}: must be key=value, for example explore.optimizer.lr=3e-6")
            continue
        try:
            value = read_document(text, f"override {override!r}", counts_lines=False)
            _set(result, parts, value, f"override {override!r}")
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return result


def _set(data: dict[str, Any], parts: list[str], value: Any, origin: str) -> None:
    """Sets the value at the path `parts`; makes sections on the way."""
    current: Any = data
    for depth, part in enumerate(parts):
        here, is_last = ".".join(parts[:depth]), depth == len(parts) - 1
        if isinstance(current, list):
            if not part.isdecimal() or int(part) >= len(current):
                rule = f"{here} is a list of {len(current)}; {part!r} is no place in it"
                raise ConfigError([f"{origin}: {rule} (0 to {len(current) - 1})" if current else f"{origin}: {rule}"])
            if is_last:
                current[int(part)] = value
            else:
                current = current[int(part)]
        elif isinstance(current, dict):
            if is_last:
                _put(current, part, value, origin)
            elif current.get(part) is None:
                _put(current, part, Section(), origin)
            current = current[part]
        else:
            raise ConfigError([f"{origin}: {here} is {current!r}, not a section; {part!r} cannot be set in it"])


def _put(section: dict[str, Any], key: str, value: Any, origin: str) -> None:
    if isinstance(section, Section):
        section.put(key, value, origin)
    else:
        section[key] = value


def merge_sections(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` with `own` laid over it, section by section; lists and single values are replaced whole.

    Both stay as they are. The result remembers where each key comes from.
    """
    result = Section()
    for layer in (defaults, own):
        origins = layer.origins if isinstance(layer, Section) else {}
        for key, value in layer.items():
            below = result.get(key)
            both = isinstance(below, Mapping) and isinstance(value, Mapping)
            result[key] = merge_sections(below, value) if both and below is not None else copy.deepcopy(value)
            if key in origins:
                result.origins[key] = origins[key]
    return result


def validate(model_class: type[Model], data: Mapping[str, Any], source: str) -> Model:
    """The configuration that `data` describes.

    Types are strict, as in JSON: a quoted number is no number, 1 no boolean, 2.0 no integer. A section that is given
    in part keeps the rest of its field's default (see `field_defaults.py`).

    Args:
        model_class: usually a StrictModel.
        data: what `load_yaml` and `apply_overrides` return, or plain values of JSON's types.
        source: the name that errors give where `data` does not know its lines.

    Raises:
        ConfigError: all problems at once, each with place, dotted path, value, rule and remedy.
    """
    data = with_field_defaults(model_class, data)
    try:
        return model_class.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise ConfigError(explain(model_class, data, found, source)) from error


def dump_yaml(model: BaseModel) -> str:
    """The whole configuration with every default, as YAML that `load_yaml` and `validate` read back."""
    return write_document(model.model_dump(mode="json"))
