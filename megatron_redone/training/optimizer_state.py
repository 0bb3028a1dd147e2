"""Adam's state as whole tensors beside the weights they belong to, so that a checkpoint fits every layout.

Megatron's own formats tie the state to the optimizer's kind or to its groups: gloo refuses one, experts do not load
under another expert-parallel size, and its distributed optimizer shares one step tensor among all parameters after a
load. Here each parameter has its moments (and for bf16 weights the fp32 weight) under its own name, cut like the
parameter; the distributed optimizer's shards are gathered for saving and cut again after loading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.optimizer import get_param_id_to_sharded_param_map, make_sharded_optimizer_tensor
from torch import Tensor

from megatron_redone.models.build import ModelChunks

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class _Slot:
    """Where the state of one parameter lives on this rank."""

    optimizer: Any
    """Torch's Adam that holds the state."""
    main: Tensor | None
    """What it updates: the parameter, its fp32 copy, or this rank's shard of either; None where it has no shard."""
    shard: slice
    """The entries of the flattened parameter that `main` holds."""
    group: Any
    """The ranks among which the parameter is cut into shards; None where it is whole."""


def sharded_optimizer_state(optimizer: Any, model: ModelChunks, sharded_model: dict[str, Any]) -> dict[str, Any]:
    """Sharded tensors of the state of every parameter, by its place among the parameters of this rank. A collective.

    Moments are 0 where no step was made yet. The same structure, filled by a checkpoint, goes to
    `load_optimizer_state`.
    """
    parameters = list(model.parameters().values())
    sharded = get_param_id_to_sharded_param_map(sharded_model, parameters)
    found: dict[str, Any] = {}
    for place, parameter in enumerate(parameters):
        slot = _slot(optimizer, parameter)
        for name in _names(parameter):
            whole = _whole(_stored(slot, name), slot, parameter)
            found[f"{place}.{name}"] = make_sharded_optimizer_tensor(sharded[place], whole, f"optimizer.{name}")
    return found


def load_optimizer_state(optimizer: Any, model: ModelChunks, loaded: dict[str, Tensor], num_steps: int) -> None:
    """Takes the tensors that a checkpoint gave for `sharded_optimizer_state`.

    Args:
        num_steps: optimizer steps so far; every parameter gets a counter of its own.
    """
    for place, parameter in enumerate(model.parameters().values()):
        slot = _slot(optimizer, parameter)
        if slot.main is None:
            continue
        parts = {name: loaded[f"{place}.{name}"].flatten()[slot.shard].view_as(slot.main) for name in _names(parameter)}
        if _keeps_weights(slot):
            slot.optimizer.set_scaled_state(slot.main, "master_param", parts["fp32_weight"])
            slot.main.data.copy_(parts["fp32_weight"])
        elif "fp32_weight" in parts:
            slot.main.data.copy_(parts["fp32_weight"])
        if hasattr(slot.optimizer, "set_scaled_state"):  # Transformer Engine's, whose moments may be in 16 bits
            for name in MOMENTS:
                slot.optimizer.set_scaled_state(slot.main, name, parts[name])
            continue
        state = slot.optimizer.state[slot.main]
        state.update({name: parts[name].clone() for name in MOMENTS})
        state["step"] = torch.tensor(float(num_steps), dtype=torch.float32)
    for inner in _inner_optimizers(optimizer):
        if hasattr(inner.optimizer, "sub_optimizers"):  # states that the host keeps
            inner.optimizer._sync_hdo_state_to_sub_optimizers()
            inner.optimizer._move_new_state_to_right_device()
        for group in inner.optimizer.param_groups:
            if "step" in group:  # fused optimizers count by group
                group["step"] = num_steps


def whole_state_of(optimizer: Any, parameter: Tensor, name: str) -> Tensor:
    """A moment of one parameter of this rank, in its shape. A collective where the state is cut into shards."""
    slot = _slot(optimizer, parameter)
    return _whole(_stored(slot, name), slot, parameter)


def num_steps_of(optimizer: Any) -> int:
    """Optimizer steps so far."""
    for inner in _inner_optimizers(optimizer):
        counts = [group["step"] for group in inner.optimizer.param_groups if "step" in group]
        counts += [state["step"] for state in inner.optimizer.state.values() if "step" in state]
        if counts:
            return int(counts[0])
    return 0


def _names(parameter: Tensor) -> tuple[str, ...]:
    return MOMENTS if parameter.dtype in (torch.float32, torch.float64) else (*MOMENTS, "fp32_weight")


def _inner_optimizers(optimizer: Any) -> Iterator[Any]:
    """Megatron's optimizers, one for dense and one for expert parameters where there are both."""
    yield from getattr(optimizer, "chained_optimizers", [optimizer])


def _slot(optimizer: Any, parameter: Tensor) -> _Slot:
    whole = slice(0, parameter.numel())
    for inner in _inner_optimizers(optimizer):
        if hasattr(inner, "model_param_gbuf_map"):  # the distributed optimizer; its map has what it has a shard of
            if not any(parameter in buffer.param_index_map for buffer in inner.buffers):
                continue
            place = inner.model_param_group_index_map.get(parameter)
            if place is None:
                return _Slot(inner.optimizer, None, slice(0, 0), inner.data_parallel_group)
            span = inner._get_model_param_range_map(parameter)["param"]
            main = inner.optimizer.param_groups[place[0]]["params"][place[1]]
            return _Slot(inner.optimizer, main, slice(span.start, span.end), inner.data_parallel_group)
        main = getattr(parameter, "main_param", None)
        main = parameter if main is None else main
        if any(main is known for group in inner.optimizer.param_groups for known in group["params"]):
            return _Slot(inner.optimizer, main, whole, None)
    raise AssertionError(f"no optimizer holds a parameter of shape {tuple(parameter.shape)}")


def _stored(slot: _Slot, name: str) -> Tensor | None:
    if slot.main is None:
        return None
    state = slot.optimizer.state.get(slot.main, {})
    if name == "fp32_weight" and not _keeps_weights(slot):
        return slot.main.detach()
    stored = "master_param" if name == "fp32_weight" else name
    if hasattr(slot.optimizer, "get_unscaled_state") and stored in state:  # in fp32, whatever it is kept in
        value: Tensor | None = slot.optimizer.get_unscaled_state(slot.main, stored)
        return value
    value = slot.main.float() if stored == "master_param" and stored not in state else state.get(stored)
    return value if value is None else value.to(slot.main.device)


def _keeps_weights(slot: _Slot) -> bool:
    """Whether the optimizer has the fp32 weights in its state, and updates the 16-bit ones themselves."""
    return bool(getattr(slot.optimizer, "master_weights", False))


def _whole(part: Tensor | None, slot: _Slot, parameter: Tensor) -> Tensor:
    """The state in the parameter's shape: shards are added up over their ranks."""
    dtype = part.dtype if part is not None else torch.promote_types(parameter.dtype, torch.float32)
    if slot.group is None and part is not None:
        return part.view(parameter.shape)
    whole = torch.zeros(parameter.numel(), dtype=dtype, device=parameter.device)
    if part is not None:
        whole[slot.shard] = part.flatten()
    if slot.group is not None:
        dist.all_reduce(whole, group=slot.group)
    return whole.view(parameter.shape)
