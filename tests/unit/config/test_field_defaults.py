from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.base import StrictModel
from megatron_redone.config.field_defaults import with_field_defaults
from megatron_redone.config.loading import load_yaml, validate


class Sampling(StrictModel):
    temperature: float = 1.0
    length: int = 64
    stops: tuple[str, ...] = ()


class Labels(StrictModel):
    candidates: int = 8
    sampling: Sampling = Sampling(length=16)


class Judging(StrictModel):
    split: str
    sampling: Sampling = Sampling(temperature=0.0, stops=("end",))


class Stage(StrictModel):
    labels: Labels = Labels(candidates=4, sampling=Sampling(temperature=0.5))
    judging: Judging | None = None
    sampling: Sampling = Sampling()


def stage(**data: Any) -> Stage:
    return validate(Stage, data, "recipe.yaml")


def test_naming_one_key_keeps_the_others_of_the_field() -> None:
    assert stage() == Stage()
    assert stage(labels={"candidates": 2}).labels == Labels(candidates=2, sampling=Sampling(temperature=0.5))
    assert stage(labels={"sampling": {"length": 3}}).labels.sampling == Sampling(temperature=0.5, length=3)
    assert stage(sampling={"length": 3}).sampling == Sampling(length=3)


def test_a_section_without_a_default_keeps_those_of_its_class() -> None:
    judging = stage(judging={"split": "test", "sampling": {"length": 3}}).judging
    assert judging is not None
    assert judging.sampling == Sampling(temperature=0.0, length=3, stops=("end",))
    assert stage(judging=None).judging is None


def test_problems_keep_their_lines_and_nothing_is_changed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("labels:\n  sampling:\n    length: long\n    lenght: 3\n")
    data = load_yaml(path)
    with pytest.raises(ConfigError) as caught:
        validate(Stage, data, str(path))
    first, second = caught.value.problems
    assert first.startswith(f'{path}:3: labels.sampling.length = "long": must be a whole number')
    assert second.startswith(f"{path}:4: labels.sampling.lenght: unknown key 'lenght'; did you mean 'length'?")
    assert data == {"labels": {"sampling": {"length": "long", "lenght": 3}}}
    assert with_field_defaults(Stage, {"sampling": 3}) == {"sampling": 3}
