"""What vLLM's workers learn from us: to take new weights and to say what arrived."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.generation.weight_stream import WeightDigest


class WeightReceiver:
    """Mixed into vLLM's worker class (`worker_extension_cls`)."""

    def receive_stream(self, stream: Iterable[tuple[str, Tensor]]) -> str:
        """Loads whole Hugging Face tensors in place; the digest of those that vLLM's loader took."""
        digest = WeightDigest()

        def counted() -> Iterator[tuple[str, Tensor]]:
            for name, tensor in stream:
                yield name, tensor
                digest.add(name, tensor)  # only when the loader asks for the next one has it taken this one

        worker: Any = self
        worker.reload_weights(weights_iterator=counted())
        _repack_tied_head(worker.model_runner.get_model())
        return digest.value

    def receive_folder(self, folder: str) -> str:
        """`receive_stream` from the safetensors of a folder; each worker keeps its own part of every tensor."""
        tensors = SafetensorsFolder(Path(folder))
        try:
            return self.receive_stream((name, tensors[name]) for name in sorted(tensors))
        finally:
            tensors.close()


def _repack_tied_head(model: Any) -> None:
    """Brings the head of a model with tied embeddings up to date.

    On a CPU vLLM multiplies by packed copies of its weights. Its reload packs anew what was in the stream; a tied head
    has no tensor there, and would go on with the copy of the old embedding. Where nothing is packed it changes nothing.
    """
    head, embedding = getattr(model, "lm_head", None), getattr(getattr(model, "model", None), "embed_tokens", None)
    tied = (
        head is not None and head is not embedding and getattr(head, "weight", None) is getattr(embedding, "weight", 0)
    )
    if tied:
        head.quant_method.process_weights_after_loading(head)
