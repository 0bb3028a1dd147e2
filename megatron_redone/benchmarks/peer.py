"""The peer of one process: plain transformers, forward and backward over the same rows, without an optimizer.

Each document is a sequence of its own (batch size 1), so nothing is padded and nothing leaks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from megatron_redone.common.errors import ConfigError
from megatron_redone.data.document import Document
from megatron_redone.models.families import shape_to_hf
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.engine import MegatronEngine


class TransformersPeer:
    """A transformers model with the engine's weights.

    Raises:
        ConfigError: several processes.
    """

    def __init__(self, engine: MegatronEngine, context: ParallelContext) -> None:
        if context.world_size > 1:
            raise ConfigError([f"peer=true on {context.world_size} processes: it is for one; leave out --nproc"])
        settings = shape_to_hf(engine.shape, "bfloat16" if context.dtype == torch.bfloat16 else "float32")
        config = AutoConfig.for_model(**settings)
        with torch.device(context.device):
            self.model = AutoModelForCausalLM.from_config(config, dtype=context.dtype, attn_implementation="sdpa")
        weights = {name: tensor.to(context.dtype) for name, tensor in engine.export_hf_weights()}
        self.model.load_state_dict(weights, strict=not engine.shape.tie_embeddings)
        self.model.train()
        self.device = context.device

    def step(self, rows: Sequence[Sequence[Document]]) -> float:
        """Gradients of the mean loss of all labels; returns the loss."""
        self.model.zero_grad(set_to_none=True)
        documents = [document for row in rows for document in row]
        labels = sum(sum(weight > 0 for weight in document.loss_mask[1:]) for document in documents)
        total = 0.0
        for document in documents:
            tokens = torch.tensor([document.token_ids], device=self.device)
            mask = torch.tensor(document.loss_mask[1:], device=self.device)
            logits = self.model(tokens, use_cache=False).logits[0, :-1].float()
            loss = (F.cross_entropy(logits, tokens[0, 1:], reduction="none") * mask).sum() / labels
            loss.backward()
            total += float(loss.detach())
        return total
