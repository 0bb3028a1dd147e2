"""Log-probabilities and entropy of one rank equal torch's, with their gradients."""

from __future__ import annotations

import pytest
import torch

from megatron_redone.parallel.vocab_logprobs import (
    differentiable_entropy,
    vocab_parallel_entropy,
    vocab_parallel_logprobs,
)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_equals_log_softmax_with_gradient(temperature: float) -> None:
    ours = torch.randn(9, 31, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    labels, upstream = torch.randint(0, 31, (9,)), torch.randn(9, dtype=torch.float64)
    logprobs = vocab_parallel_logprobs(ours, labels, temperature=temperature)
    expected = (theirs / temperature).log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    torch.testing.assert_close(logprobs, expected)
    logprobs.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_entropy_equals_the_definition_and_ignores_masked_rows() -> None:
    logits = torch.randn(5, 12)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(vocab_parallel_entropy(logits), expected)
    masked = torch.cat([logits, torch.full((5, 3), -1e30)], dim=1)
    torch.testing.assert_close(vocab_parallel_entropy(masked), expected)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_gradient_of_the_entropy_joins_that_of_the_log_probabilities(temperature: float) -> None:
    ours = torch.randn(9, 31, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    labels, upstream = torch.randint(0, 31, (9,)), torch.randn(2, 9, dtype=torch.float64)
    logits = ours * 1.0  # a tensor that the backward pass may write over
    both = vocab_parallel_logprobs(logits, labels, None, temperature) * upstream[0]
    (both + differentiable_entropy(logits, None, temperature) * upstream[1]).sum().backward()
    whole = (theirs / temperature).log_softmax(-1)
    expected = whole.gather(-1, labels[:, None]).squeeze(-1) * upstream[0]
    (expected - (whole.exp() * whole).sum(-1) * upstream[1]).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_no_labels_give_no_logprobs() -> None:
    logits = torch.randn(0, 7, requires_grad=True)
    vocab_parallel_logprobs(logits, torch.zeros(0, dtype=torch.int64)).sum().backward()
    assert logits.grad is not None and logits.grad.shape == (0, 7)


@pytest.mark.parametrize("chunk", [1, 62, 1000])
def test_working_on_some_rows_at_a_time_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_redone.parallel.vocab_logprobs.CPU_CHUNK", chunk)
    test_equals_log_softmax_with_gradient(0.7)
    test_entropy_equals_the_definition_and_ignores_masked_rows()


def test_bf16_logits_are_worked_on_in_fp32_and_get_a_bf16_gradient() -> None:
    ours = torch.randn(6, 50).bfloat16().requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    labels, upstream = torch.randint(0, 50, (6,)), torch.randn(6)
    logprobs = vocab_parallel_logprobs(ours, labels, temperature=0.7)
    expected = (theirs.float() / 0.7).log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    torch.testing.assert_close(logprobs, expected)
    logprobs.backward(upstream)
    expected.backward(upstream)
    assert ours.grad is not None and ours.grad.dtype == torch.bfloat16
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-2, atol=2e-3)
