"""Constraints as data: read from JSON objects, checked against a text, and made a reward.

A constraint is an object `{"kind": "words", "minimum": 20}`: the kind names a function of
`constraint_checks.py`, the other keys are its settings. Reward kind `pattern` of RedOne 2.0 (section 3.2.2).
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, paired, total
from megatron_redone.scoring.constraint_checks import CHECKS

_LANGUAGES = (
    "en", "zh", "ar", "bg", "bn", "de", "es", "fa", "fi", "fr", "gu", "he", "hi", "it", "ja", "kn", "ko", "ml", "mr",
    "ne", "pa", "pl", "pt", "ru", "sw", "ta", "te", "th", "uk", "ur", "vi",
)  # fmt: skip
_CHOICES = {
    ("paragraphs", "separator"): ("blank_line", "stars"),
    ("sentences", "splitter"): ("marks", "punkt"),
    ("language", "code"): _LANGUAGES,
}


@dataclass(frozen=True)
class Constraint:
    """One constraint of a kind in `CHECKS`, with settings that `constraint_problems` has accepted."""

    kind: str
    settings: Mapping[str, Any]

    def problem(self, text: str) -> str:
        """What is wrong with the text; "" where the constraint is kept."""
        return CHECKS[self.kind](text, **self.settings)


def constraint_of(value: Mapping[str, Any]) -> Constraint:
    """A constraint from its JSON object, which `constraint_problems` has found to be valid."""
    settings = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items() if name != "kind"}
    return Constraint(value["kind"], settings)


def constraint_problems(value: Mapping[str, Any]) -> list[str]:
    """Why the object is no constraint, each in a sentence; empty for a valid one."""
    kind = value.get("kind")
    if kind not in CHECKS:
        near = get_close_matches(str(kind), CHECKS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; kinds are {', '.join(CHECKS)}"
        return [f"{kind!r} is no kind of constraint{hint}"]
    check = CHECKS[kind]
    known = dict(list(inspect.signature(check).parameters.items())[1:])
    types = typing.get_type_hints(check)
    problems = [
        f"constraint {kind!r} lacks {name!r}"
        for name, parameter in known.items()
        if parameter.default is inspect.Parameter.empty and name not in value
    ]
    for name, given in value.items():
        if name == "kind":
            continue
        if name not in known:
            problems.append(f"constraint {kind!r} has no setting {name!r}; it has {', '.join(known) or 'none'}")
        elif message := _type_problem(types[name], given):
            problems.append(f"{name!r} of constraint {kind!r} is {given!r}, expected {message}")
        elif (kind, name) in _CHOICES and given not in _CHOICES[kind, name]:
            problems.append(f"{name!r} of constraint {kind!r} is {given!r}, expected one of {_CHOICES[kind, name]}")
    return problems or _range_problems(kind, value)


def _type_problem(expected: Any, given: Any) -> str:
    if expected is bool:
        return "" if isinstance(given, bool) else "true or false"
    if expected is str:
        return "" if isinstance(given, str) and given.strip() else "a text that is not empty"
    if expected == tuple[str, ...]:
        texts = isinstance(given, list | tuple) and given and all(isinstance(i, str) and i.strip() for i in given)
        return "" if texts else "a list of texts"
    return "" if type(given) is int and given >= 0 else "a whole number >= 0"


def _range_problems(kind: str, value: Mapping[str, Any]) -> list[str]:
    minimum, maximum = value.get("minimum"), value.get("maximum")
    bounds = {"minimum", "maximum"} & inspect.signature(CHECKS[kind]).parameters.keys()
    if bounds and minimum is None and maximum is None:
        return [f"constraint {kind!r} has no bound; give {' or '.join(sorted(bounds))}"]
    if minimum is not None and maximum is not None and minimum > maximum:
        return [f"constraint {kind!r} asks for at least {minimum} and at most {maximum}"]
    if kind == "paragraph_opening" and not 1 <= value["paragraph"] <= value["count"]:
        return [f"constraint {kind!r} names paragraph {value['paragraph']} of {value['count']}"]
    return []


@dataclass(frozen=True)
class KeptConstraints:
    """1 where a text keeps all its constraints, else 0; the aggregate is the share of texts that keep all.

    IFEval calls the aggregate prompt-level accuracy (strict); `instruction_level` gives its other figure.
    """

    name: str = "kept_constraints"

    def score(self, predictions: Sequence[str | None], references: Sequence[Sequence[Constraint]]) -> list[Score]:
        """One score per text and list of constraints; statistics: `all_kept`, `kept`, `asked`, `broken_KIND`."""
        return [_score_constraints(text, constraints) for text, constraints in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The share of texts that keep all their constraints."""
        return total(scores, "all_kept") / len(scores) if scores else 0.0

    def instruction_level(self, scores: Sequence[Score]) -> float:
        """Constraints kept over constraints asked, of all texts."""
        asked = total(scores, "asked")
        return total(scores, "kept") / asked if asked else 0.0


def _score_constraints(text: str | None, constraints: Sequence[Constraint]) -> Score:
    asked = float(len(constraints))
    if text is None:
        statistics = {"all_kept": 0.0, "kept": 0.0, "asked": asked}
        return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
    problems = [(constraint.kind, constraint.problem(text)) for constraint in constraints]
    broken = [(kind, problem) for kind, problem in problems if problem]
    value = float(not broken)
    statistics = {"all_kept": value, "kept": asked - len(broken), "asked": asked}
    statistics |= {f"broken_{kind}": 1.0 for kind, _ in broken}
    return Score(value, parsed=True, statistics=statistics, reason="; ".join(problem for _, problem in broken))
