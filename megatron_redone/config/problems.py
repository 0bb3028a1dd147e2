"""Turns pydantic's errors into sentences: where, dotted path, value, rule, remedy."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from megatron_redone.config.base import RuleViolations

MAX_VALUE_CHARACTERS = 60


@dataclass(frozen=True)
class _Place:
    """Where an error stands: the path in the data, its origin, and what the model says about it."""

    path: tuple[str | int, ...]
    origin: str
    value: Any
    field: FieldInfo | None
    known_keys: tuple[str, ...]
    """Fields of the section that should hold the last key of the path."""
    in_union: bool
    """The error belongs to one of several types that the value may have."""

    @property
    def dotted(self) -> str:
        """The path as an override writes it."""
        return ".".join(str(part) for part in self.path)


def explain(
    model_class: type[BaseModel], data: Mapping[str, Any], errors: Sequence[ErrorDetails], source: str
) -> list[str]:
    """One sentence a problem, in the order of the file as far as lines are known.

    A value that fits none of several allowed types gives one problem, not one for each type.
    """
    places = [(_find_place(model_class, data, error, source), error) for error in errors]
    problems: list[str] = []
    for place, error in places:
        if not place.in_union or error["type"] == "value_error":
            problems.extend(_describe(place, error))
        elif not any(_shape_fits(place, other, found) for other, found in places):
            same = [found for other, found in places if other.in_union and other.path == place.path]
            if error is same[0]:
                rule = "must be " + " or ".join(_rule_of(found).removeprefix("must be ") for found in same)
                problems.append(_sentence(place, rule, _remedy_of(place, error)))
    return sorted(problems, key=_line_order)


def _shape_fits(place: _Place, other: _Place, error: ErrorDetails) -> bool:
    """Whether `other` shows that the value has the shape of one of its types, whose problems are reported."""
    deeper = len(other.path) > len(place.path) and other.path[: len(place.path)] == place.path
    return deeper or (other.path == place.path and error["type"] == "value_error")


def _line_order(problem: str) -> tuple[str, int]:
    """Sorts by file and line; problems without a line keep their order at the end of their source."""
    match = re.match(r"(.*?):(\d+): ", problem)
    return (match[1], int(match[2])) if match else (problem.partition(": ")[0], 1 << 30)


def _find_place(model_class: type[BaseModel], data: Any, error: ErrorDetails, source: str) -> _Place:
    """Follows an error's location through the data and the model together.

    The parts of it that name a member of a union are in neither.
    """
    annotation: Any = model_class
    field: FieldInfo | None = None
    known_keys: tuple[str, ...] = ()
    path: list[str | int] = []
    origin, value, in_union = source, data, False
    for part in error["loc"]:
        annotation, members = unwrap(annotation)
        if len(members) > 1:
            annotation, in_union = _member_called(members, str(part)), True
            continue
        in_union = False
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        known_keys = tuple(annotation.model_fields) if is_model else ()
        field = annotation.model_fields.get(str(part)) if is_model else None
        annotation = field.annotation if field else _element_of(annotation, part)
        path.append(part)
        if isinstance(value, Mapping) and part in value:
            origin = getattr(value, "origins", {}).get(part, origin)
            value = value[str(part)]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            value = None
    return _Place(tuple(path), origin, value, field, known_keys, in_union)


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The annotation without Annotated and without None, and the types it allows."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, (annotation,)
    members = tuple(member for member in get_args(annotation) if member is not type(None))
    return unwrap(members[0]) if len(members) == 1 else (annotation, members)


def _member_called(members: tuple[Any, ...], tag: str) -> Any:
    """The member of a union that pydantic calls `tag` (a discriminator's value, a class name), or None."""
    for member in members:
        bare, _ = unwrap(member)
        if not (isinstance(bare, type) and issubclass(bare, BaseModel)):
            continue
        literals = [get_args(f.annotation) for f in bare.model_fields.values() if get_origin(f.annotation) is Literal]
        if any(tag in values for values in literals) or re.search(rf"\b{bare.__name__}\b", tag):
            return bare
    return None


def _element_of(annotation: Any, part: str | int) -> Any:
    """The type of a list's, tuple's or mapping's element."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not arguments or not isinstance(origin, type):
        return None
    if issubclass(origin, Mapping):
        return arguments[1]
    if issubclass(origin, tuple) and Ellipsis not in arguments:
        return arguments[part] if isinstance(part, int) and part < len(arguments) else None
    return arguments[0]


def _describe(place: _Place, error: ErrorDetails) -> list[str]:
    """The sentences for one error; a section that breaks several rules gives several."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return [f"{place.origin}: {place.dotted} is missing: it has no default; add it{_doc_of(place.field)}"]
    if kind == "extra_forbidden":
        hint = _suggestion(str(place.path[-1]), place.known_keys)
        return [f"{place.origin}: {place.dotted}: unknown key {str(place.path[-1])!r}; {hint}"]
    if kind == "value_error":
        cause = context.get("error")
        messages = cause.problems if isinstance(cause, RuleViolations) else [str(cause)]
        return [_broken_rule(place, message) for message in messages]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key = str(context["discriminator"]).strip("'")
        if kind == "union_tag_not_found":
            return [f"{place.origin}: {place.dotted}.{key} is missing: it says the kind of section; add it"]
        options = re.findall(r"'([^']*)'", str(context["expected_tags"]))
        origin = getattr(place.value, "origins", {}).get(key, place.origin)
        hint = _suggestion(str(context["tag"]), options)
        return [f"{origin}: {place.dotted}.{key} = {_show(context['tag'])}: no such kind; {hint}"]
    return [_sentence(place, _rule_of(error), _remedy_of(place, error))]


def _broken_rule(place: _Place, message: str) -> str:
    """A rule between fields; if the message starts with `field=`, the place is that field's."""
    match = re.match(r"(\w+)=", message)
    origins = getattr(place.value, "origins", {})
    origin = origins.get(match[1], place.origin) if match else place.origin
    return f"{origin}: {place.dotted}: {message}" if place.path else f"{origin}: {message}"


def _sentence(place: _Place, rule: str, remedy: str) -> str:
    return f"{place.origin}: {place.dotted or 'the whole'} = {_show(place.value)}: {rule}; {remedy}"


def _rule_of(error: ErrorDetails) -> str:
    """What the value must be."""
    special = {
        "model_type": "must be a section (`key: value` lines)",
        "model_attributes_type": "must be a section (`key: value` lines)",
        "dict_type": "must be a section (`key: value` lines)",
        "bool_type": "must be true or false",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "string_type": "must be a text",
        "list_type": "must be a list",
        "tuple_type": "must be a list",
        "path_type": "must be a path",
    }
    message = error["msg"].replace("Input should be", "must be")
    return special.get(error["type"], message[:1].lower() + message[1:])


def _remedy_of(place: _Place, error: ErrorDetails) -> str:
    """What to write instead."""
    if error["type"] == "literal_error":
        return _suggestion(str(place.value), re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", ""))))
    if error["type"] == "int_type" and isinstance(place.value, float) and place.value.is_integer():
        return f"write {int(place.value)}"
    if place.field is None or place.field.is_required() or place.field.default_factory is not None:
        return f"change it{_doc_of(place.field)}"
    return f"change it, or leave it out for {_show(place.field.default)}{_doc_of(place.field)}"


def _suggestion(word: str, known: Sequence[str]) -> str:
    """The nearest known word, or all of them."""
    nearest = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if nearest:
        return f"did you mean {nearest[0]!r}?"
    return "known here: " + (", ".join(sorted(known)) if known else "nothing")


def _doc_of(field: FieldInfo | None) -> str:
    """The first sentence of a field's doc in brackets."""
    if field is None or not field.description:
        return ""
    first = re.split(r"(?<=[.!?])\s", field.description.strip(), maxsplit=1)[0]
    return f" ({' '.join(first.split()).rstrip('.')})"


def _show(value: Any) -> str:
    """A value as it would stand in the file, cut when long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 3] + "..."
