"""Where the generator's pass over an answer parts from the trainer's: one sample, layer by layer.

The answer with the largest gap is read twice by the same weights: once as the trainer reads it (packed, one pass), once
as the in-process generator does (the prompt, then token by token from the key-value cache). For each layer, over all
tokens: max |h_generator - h_trainer| / |h_trainer| of the hidden states behind it (Euclidean norms). An engine with
weights of its own (vLLM, servers) gives log-probabilities alone; they are compared with both passes, which tells
whether the engine or the cache is at fault. Collective: every rank calls it alike.

Shape legend: T tokens that are read, H hidden size.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.transformer.transformer_layer import TransformerLayer
from torch import Tensor

from megatron_redone.common.files import atomic_write_json
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.expert_choices import NotedChoices
from megatron_redone.models.kv_cache import KVCache
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.rollout import Group, Response
from megatron_redone.rl.router_replay import replay_signals
from megatron_redone.training.document_logprobs import document_logprobs
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun

REPORT = "agreement.json"
JUMP, PARTED = 10.0, 1e-3
"""A layer is where the passes part when its difference is over PARTED and JUMP times that of the layer before."""


@dataclass(frozen=True)
class LayerGap:
    """How far the two passes are apart behind one layer."""

    layer: int
    hidden: float
    """Largest relative difference of a token's hidden state."""
    token: int
    """Where it is: the place in prompt and answer."""
    experts_changed: float | None = None
    """Share of tokens that went to another set of experts; None: no expert layer."""


@dataclass(frozen=True)
class Comparison:
    """One answer, read in every way. Gaps are mean absolute differences of log-probabilities, in nats a token."""

    row: str
    num_prompt_tokens: int
    num_answer_tokens: int
    reported_gap: float
    """Of what the generator reported, to the trainer."""
    cached_gap: float
    """Of our own cached pass, to the trainer."""
    layers: tuple[LayerGap, ...]
    """Empty under context parallelism, whose ranks see parts of the row."""

    def first_parted(self) -> LayerGap | None:
        """The first layer where the difference jumps."""
        before = 0.0
        for gap in self.layers:
            if gap.hidden > PARTED and gap.hidden > JUMP * before:
                return gap
            before = gap.hidden
        return None

    def advice(self, engine: str) -> str:
        """What the numbers say."""
        if self.cached_gap < 0.1 * self.reported_gap:
            return (
                f"our own cached pass agrees with the trainer ({self.cached_gap:.3g}), what the generator reported "
                f"does not ({self.reported_gap:.3g}): its weights, precision or temperature are others. Engine "
                f"{engine!r}: look whether its weights were updated, and at its dtype (of what is inside it nothing is "
                "known here)"
            )
        parted = self.first_parted()
        if parted is None:
            return "the difference grows evenly from layer to layer: rounding; a higher precision, or importance_cap"
        experts = parted.experts_changed or max((gap.experts_changed or 0.0) for gap in self.layers)
        routed = f"; {experts:.0%} of its tokens went to other experts: router_replay=true" if experts else ""
        return f"the cached and the packed pass part at layer {parted.layer} (token {parted.token}){routed}"

    def lines(self) -> list[str]:
        """A table for people."""
        found = [
            f"answer to row {self.row!r}: {self.num_prompt_tokens} + {self.num_answer_tokens} tokens; mean gap to the "
            f"trainer: reported {self.reported_gap:.3g}, cached pass {self.cached_gap:.3g}"
        ]
        for gap in self.layers:
            experts = "" if gap.experts_changed is None else f"  other experts {gap.experts_changed:6.1%}"
            found.append(f"  layer {gap.layer:3d}  hidden state {gap.hidden:9.2e} at token {gap.token:5d}{experts}")
        if not self.layers:
            found.append("  no layers: they are not compared under context parallelism")
        return found


def explain_gap(groups: Sequence[Group], engine: MegatronEngine, config: DAPOConfig, run: TrainingRun) -> str:
    """The comparison of the worst answer as text; rank 0 also writes it to `agreement.json` in the run's folder."""
    group, response = worst_answer(groups, engine, config)
    comparison = compare_layers(group, response, engine, config)
    advice = comparison.advice(config.generation.engine)
    if run.context.is_main:
        run.folder.mkdir(parents=True, exist_ok=True)
        atomic_write_json(run.folder / REPORT, {**asdict(comparison), "advice": advice})
    return "\n".join([*comparison.lines(), advice])


def worst_answer(groups: Sequence[Group], engine: MegatronEngine, config: DAPOConfig) -> tuple[Group, Response]:
    """The answer whose mean gap is largest; one with a gap that is no number is worse than any other."""
    pairs = [(group, response) for group in groups for response in group.responses]
    documents = [_document(group, response, config) for group, response in pairs]
    temperature = config.generation.temperature or 1.0
    trained = document_logprobs(documents, config.max_tokens_per_microbatch, engine, temperature)

    def gap(place: int) -> float:
        group, response = pairs[place]
        found = _mean_gap(trained[place][len(group.prompt_ids) :], response.completion.logprobs)
        return found if found == found else float("inf")

    return pairs[max(range(len(pairs)), key=gap)]


