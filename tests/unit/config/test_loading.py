from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, strategies as st
from pydantic import Field, ValidationError

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.base import StrictModel
from megatron_redone.config.loading import apply_overrides, dump_yaml, load_yaml, merge_sections, validate


class Optimizer(StrictModel):
    lr: float = Field(1e-4, gt=0)
    """Peak learning rate. Reached after the warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.95)


class Pretrain(StrictModel):
    kind: Literal["pretrain"]
    corpus: Path
    """Text to learn from, one JSON object a line."""
    optimizer: Optimizer = Optimizer()
    micro_batch_size: int = 4
    global_batch_size: int = 16

    def rule_violations(self) -> Iterator[str]:
        if self.global_batch_size % self.micro_batch_size:
            yield f"global_batch_size={self.global_batch_size} does not divide by {self.micro_batch_size}"
        if self.micro_batch_size > 8:
            yield f"micro_batch_size={self.micro_batch_size} is more than 8; use 8"


class Tune(StrictModel):
    kind: Literal["tune"]
    weights: dict[str, float] = Field(default_factory=dict)
    best_of: int | bool = 8


class Recipe(StrictModel):
    seed: int
    note: str = ""
    stages: dict[str, Annotated[Pretrain | Tune, Field(discriminator="kind")]] = Field(default_factory=dict)
    arms: tuple[Optimizer, ...] = ()
    extra: Optimizer | bool | None = None


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(tmp_path: Path, text: str, overrides: tuple[str, ...] = ()) -> list[str]:
    """The problems of a recipe, with the folder cut off."""
    file = write(tmp_path / "r.yaml", text)
    with pytest.raises(ConfigError) as caught:
        validate(Recipe, apply_overrides(load_yaml(file), overrides), str(file))
    return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def load_problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_yaml(write(tmp_path / "r.yaml", text))
    (problem,) = caught.value.problems
    return problem.replace(f"{tmp_path}/", "")


def test_all_problems_of_a_file_are_listed_at_once_in_its_order(tmp_path: Path) -> None:
    text = """\
stages:
  cpt:
    kind: pretrain
    optimizer:
      lr: -5e-6
      schedul: linear
      schedule: cosin
      betas: [0.9, x]
  sft:
    kind: tune
    weights: {a: "3"}
    completely_different: 1
  broken: {kind: tun}
  empty: {}
  wrong: 3
