"""Draws follow the distribution, and depend on key and place alone."""

from __future__ import annotations

import pytest
import torch

from megatron_redone.generation.sampling import draw, sequence_keys, uniforms


def test_uniforms_are_uniform_and_independent_over_places() -> None:
    keys = sequence_keys(0, [str(i) for i in range(2000)], 1)
    first, second = (uniforms(keys, torch.full_like(keys, place)) for place in (0, 1))
    for values in (first, second):
        assert float(values.min()) > 0 and float(values.max()) < 1
        assert float(values.mean()) == pytest.approx(0.5, abs=0.03)
        assert float(values.var()) == pytest.approx(1 / 12, abs=0.01)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.08


def test_draws_do_not_depend_on_the_batch() -> None:
    keys, logits = sequence_keys(1, ["a", "b", "c"], 2), torch.randn(6, 20)
    places = torch.full_like(keys, 4)
    whole, _ = draw(logits, uniforms(keys, places), 1.0, 1.0)
    for row in range(6):
        alone, _ = draw(logits[row : row + 1], uniforms(keys[row : row + 1], places[:1]), 1.0, 1.0)
        assert alone.tolist() == whole[row : row + 1].tolist()


def test_frequencies_follow_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    keys = sequence_keys(2, [str(i) for i in range(8000)], 1)
    tokens, logprobs = draw(logits.expand(8000, 4), uniforms(keys, torch.zeros_like(keys)), 0.8, 1.0)
    expected = (logits / 0.8).softmax(-1)
    torch.testing.assert_close(torch.bincount(tokens, minlength=4) / 8000, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(logprobs, expected.log()[tokens])


def test_top_p_cuts_the_tail_but_reports_whole_logprobs() -> None:
    logits = torch.tensor([3.0, 2.0, 0.0, -2.0])
    keys = sequence_keys(3, [str(i) for i in range(500)], 1)
    tokens, logprobs = draw(logits.expand(500, 4), uniforms(keys, torch.zeros_like(keys)), 1.0, 0.9)
    assert set(tokens.tolist()) == {0, 1}
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[tokens])


def test_temperature_zero_is_greedy() -> None:
    logits = torch.randn(5, 9)
    tokens, _ = draw(logits, torch.full((5,), 0.99, dtype=torch.float64), 0.0, 1.0)
    assert tokens.tolist() == logits.argmax(-1).tolist()
