"""Logits of both sides of a conversion: transformers on one folder, our engine on the other.

A table of parameters that is wrong in both directions gives every byte back, and the model computes something else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from megatron_redone.checkpoint.distributed import read_state
from megatron_redone.checkpoint.hf_config import COMPANION_FOLDER
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.models.build import ModelChunks, build_model
from megatron_redone.models.families import read_shape
from megatron_redone.parallel.context import ParallelContext

PROMPTS, PROMPT_TOKENS = 4, 48
TOLERANCE = 1e-4
"""Largest difference of a logit that passes, as a share of the largest logit; both sides compute in fp32."""


def compare_logits(
    hf: Path, megatron: Path, context: ParallelContext, layers: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Largest difference, smallest cosine and agreement of the best token, over fixed prompts in fp32.

    Args:
        context: one process, fp32.
        layers: the layers of the folder that were converted; the others are taken out of its model.
    """
    shape = read_shape(megatron / COMPANION_FOLDER)
    ours = build_model(shape, context)
    ours.load_state_dict(read_state(megatron, {"model": ours.sharded_state_dict()})["model"])
    ours.train(False)
    disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32)
    if layers is not None:
        theirs.model.layers = theirs.model.layers[layers[0] : layers[1]]
    random = numpy_rng(0, "prompts of a certificate")
    prompts = torch.from_numpy(random.integers(0, shape.vocab_size, (PROMPTS, PROMPT_TOKENS)))
    with torch.no_grad():
        expected = theirs(prompts.to(theirs.device), use_cache=False).logits.float().cpu()
        found = torch.stack([_logits(ours, prompt) for prompt in prompts]).float().cpu()
    difference = float((found - expected).abs().max())
    share = difference / float(expected.abs().max())
    return {
        "prompts": PROMPTS,
        "tokens": PROMPTS * PROMPT_TOKENS,
        "max_abs_difference": difference,
        "share_of_largest_logit": share,
        "min_cosine": float(F.cosine_similarity(found, expected, dim=-1).min()),
        "top1_agreement": float((found.argmax(-1) == expected.argmax(-1)).float().mean()),
        "passed": share <= TOLERANCE,
    }


def _logits(model: ModelChunks, tokens_T: Tensor) -> Tensor:
    """Logits [T, vocabulary] of one prompt."""
    device = model.context.device
    positions = torch.arange(tokens_T.numel(), device=device)
    packed = model.packed(torch.tensor([0, tokens_T.numel()], dtype=torch.int32), positions)
    logits: Tensor = model[0](tokens_T[None].to(device), None, None, packed_seq_params=packed)
    return logits[:, : model.shape.vocab_size]
