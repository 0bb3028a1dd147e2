"""Cases of the layout proof in one line, and back."""

from __future__ import annotations

import pytest

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.verification.cases import all_cases, chosen_cases, parse_case
from megatron_redone.verification.faults import FAULTS


def test_a_line_gives_its_case_back() -> None:
    for case in [*chosen_cases(), *all_cases()]:
        assert parse_case(case.line) == case


def test_the_line_says_what_differs_from_the_defaults() -> None:
    case = parse_case("qwen3_moe tp=2,ep=2,dp=4 objective=dapo microbatches=2")
    assert case.line == "qwen3_moe tp=2,ep=2,dp=4 objective=dapo"
    assert case.world_size == 8


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("qwen3", InputError, "a case is written FAMILY LAYOUT"),
        ("qwen3 tp", InputError, "a case is written FAMILY LAYOUT"),
        ("qwen3 tp=2 dapo", InputError, "a case is written FAMILY LAYOUT"),
        ("qwen4 tp=2", ConfigError, "did you mean 'qwen3'?"),
        ("qwen3 tp=2,ccp=2", ConfigError, "did you mean 'cp'?"),
        ("qwen3 tp=3", ConfigError, "num_heads=8 is not divisible by parallel.tp=3"),
        ("qwen3 ep=2,dp=2", ConfigError, "parallel.ep=2 with a dense qwen3 model"),
        ("qwen3_moe tp=2", ConfigError, "their gradients would be wrong"),
        ("qwen3 vpp=2", ConfigError, "parallel.vpp=2 needs pipeline stages"),
        ("qwen3 dp=2 aux_loss=0.1", ConfigError, "it has no experts"),
        ("qwen3 dp=2 objective=dpo labels=one", ConfigError, "every answer of a pair needs a label"),
        ("qwen3 dp=2,distributed_optimizer=true,precision=fp64", ConfigError, "hold fp32 states"),
    ],
)
def test_a_case_that_cannot_be_is_told(line: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said.replace("?", r"\?").replace("*", r"\*")):
        parse_case(line)


def test_every_fault_stands_beside_a_case() -> None:
    assert all(parse_case(fault.case).world_size == 2 for fault in FAULTS.values())
