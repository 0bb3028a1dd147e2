"""The tokens that pretraining reads: one corpus or a blend, and their validation splits."""

from __future__ import annotations

from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import derive_seed
from megatron_redone.data.blend import Blend, BlendedSamples, BlendPhase
from megatron_redone.data.blend_weights import read_weights
from megatron_redone.data.config import BlendConfig
from megatron_redone.data.indexed_corpus import PretrainSamples
from megatron_redone.data.token_folder import Split, TokenShards, read_token_shards
from megatron_redone.data.tokenizer import Tokenizer
from megatron_redone.recipes.config import PretrainStage
from megatron_redone.recipes.execution import Execution
from megatron_redone.training.blend_ledger import BlendLedger
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.pretrain import check_epochs, pretrain, pretrain_blend
from megatron_redone.training.run import TrainingRun
from megatron_redone.training.validation import Validation

ONE = "corpus"
"""What the documents of a single corpus are called."""


def train_on_tokens(
    execution: Execution, config: PretrainStage, tokenizer: Tokenizer, engine: MegatronEngine, run: TrainingRun
) -> dict[str, int | float]:
    """Pretrains the engine on what the stage names; returns counts."""
    source = _Source(config.sequence_length, tokenizer)
    if config.blend is None:
        folder = execution.input_path("tokens")
        samples = source.samples(folder, ONE, run.seed)
        return {**pretrain(config, samples, engine, run, _validation(config, source, {ONE: folder}))}
    folders = {name: execution.input_path(f"blend.corpora.{name}") for name in config.blend.corpora}
    corpora = {
        name: source.samples(folder, name, derive_seed(run.seed, "blend", name)) for name, folder in folders.items()
    }
    blend = Blend(list(corpora), _phases(execution, config.blend))
    blended = BlendedSamples(list(corpora.values()), blend)
    assert config.steps is not None
    check_epochs(blended, config.steps * config.global_batch_size, config.blend.max_epochs)
    ledger = BlendLedger(
        blend,
        {name: read_token_shards(folder).fingerprint for name, folder in folders.items()},
        {name: samples.tokens_per_epoch / samples.sequence_length for name, samples in corpora.items()},
    )
    return pretrain_blend(config, blended, ledger, engine, run, _validation(config, source, folders))


def _phases(execution: Execution, config: BlendConfig) -> list[BlendPhase]:
    return [
        BlendPhase(
            phase.from_sample,
            phase.weights
            if phase.weights is not None
            else read_weights(execution.input_path(f"blend.phases.{number}.weights_from")),
        )
        for number, phase in enumerate(config.phases)
    ]


def _validation(config: PretrainStage, source: _Source, folders: dict[str, Path]) -> Validation | None:
    if config.validation is None:
        return None
    held_out = {name: folder for name, folder in folders.items() if source.shards(folder, "validation").prefixes}
    if not held_out:
        raise DataError(
            f"validation: none of {', '.join(map(str, folders.values()))} has a validation split; tokenise with "
            "validation_share, or leave validation out"
        )
    corpora = {name: source.samples(folder, name, 0, "validation") for name, folder in held_out.items()}
    return Validation(config.validation, corpora)


class _Source:
    """Opens tokenized folders for one stage."""

    def __init__(self, sequence_length: int, tokenizer: Tokenizer) -> None:
        self.sequence_length, self.tokenizer = sequence_length, tokenizer

    def shards(self, folder: Path, split: Split) -> TokenShards:
        """A split, made with the tokenizer of the stage."""
        shards = read_token_shards(folder, split)
        shards.check_tokenizer(self.tokenizer)
        return shards

    def samples(self, folder: Path, name: str, seed: int, split: Split = "train") -> PretrainSamples:
        """Samples of a split."""
        shards = self.shards(folder, split)
        if not shards.prefixes:
            raise DataError(f"{folder}: no documents in its split {split!r}; tokenise the text again")
        return PretrainSamples(
            shards.prefixes,
            self.sequence_length,
            self.tokenizer.eos_id,
            seed,
            shards.eos_stored,
            name if split == "train" else f"{name}.{split}",
        )