@torch.no_grad()
def compare_layers(group: Group, response: Response, engine: MegatronEngine, config: DAPOConfig) -> Comparison:
    """Reads one answer in both ways."""
    temperature = config.generation.temperature or 1.0
    document = _document(group, response, config)
    start = len(group.prompt_ids)
    with _hidden_states(engine) as packed_states, _experts(engine) as noted:
        batch = PackedBatch.from_documents([document], engine.row_multiple)
        row = engine.logprobs([batch], temperature)[0]
        packed_experts = noted.take() if noted else {}
    trained = row[start - 1 : len(document) - 1].tolist()
    with _hidden_states(engine) as cached_states, _experts(engine) as noted:
        cached = cached_logprobs(engine, group.prompt_ids, response.completion.token_ids, temperature)
        cached_experts = noted.take() if noted else {}
    layers: list[LayerGap] = []
    if engine.context.cp.size == 1:
        num_read = len(document) - 1
        for layer in sorted(packed_states):
            packed_TH = _whole(packed_states[layer][:1], [num_read], engine)
            cached_TH = _whole(cached_states[layer], [start] + [1] * (num_read - start), engine)
            changed = _changed(packed_experts.get(layer), cached_experts.get(layer), num_read, engine)
            layers.append(_gap_of(layer, packed_TH, cached_TH, changed))
        layers = sorted(
            (gap for stage in engine.context.gather_objects(layers, engine.context.pp) for gap in stage),
            key=lambda gap: gap.layer,
        )
    return Comparison(
        group.row.id,
        start,
        len(response.completion.token_ids),
        _mean_gap(trained, response.completion.logprobs),
        _mean_gap(trained, cached),
        tuple(layers),
    )


@torch.no_grad()
def cached_logprobs(
    engine: MegatronEngine,
    prompt: Sequence[int],
    answer: Sequence[int],
    temperature: float,
) -> list[float]:
    """Log-probability of each token of an answer, read as the in-process generator does.

    The prompt is one pass, each token of the answer but the last another.
    """
    generator = MegatronGenerator(engine.model, engine.context)
    engine.model.train(False)
    device = engine.context.device
    cache = KVCache(1, len(prompt) + len(answer) + 1)
    found: list[float] = []
    given, position = list(prompt), 0
    for number, token in enumerate(answer):
        length = len(given)
        logits = generator.new_logits(
            torch.tensor(given, device=device),
            torch.arange(position, position + length, device=device),
            torch.tensor([0, length], dtype=torch.int32, device=device),
            cache,
            torch.zeros(length, dtype=torch.int64, device=device),
            decode=number > 0,
            wanted_B=torch.tensor([length - 1], device=device),
        )
        value = torch.zeros(1, dtype=torch.float64, device=device)
        if logits is not None:
            value[0] = (logits.float() / temperature).log_softmax(-1)[0, token]
        if engine.context.pp.size > 1:
            last = dist.get_global_rank(engine.context.pp.group, engine.context.pp.size - 1)
            dist.broadcast(value, src=last, group=engine.context.pp.group)
        found.append(float(value))
        given, position = [token], position + length
    return found


@contextmanager
def _hidden_states(engine: MegatronEngine) -> Iterator[dict[int, list[Tensor]]]:
    """By layer of this rank the hidden states behind it, pass by pass."""
    found: dict[int, list[Tensor]] = {}

    def keep(layer: Any, _: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        found.setdefault(layer.layer_number, []).append(hidden.detach().float().flatten(0, -2).cpu())

    hooks = [
        module.register_forward_hook(keep) for module in engine.model.modules() if isinstance(module, TransformerLayer)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _experts(engine: MegatronEngine) -> Iterator[NotedChoices | None]:
    """Notes choices of experts where there are any; with replay the packed pass takes those of the rollout."""
    if not engine.shape.is_moe:
        yield None
        return
    with NotedChoices(engine.model.modules()) as noted:
        yield noted


def _whole(parts: Sequence[Tensor], lengths: Sequence[int], engine: MegatronEngine) -> Tensor:
    """[T, H] of passes of so many real tokens, gathered over ranks that hold parts of the sequence."""
    context = engine.context
    if engine.model.config.sequence_parallel:
        ranks = context.gather_objects(list(parts), context.tp)
        parts = [torch.cat([rank[number] for rank in ranks]) for number in range(len(parts))]
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def _changed(packed: Any, cached: Any, num_read: int, engine: MegatronEngine) -> float | None:
    """Share of tokens whose sets of experts differ; None where layers have none or ranks hold parts."""
    if packed is None or cached is None or engine.model.config.sequence_parallel:
        return None
    first, second = torch.from_numpy(packed[:num_read]), torch.from_numpy(cached[:num_read])
    return float((first.sort(1).values != second.sort(1).values).any(1).double().mean())


def _gap_of(layer: int, packed_TH: Tensor, cached_TH: Tensor, changed: float | None) -> LayerGap:
    relative_T = (cached_TH - packed_TH).norm(dim=1) / packed_TH.norm(dim=1).clamp(min=1e-30)
    token = int(relative_T.argmax())
    return LayerGap(layer, float(relative_T[token]), token, changed)


def _document(group: Group, response: Response, config: DAPOConfig) -> Document:
    prompt, answer = group.prompt_ids, response.completion.token_ids
    signals = replay_signals(response.completion, len(prompt)) if config.router_replay else {}
    return Document([*prompt, *answer], [0.0] * len(prompt) + [1.0] * len(answer), group.row.id, signals)


def _mean_gap(trained: Sequence[float], other: Sequence[float]) -> float:
    return statistics.fmean(abs(a - b) for a, b in zip(trained, other, strict=True))
