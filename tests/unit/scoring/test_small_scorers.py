"""Short answers, segments, options with reasons, kept terms, subsequences, programs."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import SandboxUnavailableError
from megatron_redone.scoring.kept_terms import KeptTermsTranslation, TermReference
from megatron_redone.scoring.ranking import OrderedF1
from megatron_redone.scoring.reading_options import OptionAgreement
from megatron_redone.scoring.segmentation import SegmentF1, spans
from megatron_redone.scoring.short_answers import AnyMatch, TokenF1, token_f1
from megatron_redone.scoring.text_metrics import BleuChrf
from megatron_redone.scoring.unit_tests import MAX_PROGRAM_CHARACTERS, UnitTests, defined_names, syntax_problem


def test_any_accepted_answer_counts() -> None:
    scorer = AnyMatch()
    scores = scorer.score(["In my opinion.", "in mine", None], [["imo", "in my opinion"]] * 3)
    assert [score.value for score in scores] == [1.0, 0.0, 0.0]
    assert scorer.aggregate(scores) == pytest.approx(1 / 3)


def test_token_f1_is_that_of_the_nearest_accepted_answer() -> None:
    assert token_f1("old fishermen", "fishermen of old") == pytest.approx(2 * 2 / 5)
    assert token_f1("渔民", "老渔民") == pytest.approx(2 * 2 / 5)
    assert token_f1("C++", "c++") == 1.0
    score = TokenF1().score(["by fishermen"], [["sailors", "fishermen"]])[0]
    assert (score.value, score.statistics["exact"]) == (pytest.approx(2 / 3), 0.0)
    assert TokenF1().score([None], [["a"]])[0].parsed is False


@settings(max_examples=50)
@given(st.text(max_size=12), st.text(max_size=12))
def test_token_f1_is_symmetric_and_bounded(first: str, second: str) -> None:
    assert 0.0 <= token_f1(first, second) <= 1.0
    assert token_f1(first, second) == pytest.approx(token_f1(second, first))


def test_segments_count_where_both_ends_are_right() -> None:
    assert spans(["dry", "wool socks"]) == {(0, 3), (3, 12)}
    scores = SegmentF1().score([["干", "袜子推荐"], ["干袜子", "推荐"], None], [["干袜子", "推荐"]] * 3)
    assert [score.value for score in scores] == [0.0, 1.0, 0.0]
    assert SegmentF1().score([["干", "袜子", "推荐"]], [["干袜子", "推荐"]])[0].value == pytest.approx(2 / 5)
    assert SegmentF1().aggregate(scores) == pytest.approx(2 * 2 / (4 + 6))


def options(*names: str) -> dict[str, list[str]]:
    return {"options": list(names)}


def test_option_agreement_is_the_mean_of_its_three_parts() -> None:
    scorer = OptionAgreement()
    predictions = [options("Pier 9"), options(), options("x"), options(), options("The Pier 9", "Ladle"), None]
    references = [options("Pier 9"), options(), options(), options("x"), options("Pier 9", "Ladle"), options("x")]
    scores = scorer.score(predictions, references)
    assert [score.value for score in scores[:4]] == [1.0, 1.0, 0.0, 0.0]
    soft, exact = (6 / 10 + 1) / 2, 1 / 2
    assert scores[4].value == pytest.approx((1 + soft + exact) / 3)
    assert not scores[5].parsed
    assert "where there are none" in scores[2].reason


def test_missing_terms_lower_a_translation() -> None:
    reference = TermReference("Salt baths 😂 @heidi", ("😂", "@heidi"))
    scorer = KeptTermsTranslation("en")
    whole, half, none = scorer.score(["Salt baths 😂 @heidi", "Salt baths 😂", None], [reference] * 3)
    plain = BleuChrf("en").score(["Salt baths 😂"], ["Salt baths 😂 @heidi"])[0].value
    assert whole.value == pytest.approx(1.0)
    assert half.value == pytest.approx(plain / 2)
    assert (half.reason, none.value, none.parsed) == ("1 of 2 terms are missing", 0.0, False)
    assert scorer.score(["Salt"], [TermReference("Salt", ())])[0].value == pytest.approx(1.0)


def test_order_counts_by_the_longest_common_subsequence() -> None:
    scorer = OrderedF1()
    scores = scorer.score([["a", "c", "b"], ["b"], [], None], [["a", "b", "c"]] * 4)
    assert [score.value for score in scores] == [pytest.approx(4 / 6), pytest.approx(2 / 4), 0.0, 0.0]
    assert scorer.aggregate(scores) == pytest.approx(2 * 3 / (4 + 12))


def test_programs_are_run_in_the_sandbox_alone(sandbox_backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    marker = "redone_was_run"
    program = f"import sys\nsys.modules['{marker}'] = sys\nprint('run')\ndef f(): return 1"
    assert syntax_problem(program) == ""
    references = [{"tests": [f"assert f() == {value}"]} for value in (1, 2, 1)]
    scores = UnitTests().score([program, program, None], references)
    assert [(score.value, score.parsed, dict(score.statistics)) for score in scores] == [
        (1.0, True, {"passed": 1.0}),
        (0.0, True, {"passed": 0.0}),
        (0.0, False, {"passed": 0.0}),
    ]
    assert scores[1].reason == "test 1, line 1: AssertionError: "
    assert UnitTests().aggregate(scores) == pytest.approx(1 / 3)
    assert marker not in sys.modules and capsys.readouterr().out == ""


def test_programs_have_no_score_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_redone.scoring.sandbox.pool.problems_of_backend", lambda backend: ("broken",))
    monkeypatch.setattr("megatron_redone.scoring.sandbox.pool._shared", {})
    with pytest.raises(SandboxUnavailableError, match="bubblewrap: broken"):
        UnitTests().score(["def f(): return 1"], [{"tests": ["assert f()"]}])
    score = UnitTests().score([None], [{}])[0]
    assert (score.value, score.parsed) == (0.0, False)
    with pytest.raises(ValueError, match="references"):
        UnitTests().score([], [{}])


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("def f(:", "line 1"),
        ("", "no statement"),
        ("# nothing", "no statement"),
        ("a\0b", "null bytes"),
        ("x = '\ud800'", "Error"),
        ("(" * 9_000, "Error|too many"),
        ("-" * 15_000 + "1", "Error|too"),
        ("x" * (MAX_PROGRAM_CHARACTERS + 1), "at most"),
    ],
)
def test_what_is_no_program_says_why(program: str, said: str) -> None:
    problem = syntax_problem(program)
    assert problem
    assert any(part in problem for part in said.split("|"))


def test_names_are_those_of_the_top_level() -> None:
    assert defined_names("def f():\n    def g(): pass\nclass C: pass\nx = 1\nasync def h(): pass") == {"f", "C", "h"}
    assert syntax_problem(r"x = '\d'") == ""
