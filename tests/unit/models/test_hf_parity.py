"""Our model against transformers: the same function of the same weights, and every weight returns as it came."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.models.build import ModelChunks, build_model
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import read_shape, shape_to_hf
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import export_weights, load_folder
from megatron_redone.parallel.context import ParallelContext

TOLERANCE = 1e-5
LENGTHS = (7, 20, 1, 33, 20)  # of several powers of two, one token alone, two alike


def variant(preset: str, **changes: object) -> ModelShape:
    return get_preset(preset).model_copy(update={"num_layers": 2, **changes})


VARIANTS = {
    "llama untied": variant("llama-tiny"),
    "llama tied, uneven vocabulary": variant("llama-tiny", tie_embeddings=True, vocab_size=251),
    "qwen2.5 tied": variant("qwen2.5-tiny"),
    "qwen2.5 untied, one head per group": variant("qwen2.5-tiny", tie_embeddings=False, num_kv_heads=4),
    "qwen3 tied, uneven vocabulary": variant("qwen3-tiny", vocab_size=251),
    "qwen3 untied, one group": variant("qwen3-tiny", tie_embeddings=False, num_kv_heads=1),
    "qwen3-moe untied": variant("qwen3-moe-tiny"),
    "qwen3-moe tied, three of eight": variant("qwen3-moe-tiny", tie_embeddings=True, experts_per_token=3),
}


def reference_model(shape: ModelShape) -> transformers.PreTrainedModel:
    """transformers' model with weights wide enough that every part of it shows in the logits."""
    config = shape_to_hf(shape, "float32")
    architecture = getattr(transformers, config["architectures"][0])
    model: transformers.PreTrainedModel = architecture(transformers.AutoConfig.for_model(**config)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        around = 1.0 if "norm" in name else 0.0
        parameter.data.normal_(around, 0.1, generator=generator)
    return model


def packed_logits(model: ModelChunks, documents: list[Tensor]) -> Tensor:
    """Our logits of all documents in one packed row."""
    lengths = torch.tensor([0, *(document.numel() for document in documents)])
    positions = torch.cat([torch.arange(document.numel()) for document in documents])
    packed = model.packed(lengths.cumsum(0).to(torch.int32), positions)
    logits: Tensor = model[0](torch.cat(documents)[None], None, None, packed_seq_params=packed)
    return logits


@pytest.mark.parametrize("shape", VARIANTS.values(), ids=VARIANTS.keys())
def test_family_equals_transformers(shape: ModelShape, parallel_context: ParallelContext, tmp_path: Path) -> None:
    reference = reference_model(shape)
    reference.save_pretrained(tmp_path)
    assert read_shape(tmp_path) == shape
    model = build_model(shape, parallel_context)
    load_folder(model, parallel_context, tmp_path)

    generator = torch.Generator().manual_seed(2)
    documents = [torch.randint(0, shape.vocab_size, (length,), generator=generator) for length in LENGTHS]
    with torch.no_grad():
        expected = torch.cat([reference(document[None]).logits[0] for document in documents])
        together = packed_logits(model, documents)
        apart = torch.cat([packed_logits(model, [document]) for document in documents])
    assert expected.abs().max() > 0.5  # else a tolerance of 1e-5 would say little
    torch.testing.assert_close(together, expected, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(together, apart, rtol=0, atol=TOLERANCE)

    original, returned = SafetensorsFolder(tmp_path), dict(export_weights(model, parallel_context))
    assert returned.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(returned[name], tensor), name
