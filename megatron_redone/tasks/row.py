"""A row of a task and its JSON form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from megatron_redone.common.errors import DataError


@dataclass(frozen=True)
class Row:
    """One question and its gold answer.

    Attributes:
        id: unique in its file.
        task: name of the task.
        language: language of the prompt, `en` or `zh`.
        fields: what the task's template shows and its scorer needs; JSON values.
        answer: the gold answer in the kind the task declares (text, list of texts, integer, number).
        rationale: the thought that leads to the answer, without tags; None for a row without one.
        source: where the row comes from.
        weight: sampling weight, > 0.
    """

    id: str
    task: str
    language: str
    fields: Mapping[str, Any]
    answer: Any
    rationale: str | None = None
    source: str = ""
    weight: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object; `from_json` gives an equal row back."""
        return {
            "id": self.id,
            "task": self.task,
            "language": self.language,
            "fields": dict(self.fields),
            "answer": self.answer,
            "rationale": self.rationale,
            "source": self.source,
            "weight": self.weight,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any], where: str) -> Row:
        """Reads a row; `where` (`file:line`) opens every error message.

        Raises:
            DataError: a key is missing, unknown, or of the wrong type; all such problems in one message.
        """
        problems = _json_problems(value)
        if problems:
            raise DataError(f"{where}: " + "; ".join(problems))
        known = {key: value[key] for key in _ROW_KEYS if key in value}
        known["weight"] = float(known.get("weight", 1.0))
        return Row(**known)


_ROW_KEYS: Mapping[str, tuple[type, ...]] = {
    "id": (str,),
    "task": (str,),
    "language": (str,),
    "fields": (Mapping,),
    "answer": (object,),
    "rationale": (str, type(None)),
    "source": (str,),
    "weight": (int, float),
}
_REQUIRED_KEYS = ("id", "task", "language", "fields", "answer")


def _json_problems(value: Mapping[str, Any]) -> list[str]:
    problems = [f"key {key!r} is missing" for key in _REQUIRED_KEYS if key not in value]
    for key, content in value.items():
        if key not in _ROW_KEYS:
            problems.append(f"unknown key {key!r}{nearest(key, _ROW_KEYS)}")
        elif not isinstance(content, _ROW_KEYS[key]) or (key == "weight" and isinstance(content, bool)):
            expected = " or ".join(kind.__name__ for kind in _ROW_KEYS[key])
            problems.append(f"{key!r} is {type(content).__name__}, expected {expected}")
        elif key in ("id", "task", "language") and not content:
            problems.append(f"{key!r} is empty")
    weight = value.get("weight")
    if isinstance(weight, int | float) and not 0 < weight < math.inf:
        problems.append(f"weight={weight} must be a finite number > 0")
    return problems


def nearest(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
