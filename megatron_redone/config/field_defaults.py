"""Sections that are given in part: what they leave out comes from the default of their field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from megatron_redone.config.problems import unwrap
from megatron_redone.config.yaml_document import Section


def with_field_defaults(
    model_class: type[BaseModel], data: Mapping[str, Any], defaults: BaseModel | None = None
) -> Section:
    """`data` with every section below it filled up from its field's default.

    A field may have another default than its class: an evaluation is greedy, `GenerationConfig()` is not. Naming one
    key of such a section must not change the others. A section whose field has no default of its own keeps to the
    defaults of its class. The result remembers where each key comes from.

    Args:
        defaults: the default of the field that holds `data`.
    """
    filled = Section()
    filled.update(data)
    filled.origins.update(getattr(data, "origins", {}))
    for name, field in model_class.model_fields.items():
        default = getattr(defaults, name) if defaults is not None else field.default
        section_class = _section_class(field.annotation)
        if name not in data:
            if defaults is not None:
                filled[name] = defaults.model_dump(mode="json", include={name})[name]
        elif section_class is not None and isinstance(data[name], Mapping):
            own = default if isinstance(default, section_class) else None
            filled[name] = with_field_defaults(section_class, data[name], own)
    return filled


def _section_class(annotation: Any) -> type[BaseModel] | None:
    """The class of a field that holds one section (or nothing); None for other types and choices of classes."""
    bare, members = unwrap(annotation)
    is_section = len(members) == 1 and isinstance(bare, type) and issubclass(bare, BaseModel)
    return bare if is_section else None
