"""What stands in for CUDA when Megatron-core 0.16 runs on CPU and gloo.

Megatron-core asks `torch.cuda` for a device, streams and random states without looking whether there is one.
`install_cpu_platform` replaces exactly these places, each named below with its reason. It is called when a
CPU `ParallelContext` is built, does nothing where CUDA exists, and is the only module that replaces anything.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._device import _device_constructors

_INSTALLED = False


def on_cuda() -> bool:
    """Whether this machine runs the CUDA path."""
    return torch.cuda.is_available()


class _NullStream:
    """Stands for torch.cuda.Stream and torch.cuda.Event: on CPU everything is already in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._recorded = 0.0

    def __getattr__(self, name: str) -> Callable[..., _NullStream]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self

    def record(self, *args: Any) -> None:
        self._recorded = time.perf_counter()

    def elapsed_time(self, end: _NullStream) -> float:
        """Milliseconds between two recorded events."""
        return (end._recorded - self._recorded) * 1e3


def _on_cpu_instead(create: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A tensor factory that reads device="cuda" as the CPU."""

    @functools.wraps(create)
    def on_cpu(*args: Any, **kwargs: Any) -> torch.Tensor:
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return create(*args, **kwargs)

    return on_cpu


def install_cpu_platform() -> None:
    """Installs the substitutions once per process; a no-op where CUDA exists."""
    global _INSTALLED
    if _INSTALLED or on_cuda():
        return
    _INSTALLED = True
    # `with torch.device(...)` asks, once in a process, which functions make tensors; the wrappers it would not know,
    # and transformers would load models with parts on the wrong device.
    _device_constructors()
    _substitute_device_and_streams()
    _substitute_random_states()
    _substitute_tensor_types()
    with warnings.catch_warnings():  # Megatron-core warns of each optional package that it does not find
        warnings.simplefilter("ignore")
        _substitute_in_megatron()
    _choose_matmul_kernels()


STREAM_NAMES = ("Event", "Stream", "set_stream", "current_stream", "default_stream", "stream", "synchronize")


@contextlib.contextmanager
def streams_kept() -> Iterator[None]:
    """While another library starts that puts stand-ins of its own into `torch.cuda` (vLLM on a CPU): ours come back."""
    if not _INSTALLED:
        yield
        return
    kept = {name: getattr(torch.cuda, name) for name in STREAM_NAMES}
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(torch.cuda, name, value)


MAX_FP32_ERROR = 5e-6
"""Largest error of an fp32 product of random matrices, relative to its largest entry, that rounding explains."""


def _choose_matmul_kernels() -> None:
    """Lets torch use oneDNN's fp32 kernels where they keep fp32's precision; else MKL's stay.

    MKL runs at half speed on processors of other makers. The setting that brings oneDNN in also allows it to
    compute in bf16, which it does where that is faster (processors with AMX). So its precision is measured, and the
    setting taken back unless it is that of fp32.
    """
    generator = torch.Generator().manual_seed(0)
    torch.set_float32_matmul_precision("medium")
    for rows, inner, columns in ((256, 256, 256), (64, 1024, 512), (1024, 64, 96)):
        left = torch.randn(rows, inner, generator=generator)
        right = torch.randn(inner, columns, generator=generator)
        exact = left.double() @ right.double()
        if float(((left @ right) - exact).abs().max() / exact.abs().max()) > MAX_FP32_ERROR:
            torch.set_float32_matmul_precision("highest")
            return


def _substitute_device_and_streams() -> None:
    cuda: Any = torch.cuda
    null = _NullStream()
    cuda.current_device = lambda: torch.device("cpu")  # device of buffers in DDP, rotary embedding, pipeline
    cuda.synchronize = lambda *args, **kwargs: None  # checkpoints and pipeline point-to-point
    cuda.Stream = cuda.Event = _NullStream  # MoE all-to-all
    cuda.current_stream = cuda.default_stream = lambda *args: null  # MoE dispatcher, overlap of gradients
    cuda.stream = lambda stream: contextlib.nullcontext()  # the same
    for name in ("tensor", "zeros", "ones"):  # device="cuda" literals in optimizer, router and checkpointing
        setattr(torch, name, _on_cpu_instead(getattr(torch, name)))
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]


def _substitute_random_states() -> None:
    cuda: Any = torch.cuda
    get_state = lambda *args, **kwargs: torch.get_rng_state()  # noqa: E731
    cuda.get_rng_state = cuda.random.get_rng_state = get_state  # the tensor-parallel random state tracker
    cuda.manual_seed = torch.manual_seed  # the same


def _substitute_tensor_types() -> None:
    real_type = torch.Tensor.type

    def cuda_like_type(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            return real_type(self, *args, **kwargs)
        return real_type(self).replace("torch.", "torch.cuda.")

    torch.Tensor.type = cuda_like_type  # type: ignore[method-assign,assignment]  # optimizers compare type names


def _substitute_in_megatron() -> None:
    import megatron.core.tensor_parallel.random as random_states
    import megatron.core.transformer.moe.moe_utils as moe_utils
    import megatron.core.transformer.moe.token_dispatcher as dispatcher

    random_states._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    if not hasattr(moe_utils, "te_general_gemm"):
        moe_utils.te_general_gemm = None  # 0.16.1 reads the name although Transformer Engine is absent
    dispatcher.maybe_move_tensor_to_cpu = (  # split sizes as numpy, without a device-to-host stream
        lambda tensor, as_numpy=False, record_stream=False: (
            tensor.numpy() if as_numpy and torch.is_tensor(tensor) else tensor
        )
    )
