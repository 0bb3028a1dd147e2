"""Whether the generator samples from the policy that is trained: their log-probabilities of the sampled tokens.

The trainer's are taken as those of the old policy, so a gap does not bias the clipping; but advantages then belong to
answers of another policy. A gap of rounding is normal (bf16: about 0.03 a token), a larger one is a fault: weights that
were not handed over, another temperature, another precision or kernel.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from megatron_redone.common.errors import TrainingError
from megatron_redone.rl.config import AgreementConfig


def logprob_gap(trained: Sequence[float], sampled: Sequence[float]) -> dict[str, float]:
    """Mean, 99th percentile (nearest rank) and maximum of the absolute difference, in nats a token."""
    gaps = sorted(abs(a - b) for a, b in zip(trained, sampled, strict=True))
    return {
        "rollout_logprob_gap_mean": statistics.fmean(gaps),
        "rollout_logprob_gap_p99": gaps[math.ceil(0.99 * len(gaps)) - 1],
        "rollout_logprob_gap_max": gaps[-1],
    }


def check_agreement(
    gap: dict[str, float], config: AgreementConfig, rollout: int, explain: Callable[[], str] | None = None
) -> None:
    """Compares a gap with the bounds.

    Args:
        explain: called beyond a bound for what is known of the cause (`layer_comparison.py`).

    Raises:
        TrainingError: beyond a bound, or no number.
    """
    for name, bound in (("mean", config.max_mean), ("p99", config.max_p99)):
        found = gap[f"rollout_logprob_gap_{name}"]
        if bound is not None and not found <= bound:
            known = f"\n{explain()}" if explain else ""
            raise TrainingError(
                f"rollout {rollout}: the log-probabilities of generator and trainer differ by {found:.3g} a token "
                f"({name}), more than agreement.max_{name}={bound:g}; the answers are not the policy's own. Give both "
                f"the same precision, correct the difference with importance_cap=2, or raise the bound on purpose."
                f"{known}"
            )