sed: 1
"""
    assert problems_of(tmp_path, text) == [
        "r.yaml:2: stages.cpt.corpus is missing: it has no default; add it "
        "(Text to learn from, one JSON object a line)",
        "r.yaml:5: stages.cpt.optimizer.lr = -5e-06: must be greater than 0; "
        "change it, or leave it out for 0.0001 (Peak learning rate)",
        "r.yaml:6: stages.cpt.optimizer.schedul: unknown key 'schedul'; did you mean 'schedule'?",
        "r.yaml:7: stages.cpt.optimizer.schedule = \"cosin\": must be 'constant', 'linear' or 'cosine'; "
        "did you mean 'cosine'?",
        'r.yaml:8: stages.cpt.optimizer.betas.1 = "x": must be a number; change it',
        'r.yaml:11: stages.sft.weights.a = "3": must be a number; change it',
        "r.yaml:12: stages.sft.completely_different: unknown key 'completely_different'; "
        "known here: best_of, kind, weights",
        "r.yaml:13: stages.broken.kind = \"tun\": no such kind; did you mean 'tune'?",
        "r.yaml:14: stages.empty.kind is missing: it says the kind of section; add it",
        "r.yaml:15: stages.wrong = 3: must be a section (`key: value` lines); change it",
        "r.yaml:16: sed: unknown key 'sed'; did you mean 'seed'?",
        "r.yaml: seed is missing: it has no default; add it",
    ]


def test_every_broken_rule_between_fields_is_listed_at_the_line_of_its_field(tmp_path: Path) -> None:
    stage = "  cpt:\n    kind: pretrain\n    corpus: c\n    global_batch_size: 16\n    micro_batch_size: 9\n"
    assert problems_of(tmp_path, f"seed: 1\nstages:\n{stage}") == [
        "r.yaml:6: stages.cpt: global_batch_size=16 does not divide by 9",
        "r.yaml:7: stages.cpt: micro_batch_size=9 is more than 8; use 8",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seed: true", "seed = true: must be a whole number; change it"),
        ('seed: "1"', 'seed = "1": must be a whole number; change it'),
        ("seed: 1e3", "seed = 1000.0: must be a whole number; write 1000"),
        ("seed: 1\nnote: 3", 'note = 3: must be a text; change it, or leave it out for ""'),
        ("seed: 1\nextra: yes", 'extra = "yes": must be a section (`key: value` lines) or true or false; '),
        ("seed: 1\nextra: {lr: .nan}", "extra.lr = NaN: must be a finite number; "),
        ("seed: 1\nextra: {lr: -1}", "extra.lr = -1: must be greater than 0; "),
        ("seed: 1\narms: {a: 1}", 'arms = {"a": 1}: must be a list; '),
        ("seed: 1\narms: [{}, {lr: no}]", 'arms.1.lr = "no": must be a number; '),
        (
            "seed: 1\nstages: {t: {kind: tune, best_of: x}}",
            'stages.t.best_of = "x": must be a whole number or true',
        ),
    ],
)
def test_types_are_strict(tmp_path: Path, line: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, line)
    assert problem.partition(": ")[2].startswith(expected)


def test_a_problem_of_an_override_names_the_override(tmp_path: Path) -> None:
    text = "seed: 1\narms: [{lr: 1.0}]\n"
    assert problems_of(tmp_path, text, ("arms.0.lr=-1", "extra.lrr=3", "sed=3")) == [
        "override 'arms.0.lr=-1': arms.0.lr = -1: must be greater than 0; "
        "change it, or leave it out for 0.0001 (Peak learning rate)",
        "override 'extra.lrr=3': extra.lrr: unknown key 'lrr'; did you mean 'lr'?",
        "override 'sed=3': sed: unknown key 'sed'; did you mean 'seed'?",
    ]


def test_values_without_lines_are_reported_under_the_source() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Recipe, {"seed": 1, "extra": {"lr": 0.0}}, "the test")
    assert caught.value.problems[0].startswith("the test: extra.lr = 0.0: must be greater than 0")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["a.b=3"], {"a": {"b": 3, "c": [1, {"d": 2}]}, "e": None}),
        (["a.c.1.d=5e-6"], {"a": {"b": 1, "c": [1, {"d": 5e-6}]}, "e": None}),
        (["a.c.0=x=y"], {"a": {"b": 1, "c": ["x=y", {"d": 2}]}, "e": None}),
        (["e.f.g=[1, {h: true}]"], {"a": {"b": 1, "c": [1, {"d": 2}]}, "e": {"f": {"g": [1, {"h": True}]}}}),
        (["a={b: 2}", "a.c="], {"a": {"b": 2, "c": None}, "e": None}),
    ],
)
def test_overrides_set_values_in_a_copy(overrides: list[str], expected: dict[str, Any]) -> None:
    data = {"a": {"b": 1, "c": [1, {"d": 2}]}, "e": None}
    assert apply_overrides(data, overrides) == expected
    assert data == {"a": {"b": 1, "c": [1, {"d": 2}]}, "e": None}


def test_all_overrides_that_cannot_be_applied_are_listed() -> None:
    overrides = ["a", "=3", "a..b=1", "n.x=3", "w.7.a=3", "w.x=4", "a.b=[1", "v={a: 1, a: 2}", "ok=1"]
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"n": 1.5, "w": [1, 2, 3]}, overrides)
    assert caught.value.problems == [
        "override 'a': must be key=value, for example explore.optimizer.lr=3e-6",
        "override '=3': must be key=value, for example explore.optimizer.lr=3e-6",
        "override 'a..b=1': must be key=value, for example explore.optimizer.lr=3e-6",
        "override 'n.x=3': n is 1.5, not a section; 'x' cannot be set in it",
        "override 'w.7.a=3': w is a list of 3; '7' is no place in it (0 to 2)",
        "override 'w.x=4': w is a list of 3; 'x' is no place in it (0 to 2)",
        "override 'a.b=[1': not valid YAML: expected ',' or ']', but got '<stream end>'",
        "override 'v={a: 1, a: 2}': not valid YAML: the key 'a' stands twice; keep one",
    ]


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = "[5e-6, 1., .5, -1E3, 010, 0x1f, 0o17, yes, off, true, ~, '', 2026-01-02, 1_000, 1:30, .inf, '5e-6']"
    values = load_yaml(write(tmp_path / "v.yaml", f"v: {text}\n1: key\nno: key\nempty:"))
    infinity = float("inf")
    assert values["v"] == [
        *(5e-6, 1.0, 0.5, -1000.0, 10, 31, 15, "yes", "off", True, None, ""),
        *("2026-01-02", 1000, "1:30", infinity, "5e-6"),
    ]
    assert {key: value for key, value in values.items() if key != "v"} == {
        "1": "key",
        "no": "key",
        "empty": None,
    }


def test_whole_numbers_may_be_grouped_by_single_underscores(tmp_path: Path) -> None:
    text = "[120_000, -1_0, +2_000_000, 1__0, _1, 1_, 1_0.5, 0x1_f, '1_0', a_1]"
    values = load_yaml(write(tmp_path / "v.yaml", f"v: {text}"))["v"]
    assert values == [120_000, -10, 2_000_000, "1__0", "_1", "1_", "1_0.5", "0x1_f", "1_0", "a_1"]
    assert apply_overrides({}, ["steps=3_000"]) == {"steps": 3000}


def test_a_text_that_looks_like_a_grouped_number_is_written_in_quotes(tmp_path: Path) -> None:
    recipe = Recipe(seed=1, note="1_000")
    read = load_yaml(write(tmp_path / "r.yaml", dump_yaml(recipe)))
    assert validate(Recipe, read, "r.yaml") == recipe


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = "base: &base {lr: 1.0, schedule: linear}\narms:\n  - <<: *base\n    lr: 2.0\n"
    assert load_yaml(write(tmp_path / "r.yaml", text))["arms"] == [{"lr": 2.0, "schedule": "linear"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: 1\nb:\n  c: 1\n  c: 2",
            "r.yaml:4:3: not valid YAML: the key 'c' stands twice (first in line 3)",
        ),
        ("a: [1\nb: 2", "r.yaml:2:2: not valid YAML: "),
        ("\ta: 1", "r.yaml:1:1: not valid YAML: "),
        (
            "a: 1\nb: !!python/name:os.system x",
            "r.yaml:2:4: not valid YAML: could not determine a constructor",
        ),
        ("a: &x [*x]", "r.yaml:1:4: not valid YAML: found unconstructable recursive node"),
        ("a:\n  ? [1]\n  : 2", "r.yaml:2:5: not valid YAML: a key must be a word"),
        ("a: 1\n---\nb: 2", "r.yaml:2:1: not valid YAML: "),
        ("a: 1\nb: \0", "r.yaml:2: the character U+0000 cannot stand in YAML; remove it"),
        ("a: " + "[" * 3000, "r.yaml: nested too deeply"),
        ("- 1", "r.yaml: the file is a list; a configuration is a mapping"),
        ("", "r.yaml: the file is empty; a configuration is a mapping"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    assert load_problem(tmp_path, text).startswith(expected)


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file; check the path"):
        load_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("note: Käse".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 at byte 7"):
        load_yaml(tmp_path / "latin.yaml")


def test_merged_sections_keep_their_lines(tmp_path: Path) -> None:
    defaults = load_yaml(write(tmp_path / "base.yaml", "lr: 1.0\nbetas: [0.9, 0.99]\n"))
    own = load_yaml(write(tmp_path / "own.yaml", "# the stage's own\n\nlr: -1.0\n"))
    merged = merge_sections({"extra": defaults, "seed": 1}, {"extra": own})
    assert merged == {"extra": {"lr": -1.0, "betas": [0.9, 0.99]}, "seed": 1}
    assert (defaults["lr"], own) == (1.0, {"lr": -1.0})
    with pytest.raises(ConfigError, match=r"own\.yaml:3: extra\.lr = -1\.0: must be greater than 0"):
        validate(Recipe, merged, "merged")


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12) | st.sampled_from(
    [
        "5e-6",
        "yes",
        "off",
        "null",
        "~",
        "010",
        "1_0",
        "0o7",
        "1:30",
        "2026-01-02",
        "",
        " a ",
        "<<",
        "=",
        "*x",
        "词",
    ]
)


@given(
    seed=st.integers(),
    note=texts,
    lr=st.floats(min_value=1e-300, allow_nan=False, allow_infinity=False),
    weights=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
def test_the_resolved_configuration_reads_back_as_equal(
    tmp_path_factory: pytest.TempPathFactory, seed: int, note: str, lr: float, weights: dict[str, float]
) -> None:
    stages: dict[str, Pretrain | Tune] = {
        "a": Tune(kind="tune", weights=weights),
        "b": Pretrain(kind="pretrain", corpus=Path("c") / "d.jsonl"),
    }
    recipe = Recipe(seed=seed, note=note, stages=stages, arms=(Optimizer(lr=lr),))
    file = write(tmp_path_factory.mktemp("dump") / "resolved.yaml", dump_yaml(recipe))
    assert validate(Recipe, load_yaml(file), "resolved") == recipe


def test_the_dump_holds_every_default_in_the_order_of_the_fields() -> None:
    assert dump_yaml(Optimizer()) == "lr: 0.0001\nschedule: cosine\nbetas:\n- 0.9\n- 0.95\n"


def test_sections_are_frozen_and_closed() -> None:
    optimizer = Optimizer()
    with pytest.raises(ValidationError, match="frozen"):
        optimizer.lr = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Optimizer.model_validate({"learning_rate": 1.0})
    assert Optimizer.model_fields["lr"].description == "Peak learning rate. Reached after the warm-up."
