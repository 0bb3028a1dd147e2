"""The base of every configuration: frozen, no unknown keys, the doc of a field under the field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class RuleViolations(ValueError):
    """The rules between fields that one section breaks; `problems` holds one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class StrictModel(BaseModel):
    """A section of a configuration.

    Fields carry their constraint (`Field(gt=0)`) and, as a string under them, their doc with the unit.
    Rules that tie several fields go into `rule_violations`, which reports all of them, where a validator
    stops at the first. Floats are finite. Read from YAML (`loading.validate`), values are not converted:
    "3" is no number, 1 no boolean.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    def rule_violations(self) -> Iterator[str]:
        """Yields a sentence (value, rule, remedy) for each broken rule between fields of this section.

        A sentence that starts with `field=value` is reported at the line of that field.
        """
        return iter(())

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        problems = list(self.rule_violations())
        if problems:
            raise RuleViolations(problems)
        return self
