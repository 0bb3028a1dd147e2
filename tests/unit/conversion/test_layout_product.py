"""There and back over TP x PP x EP: every bit returns and the logits are those of transformers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.conversion.logits import compare_logits
from megatron_redone.conversion.to_hf import ToHF
from megatron_redone.conversion.to_megatron import ToMegatron
from megatron_redone.conversion.verify import Verification
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from tests.unit.conversion.conftest import small

FAMILIES = {
    "llama": small("llama-tiny", num_kv_heads=4),
    "qwen2.5": small("qwen2.5-tiny", num_kv_heads=4),
    "qwen2.5-untied": small("qwen2.5-tiny", num_kv_heads=4, tie_embeddings=False),
    "qwen3": small("qwen3-tiny", num_kv_heads=4),
    "qwen3-moe": small("qwen3-moe-tiny", num_kv_heads=4),
}


def cases() -> list[tuple[str, ParallelConfig]]:
    found = []
    for name, shape in FAMILIES.items():
        for tp, pp, ep in itertools.product((1, 2, 4), (1, 2), (1, 2, 4)):
            etp = max(1, tp // ep) if shape.is_moe else 1
            layout = ParallelConfig(tp=tp, pp=pp, ep=ep, etp=etp)
            if not shape.layout_problems(layout):
                found.append((name, layout))
    return found


CHOSEN = {("qwen3", 4, 2, 1), ("qwen2.5", 2, 2, 1), ("qwen2.5-untied", 4, 1, 1), ("llama", 2, 1, 1),
          ("qwen3-moe", 2, 2, 2), ("qwen3-moe", 4, 1, 4), ("qwen3-moe", 1, 2, 4), ("qwen3-moe", 4, 1, 2)}  # fmt: skip


def marked(name: str, layout: ParallelConfig) -> object:
    chosen = (name, layout.tp, layout.pp, layout.ep) in CHOSEN
    label = f"{name} tp={layout.tp} pp={layout.pp} ep={layout.ep}"
    return pytest.param(FAMILIES[name], layout, id=label, marks=[] if chosen else [pytest.mark.slow])


def test_the_product_is_whole() -> None:
    assert len(cases()) == 4 * 6 + 18
    assert {(name, layout.tp, layout.pp, layout.ep) for name, layout in cases()} >= CHOSEN


@pytest.mark.parametrize(("shape", "layout"), [marked(*case) for case in cases()])
def test_there_and_back(
    hub_folder: Callable[..., Path], parallel_context: ParallelContext, shape: ModelShape, layout: ParallelConfig
) -> None:
    hub = hub_folder(shape)
    megatron, back = hub.parent / "megatron", hub.parent / "back"
    ToMegatron(hub, megatron, layout).run()
    assert Verification(hub, megatron).certificate()["passed"]
    ToHF(megatron, back).run()
    original, returned = SafetensorsFolder(hub), SafetensorsFolder(back)
    assert set(original) == set(returned)
    assert all(torch.equal(original[name], returned[name]) for name in original)
    logits = compare_logits(hub, megatron, parallel_context)
    assert logits["max_abs_difference"] <= 1e-5 and logits["top1_agreement"] == 1.0
