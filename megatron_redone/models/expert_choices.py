"""Which experts a router chose: noted in one pass, and taken again in another (router replay).

Rounding decides a router's choice where two experts are nearly as likely, so the generator's pass over a token and the
trainer's can send it to different experts. Replay gives the trainer the choices of the generator: the set of experts is
the noted one, while their probabilities, and the gradient through them, are the trainer's own over that set. The
auxiliary loss of the router is of the trainer's own choices.

Choices travel as signals of a document (`data/document.py`), one for each layer and slot: expert + 1, and 0 where there
is none to replay (padding, the last token). Megatron asks the object at a router's `router_replay` for its choices.

Shape legend: T tokens of this rank, E experts, k experts a token, L expert layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from megatron_redone.models.router import Router

EXPERTS = "experts/"
"""Beginning of the names of such signals."""


def expert_signal_names(layers: Iterable[int], experts_per_token: int) -> list[str]:
    """Names of the signals for layers of these numbers (from 1)."""
    return [f"{EXPERTS}{layer:03d}/{slot}" for layer in layers for slot in range(experts_per_token)]


def expert_signals(choices: npt.NDArray[np.int16], num_tokens: int) -> dict[str, list[int]]:
    """Signals of a document of `num_tokens` from choices [num_tokens - 1, L, k] for all its tokens but the last.

    A signal of token t + 1 is read at t (`PackedBatch`), so they begin one place later.
    """
    if choices.shape[0] != num_tokens - 1:
        raise ValueError(f"choices for {choices.shape[0]} tokens of a document of {num_tokens}; all but the last count")
    names = expert_signal_names(range(1, choices.shape[1] + 1), choices.shape[2])
    columns = choices.reshape(num_tokens - 1, len(names)).astype(np.int64) + 1
    return {name: [0, *columns[:, place].tolist()] for place, name in enumerate(names)}


class Chooser:
    """What Megatron's router asks for the experts of its tokens.

    Attributes:
        given: [T, k] experts to be taken, -1 where the router chooses itself; None: it always does.
        noted: the choices [T, k] of each pass, where they are noted.
        num_given, num_changed: tokens with given experts, and those of them for which the router would have taken
            another set.
    """

    def __init__(self, *, notes: bool = False) -> None:
        self.given: Tensor | None = None
        self.noted: list[Tensor] | None = [] if notes else None
        self.num_given = self.num_changed = 0

    def get_replay_topk(
        self,
        scores: Tensor,
        topk: int,
        num_groups: int | None = None,
        group_topk: int | None = None,
        default_compute_topk: Callable[..., tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scores and numbers [T, k] of the chosen experts; the name and the arguments are Megatron's."""
        assert default_compute_topk is not None
        values, chosen = default_compute_topk(scores, topk, num_groups=num_groups, group_topk=group_topk)
        if self.given is not None:
            replayed = self.given[:, 0] >= 0
            own = chosen.sort(dim=1).values
            self.num_given += int(replayed.sum())
            self.num_changed += int(((own != self.given.sort(dim=1).values).any(dim=1) & replayed).sum())
            chosen = torch.where(replayed[:, None], self.given, chosen)
            values = scores.gather(1, chosen)
        if self.noted is not None:
            self.noted.append(chosen.detach().to("cpu", torch.int16))
        return values, chosen


def routers_of(modules: Iterable[Any]) -> list[Router]:
    """The routers among them, by layer."""
    return sorted((one for one in modules if isinstance(one, Router)), key=lambda router: router.layer_number)


def give_choices(routers: Sequence[Router], signals: Mapping[str, Tensor], experts_per_token: int) -> None:
    """Sets what each router takes in its next passes, from signals [T] of this rank's tokens."""
    for router in routers:
        names = expert_signal_names([router.layer_number], experts_per_token)
        if router.router_replay is None:
            router.router_replay = Chooser()
        router.router_replay.given = torch.stack([signals[name] for name in names], dim=1).long() - 1


def forget_choices(routers: Sequence[Router]) -> None:
    """The routers choose for themselves again; their counts stay until `take_changed`."""
    for router in routers:
        if router.router_replay is not None:
            router.router_replay.given = None


def take_changed(routers: Sequence[Router]) -> tuple[int, int]:
    """(choices that were given, those the router would have made otherwise) on this rank since the last call."""
    found = [0, 0]
    for router in routers:
        if router.router_replay is not None:
            found[0] += router.router_replay.num_given
            found[1] += router.router_replay.num_changed
            router.router_replay.num_given = router.router_replay.num_changed = 0
    return found[0], found[1]


class NotedChoices:
    """Notes the choices of a model's routers on this rank; use it in a `with` block."""

    def __init__(self, modules: Iterable[Any]) -> None:
        self.routers = routers_of(modules)

    def __enter__(self) -> NotedChoices:
        self._before = [router.router_replay for router in self.routers]
        for router in self.routers:
            router.router_replay = Chooser(notes=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for router, before in zip(self.routers, self._before, strict=True):
            router.router_replay = before

    def take(self) -> dict[int, npt.NDArray[np.int16]]:
        """By layer the choices [T, k] since the last call, passes end to end."""
        found = {}
        for router in self.routers:
            noted, router.router_replay.noted = router.router_replay.noted, []
            found[router.layer_number] = torch.cat(noted).numpy()
        return found
