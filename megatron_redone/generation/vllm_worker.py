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
        _repack_for_cpu(worker.model_runner.get_model())
        return digest.value

    def receive_folder(self, folder: str) -> str:
        """`receive_stream` from the safetensors of a folder; each worker keeps its own part of every tensor."""
        tensors = SafetensorsFolder(Path(folder))
        try:
            return self.receive_stream((name, tensors[name]) for name in sorted(tensors))
        finally:
            tensors.close()


def _repack_for_cpu(model: Any) -> None:
    """Finishes what vLLM's reload leaves undone on a CPU, where it multiplies by packed copies of the weights.

    A tied head has no tensor of its own in the stream and would go on with the packed copy of the old embedding.
    Experts are packed at the first load only: the reload puts plain weights where the kernel reads packed ones.
    """
    if next(model.parameters()).device.type != "cpu":
        return
    head, embedding = getattr(model, "lm_head", None), getattr(getattr(model, "model", None), "embed_tokens", None)
    if head is not None and embedding is not None and head is not embedding and head.weight is embedding.weight:
        head.quant_method.process_weights_after_loading(head)
    for layer in model.modules():
        kernel = getattr(getattr(layer, "quant_method", None), "moe_kernel", None)
        if kernel is not None:
            kernel.fused_experts.process_weights_after_loading(layer)
