"""Proxy runs: a small model trained on each mixture, and its loss on every validation corpus.

All runs start from the same weights and read each corpus in the same order (for one seed), so that losses differ by
the mixture alone. A finished run is one small JSON file; what is interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.curation.regmix.config import RegMixProxiesConfig
from megatron_redone.curation.regmix.tables import Table
from megatron_redone.data.blend import Blend, BlendedSamples, BlendPhase
from megatron_redone.data.indexed_corpus import PretrainSamples
from megatron_redone.data.token_folder import Split, read_token_shards
from megatron_redone.data.tokenizer import Tokenizer, load_tokenizer
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import pack
from megatron_redone.training.config import PretrainConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.model_folder import check_vocabulary, load_engine
from megatron_redone.training.pretrain import train_on
from megatron_redone.training.run import TrainingRun

RUNS = "runs"
"""Where finished runs stand, one JSON file each."""
UNFINISHED = "checkpoints"
"""Where runs in progress stand; a stage's folder of this name goes when the stage is done."""
ROWS_AT_A_TIME = 8
"""Validation rows whose log-probabilities are computed in one call."""


@dataclass(frozen=True)
class ProxyRun:
    """One training run to be made."""

    id: str
    """Name of its files and of its row in the tables: the mixture's name, and its seed where there are several."""
    mixture: str
    weights: Mapping[str, float]
    """Domain -> weight; they add up to 1."""
    seed: int


@dataclass(frozen=True)
class ProxyPlan:
    """What is the same for all runs. It goes to other processes, so it holds paths and settings only."""

    config: RegMixProxiesConfig
    checkpoint: CheckpointConfig
    domains: Mapping[str, Path]
    """Domain -> folder of its tokens."""
    validation: Mapping[str, Path]
    """Name of a loss -> folder of the tokens it is measured on: their validation split, or all where there is none."""
    tokenizer: Path
    model: Path | None
    """Folder of the checkpoint that runs start from; None: random weights of the preset."""
    fingerprint: str
    """Of all that decides the losses of a mixture and a seed."""

    @property
    def parallel(self) -> ParallelConfig:
        """The layout of a run: one process."""
        return ParallelConfig(precision=self.config.precision)


@dataclass(frozen=True)
class ProxyResult:
    """`runs/NAME.json`."""

    id: str
    mixture: str
    weights: dict[str, float]
    seed: int
    losses: dict[str, float]
    """Validation corpus -> mean negative log-likelihood of its tokens, in nats."""
    epochs: dict[str, float]
    """Domain -> how often the run read its corpus."""
    parameters: int
    trained_tokens: int
    steps_skipped: int
    """Optimizer steps that the step guard left out."""
    last_training_loss: float
    fingerprint: str


def fingerprint_of(config: RegMixProxiesConfig, inputs: Mapping[str, str]) -> str:
    """Hex digest of what decides the losses of a mixture and a seed.

    Args:
        inputs: field -> SHA-256 of what it names; that of the mixtures does not count.
    """
    fields = set(RegMixProxiesConfig.model_fields) - {"workers", "part", "num_seeds"}
    settings = config.model_dump(mode="json", include=fields, exclude={"model": {"path"}})
    counted = {field: digest for field, digest in inputs.items() if field not in ("mixtures", "finished")}
    return hashlib.sha256(json.dumps([settings, counted], sort_keys=True).encode()).hexdigest()


def planned_runs(config: RegMixProxiesConfig, mixtures: Table, domains: Sequence[str], seed: int) -> list[ProxyRun]:
    """Every mixture from every seed, mixture by mixture; of a part, its runs only.

    Raises:
        DataError: a domain of the mixtures that has no corpus (a weight above 0), names that are no file names.
    """
    runs = []
    for number, mixture in enumerate(mixtures.names):
        if Path(mixture).name != mixture or mixture.startswith("."):
            raise DataError(f"{mixtures.path}: run {mixture!r} names a file; use letters, digits, - and _")
        weights = {domain: weight for domain, weight in mixtures.row(number).items() if weight > 0}
        unknown = sorted(set(weights) - set(domains))
        if unknown:
            raise DataError(
                f"{mixtures.path}: run {mixture!r} gives {unknown[0]!r} the weight {weights[unknown[0]]:g}, but "
                f"domains has no corpus of that name; it has {', '.join(domains)}"
            )
        total = sum(weights.values())
        weights = {domain: weight / total for domain, weight in weights.items()}
        for place in range(config.num_seeds):
            run_id = mixture if config.num_seeds == 1 else f"{mixture}.seed{place + 1}"
            runs.append(ProxyRun(run_id, mixture, weights, seed + place))
    place, parts = config.share_of()
    return runs[place::parts]


