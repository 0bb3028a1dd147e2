"""Direct preference optimisation (arXiv 2305.18290, equation 7) with the SFT term of RedOne (section 3.3).

    L = mean over pairs of -log sigmoid(beta * (log pi(y_w)/ref(y_w) - log pi(y_l)/ref(y_l)))
        + sft_coefficient * mean over the tokens of all chosen answers of -log pi

Log-probabilities of an answer are summed over its tokens. Both means are over the global batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_redone.objectives.base import LabelledTokens, LossTerms, Term


@dataclass(frozen=True)
class DPO:
    """The sigmoid loss over pairs whose chosen answer stands directly before the rejected one in the packed row.

    A micro-batch holds whole pairs: documents 2k and 2k + 1. Signal: `reference_logprobs` [N], of the frozen
    reference model.
    """

    beta: float = 0.1
    sft_coefficient: float = 0.3
    temperature: float = 1.0
    needs_entropy: bool = False

    def count_units(self, tokens: LabelledTokens) -> dict[str, float]:
        """Pairs for `preference`, tokens of chosen answers for `sft`."""
        chosen = tokens.document_N % 2 == 0
        return {
            "preference": float((tokens.document_N // 2).unique().numel()),
            "sft": float(tokens.weights_N[chosen].double().sum()),
        }

    def __call__(self, logprobs_N: Tensor, tokens: LabelledTokens) -> LossTerms:
        """Terms `preference` and `sft`; metrics: share of pairs ranked rightly, margin of the implicit rewards."""
        log_ratio = (logprobs_N - tokens.signals["reference_logprobs"]) * tokens.weights_N
        document = tokens.document_N
        num_documents = int(document.max()) + 1 if document.numel() else 0
        num_documents += num_documents % 2
        by_pair = log_ratio.new_zeros(num_documents).index_add(0, document, log_ratio).view(-1, 2)
        present = torch.zeros_like(by_pair, dtype=torch.bool).view(-1)
        present[document] = True
        pairs = present.view(-1, 2).any(dim=1)
        margin = self.beta * (by_pair[:, 0] - by_pair[:, 1])
        loss = -(F.logsigmoid(margin) * pairs).sum()
        chosen = (document % 2 == 0).to(logprobs_N.dtype)
        sft = -(logprobs_N * tokens.weights_N * chosen).sum()
        with torch.no_grad():
            count = pairs.sum()
            metrics = {
                "reward_accuracy": (((margin > 0) & pairs).sum(), count),
                "reward_margin": ((margin * pairs).sum(), count),
            }
        return LossTerms((Term("preference", loss), Term("sft", sft, self.sft_coefficient)), metrics)
