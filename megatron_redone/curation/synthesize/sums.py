"""Small sums with every step written out."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from megatron_redone.curation.synthesize.texts import ENGLISH, Text, draw_in_split

_SHARE_OF_SINGLE_STEPS = 1 / 3


@dataclass(frozen=True, slots=True)
class Sum:
    """`numbers[0] signs[0] numbers[1] ...`, worked out from the left; no result on the way is below 0."""

    numbers: tuple[int, ...]
    signs: tuple[str, ...]

    @property
    def expression(self) -> str:
        """For example `7 + 5 - 3`."""
        tail = "".join(f" {sign} {number}" for sign, number in zip(self.signs, self.numbers[1:], strict=True))
        return f"{self.numbers[0]}{tail}"

    @property
    def results(self) -> tuple[int, ...]:
        """The running result, from the first number to the answer."""
        values = [self.numbers[0]]
        for sign, number in zip(self.signs, self.numbers[1:], strict=True):
            values.append(values[-1] + number if sign == "+" else values[-1] - number)
        return tuple(values)

    @property
    def answer(self) -> int:
        """The result."""
        return self.results[-1]

    @property
    def steps(self) -> list[str]:
        """For example `["7 + 5 = 12", "12 - 3 = 9"]`."""
        steps = zip(self.results, self.signs, self.numbers[1:], self.results[1:], strict=False)
        return [f"{before} {sign} {number} = {after}" for before, sign, number, after in steps]

    def question(self, language: str) -> str:
        """The sum as a question."""
        return f"what is {self.expression}?" if language == ENGLISH else f"{self.expression}等于多少？"

    def rationale(self, language: str) -> str:
        """The steps, one behind the other."""
        return (", " if language == ENGLISH else "，").join(self.steps)


def draw_sum(random: Random, split: str) -> Sum:
    """A sum of the split: one step in a third of the draws, otherwise two."""
    return draw_in_split(_any_sum, lambda drawn: Text(drawn.expression, drawn.expression), random, split)


def _any_sum(random: Random) -> Sum:
    while True:
        num_steps = 1 if random.random() < _SHARE_OF_SINGLE_STEPS else 2
        numbers = tuple(random.randint(1, 9) for _ in range(num_steps + 1))
        drawn = Sum(numbers, tuple(random.choice("+-") for _ in numbers[1:]))
        if min(drawn.results) >= 0:
            return drawn