def run_proxy(plan: ProxyPlan, run: ProxyRun, work: Path, context: ParallelContext) -> ProxyResult:
    """Trains and measures one run, and leaves `runs/NAME.json` in the folder `work`.

    Raises:
        Interrupted: a stop was asked for; the same call goes on from the checkpoint.
    """
    tokenizer = load_tokenizer(plan.tokenizer)
    engine = _engine(plan, tokenizer, run.seed, context)
    folder = work / UNFINISHED / run.id
    folder.mkdir(parents=True, exist_ok=True)
    training = TrainingRun(
        folder, run.id, run.seed, context, plan.checkpoint, None, {"proxy": plan.fingerprint, "run": _identity(run)}
    )
    config = plan.config
    pretraining = PretrainConfig(
        sequence_length=config.sequence_length,
        global_batch_size=config.global_batch_size,
        steps=config.steps,
        optimizer=config.optimizer,
    )
    corpora = [tokens_of(plan.domains[domain], config.sequence_length, tokenizer, run.seed) for domain in run.weights]
    blend = Blend(list(run.weights), [BlendPhase(0, run.weights)])
    train_on(BlendedSamples(corpora, blend), pretraining, config.steps, engine, training)
    counts = blend.counts(config.steps * config.global_batch_size)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    result = ProxyResult(
        id=run.id,
        mixture=run.mixture,
        weights=dict(run.weights),
        seed=run.seed,
        losses={name: _loss(plan, folder, engine, tokenizer) for name, folder in plan.validation.items()},
        epochs={
            domain: round(count * config.sequence_length / corpus.tokens_per_epoch, 4)
            for domain, count, corpus in zip(run.weights, counts.values(), corpora, strict=True)
        },
        parameters=engine.shape.num_parameters(),
        trained_tokens=training.trained_tokens,
        steps_skipped=int(last["steps_skipped"]),
        last_training_loss=last["loss"],
        fingerprint=plan.fingerprint,
    )
    atomic_write_json(work / RUNS / f"{run.id}.json", asdict(result))
    shutil.rmtree(folder)
    del engine, training
    gc.collect()  # engines refer to themselves; the next one needs the memory
    return result


def _identity(run: ProxyRun) -> str:
    return hashlib.sha256(json.dumps([dict(run.weights), run.seed], sort_keys=True).encode()).hexdigest()


def _engine(plan: ProxyPlan, tokenizer: Tokenizer, seed: int, context: ParallelContext) -> MegatronEngine:
    if plan.model is not None:
        engine, _ = load_engine(plan.model, context, plan.config.optimizer)
        check_vocabulary(engine.shape, tokenizer, plan.tokenizer)
        return engine
    model = plan.config.model
    assert model.preset is not None
    shape = get_preset(model.preset).model_copy(update={"vocab_size": model.vocab_size or tokenizer.vocab_size})
    check_vocabulary(shape, tokenizer, plan.tokenizer)
    engine = MegatronEngine(shape, context, plan.config.optimizer)
    engine.load_hf_weights(RandomWeights(shape, seed), f"preset {model.preset}")
    return engine


def tokens_of(
    folder: Path, sequence_length: int, tokenizer: Tokenizer, seed: int, split: Split = "train"
) -> PretrainSamples:
    """Samples of a folder that `tokenize` made, or of one with .bin and .idx files.

    Raises:
        DataError: made with another tokenizer, or nothing of the kind is there.
    """
    shards = read_token_shards(folder, split)
    shards.check_tokenizer(tokenizer)
    return PretrainSamples(shards.prefixes, sequence_length, tokenizer.eos_id, seed, shards.eos_stored)


def _loss(plan: ProxyPlan, folder: Path, engine: MegatronEngine, tokenizer: Tokenizer) -> float:
    """Mean negative log-likelihood of a validation corpus, in nats a token; the same rows in every run."""
    length = plan.config.sequence_length
    split: Split = "validation" if read_token_shards(folder, "validation").prefixes else "train"
    samples = tokens_of(folder, length, tokenizer, 0, split)
    whole_rows = samples.tokens_per_epoch // length
    if whole_rows == 0:
        raise DataError(
            f"{folder}: {samples.tokens_per_epoch} tokens do not fill a row of sequence_length={length}; "
            "give a larger validation corpus, or shorter rows"
        )
    num_rows = min(whole_rows, plan.config.validation_rows or whole_rows)
    total = weight = 0.0
    for first in range(0, num_rows, ROWS_AT_A_TIME):
        batches = [pack(samples[row], engine) for row in range(first, min(first + ROWS_AT_A_TIME, num_rows))]
        total += sum(float(logprobs.double().sum()) for logprobs in engine.logprobs(batches))
        weight += sum(float(batch.loss_weights.sum()) for batch in batches)
    return -total / weight
