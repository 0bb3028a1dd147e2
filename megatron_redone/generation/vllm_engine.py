"""vLLM in the trainer's process: a copy of the model on every rank, prompts spread over the ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from megatron_redone.common.errors import InputError
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.sampling import sequence_keys
from megatron_redone.generation.vllm_core import VLLMCore
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.context import ParallelContext


class VLLMEngine:
    """Completions by vLLM; it has random weights until the first `update_weights`."""

    def __init__(self, config: GenerationConfig, shape: ModelShape, context: ParallelContext) -> None:
        if context.world_size > 1 and config.vllm.tensor_parallel_size > 1:
            raise InputError(
                f"generation.vllm.tensor_parallel_size={config.vllm.tensor_parallel_size} in {context.world_size} "
                "processes: there every rank has a whole copy; set it to 1, or use engine=servers"
            )
        self.context = context
        self.core = VLLMCore(config, shape, context.dtype, in_group=context.world_size > 1)

    @property
    def version(self) -> int:
        """Of the weights."""
        return self.core.version

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        """`num_samples` completions of each prompt, in the order of the prompts, on every rank."""
        self.core.check_prompts(prompts, params.max_new_tokens)
        drawn = sequence_keys(params.seed, list(keys), params.num_samples).view(len(prompts), -1).tolist()
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        mine = order[self.context.rank :: self.context.world_size]
        for i in mine:
            for sample in range(params.num_samples):
                self.core.add((i, sample), prompts[i], params, drawn[i][sample])
        results: dict[Any, Completion] = {}
        while self.core.busy:
            results.update(self.core.step())
        for part in self.context.gather_from_all(results):
            results.update(part)
        return [[results[i, sample] for sample in range(params.num_samples)] for i in range(len(prompts))]

    def update_weights(self, stream: Iterable[tuple[str, Any]], version: int) -> None:
        """Takes new weights in place and forgets what it cached under the old ones."""
        self.core.receive(stream, version)

    def sleep(self) -> None:
        """See `VLLMCore.sleep`."""
        self.core.sleep()

    def wake_up(self) -> None:
        """See `VLLMCore.wake_up`."""
        self.core.wake_up()

    def close(self) -> None:
        """Ends vLLM."""
        self.core.close()
