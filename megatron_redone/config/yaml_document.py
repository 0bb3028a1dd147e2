"""YAML as configurations use it: sections that know their lines, no duplicate keys, scalars of YAML 1.2.

Departures from PyYAML's defaults (YAML 1.1): `5e-6` is a float; `yes`, `no`, `on`, `off` are strings; `010`
is ten, dates are strings, and keys are always strings. Beyond YAML 1.2, whole numbers may be grouped as in Python:
`120_000`.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from megatron_redone.common.errors import ConfigError

_CORE_SCALARS: list[tuple[str, str, str]] = [
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
]

Resolvers = dict[str, list[tuple[str, re.Pattern[str]]]]


def _resolvers() -> Resolvers:
    table: Resolvers = {}
    for name, pattern, first_characters in _CORE_SCALARS:
        for character in first_characters:
            entry = (f"tag:yaml.org,2002:{name}", re.compile(rf"(?:{pattern})\Z"))
            table.setdefault("" if character == "\0" else character, []).append(entry)
    return table


class Section(dict[str, Any]):
    """A mapping read from YAML; `origins[key]` says where the key stands (`recipe.yaml:12`)."""

    def __init__(self) -> None:
        super().__init__()
        self.origins: dict[str, str] = {}

    def put(self, key: str, value: Any, origin: str) -> None:
        """Sets `key` and where it comes from."""
        self[key] = value
        self.origins[key] = origin


class _Loader(yaml.SafeLoader):
    origin = ""
    counts_lines = True

    def section(self, node: yaml.MappingNode) -> Section:
        """The mapping of `node`, with its children; refuses a key that stands twice."""
        self.refuse_duplicates(node)
        self.flatten_mapping(node)
        section = Section()
        for key_node, value_node in node.value:
            origin = f"{self.origin}:{key_node.start_mark.line + 1}" if self.counts_lines else self.origin
            section.put(key_text(key_node), self.construct_object(value_node, deep=True), origin)
        return section

    def refuse_duplicates(self, node: yaml.MappingNode) -> None:
        first_lines: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = key_text(key_node), key_node.start_mark.line + 1
            if key in first_lines:
                first = f" (first in line {first_lines[key]})" if self.counts_lines else ""
                problem = f"the key {key!r} stands twice{first}; keep one"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            first_lines[key] = line

    def integer(self, node: yaml.ScalarNode) -> int:
        """An integer; unlike YAML 1.1, a leading zero does not make it octal."""
        text = str(self.construct_scalar(node))
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.yaml_implicit_resolvers = _resolvers()
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.section)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)


def key_text(node: yaml.Node) -> str:
    """A key as it was written; a list or a mapping cannot be one."""
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, "a key must be a word", node.start_mark)
    return str(node.value)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would not read back as the same string."""


_Dumper.yaml_implicit_resolvers = {
    character: [*yaml.SafeDumper.yaml_implicit_resolvers.get(character, []), *_resolvers().get(character, [])]
    for character in {*yaml.SafeDumper.yaml_implicit_resolvers, *_resolvers()}
}


def read_document(text: str, origin: str, counts_lines: bool = True) -> Any:
    """The value of a YAML text.

    Args:
        text: one YAML document.
        origin: what errors call it: a file name, or the override that the text is part of.
        counts_lines: adds the line to the origin of each key.

    Raises:
        ConfigError: not YAML, or a key stands twice; names file, line and column.
    """
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        where = f"{origin}:{text.count(chr(10), 0, error.position) + 1}" if counts_lines else origin
        raise ConfigError(
            [f"{where}: the character U+{error.character:04X} cannot stand in YAML; remove it"]
        ) from error
    loader.origin, loader.counts_lines = origin, counts_lines
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark and counts_lines else origin
        raise ConfigError([f"{where}: not valid YAML: {error.problem or error.context}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{origin}: nested too deeply; a configuration has a few levels"]) from error
    finally:
        loader.dispose()


def write_document(value: Any) -> str:
    """YAML text of plain values, in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
