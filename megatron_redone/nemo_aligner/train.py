"""Preference optimisation with NeMo-Aligner's trainer and our engine: the second backend of the stage `dpo`.

Its `DPOTrainer` runs in a process of its own environment, with its data set, sampler, scheduler and loss. Pairs,
reference log-probabilities, checkpoints, resume, metrics and the model folder are those of the native backend.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import TrainingError
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.data.document import Document
from megatron_redone.data.tokenizer import Tokenizer
from megatron_redone.nemo_aligner.config import NemoAlignerConfig, NemoEnvironmentConfig
from megatron_redone.nemo_aligner.mapping import from_nemo, steps_and_epochs, to_nemo
from megatron_redone.nemo_aligner.process import NemoAlignerProcess
from megatron_redone.nemo_aligner.service import EngineService, PreparedPair
from megatron_redone.training.config import DPOConfig
from megatron_redone.training.dpo import objective_of, validation_metrics
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.preference_pairs import PairSet
from megatron_redone.training.reference_logprobs import ReferenceLogprobs
from megatron_redone.training.run import TrainingRun

LOG_FILE, PAIRS_FILE = "nemo_aligner.log", "nemo_aligner_pairs.jsonl"


def dpo_with_nemo_aligner(
    config: DPOConfig,
    settings: NemoAlignerConfig,
    pairs: PairSet,
    reference: ReferenceLogprobs,
    engine: MegatronEngine,
    run: TrainingRun,
    validation: PairSet | None = None,
) -> dict[str, int]:
    """Trains the engine on the pairs; returns counts for the manifest. Arguments as those of `training.dpo.dpo`.

    Raises:
        ConfigError: settings that its trainer has no word for.
        TrainingError: its process failed.
    """
    configuration = to_nemo(config, settings, engine.context.config, run.seed, len(pairs))
    num_steps, _ = steps_and_epochs(config, len(pairs))
    texts = PairTexts(pairs)
    path = run.folder / PAIRS_FILE
    if engine.context.is_main:
        write_jsonl(path, texts.lines())
    with contextlib.ExitStack() as stack:
        service: EngineService | None = None

        def step(number: int) -> dict[str, float]:
            nonlocal service
            if service is None:
                process = None
                if engine.context.is_main:
                    process = stack.enter_context(NemoAlignerProcess(settings.python, run.folder / LOG_FILE))
                    order = {
                        "config": configuration,
                        "pairs": str(path),
                        "eos_id": pairs.template.end_id,
                        "step": number,
                        "shuffle": settings.shuffle,
                    }
                    process.send("train_dpo", order)
                prepared = Prepared(pairs, reference)
                service = EngineService(engine, process, prepared, texts.ids, config.max_tokens_per_microbatch)
            metrics = service.until_update()
            run.note_samples(service.sample_ids)
            run.trained_tokens += service.num_tokens
            run.forward_tokens += service.num_tokens
            if validation is not None and (number + 1 == num_steps or (number + 1) % config.validation_every == 0):
                metrics |= validation_metrics(config, validation, reference, objective_of(config), engine)
            return metrics

        run.steps(engine, num_steps, step)
    return {"pairs": len(pairs), "steps_per_epoch": len(pairs) // config.global_batch_size, **pairs.counts}


def settings_of_file(
    path: Path,
    settings: NemoEnvironmentConfig,
    log: Path,
    mapping: Callable[[Mapping[str, Any], Path], dict[str, Any]] = from_nemo,
) -> dict[str, Any]:
    """Our settings that a YAML file of NeMo-Aligner's asks for; read in its environment.

    Args:
        mapping: of its keys, `dapo_mapping.from_nemo` for a stage `dapo`.
    Raises:
        ConfigError: keys that are unknown here.
        TrainingError: the file cannot be read.
    """
    with NemoAlignerProcess(settings.python, log) as process:
        process.send("read_configuration", {"path": str(path.resolve())})
        return mapping(process.receive().values["tree"], path)


class PairTexts:
    """The pairs as the file that NeMo-Aligner's data set reads: prompts in the chat template, answers, rewards.

    The data set asks for the token ids of a prompt and of a prompt with an answer. They are looked up by the text, so
    they are exactly those that the native trainer reads: a tokenizer that merged tokens across the border between
    prompt and answer would give others. The end token the data set adds itself.
    """

    def __init__(self, pairs: PairSet) -> None:
        self.pairs = pairs
        self._asked: dict[bytes, tuple[int, int | None]] = {}
        for place in range(len(pairs)):
            prompt, *answers = self._texts(place)
            self._asked[_digest(prompt)] = (place, None)
            for side, answer in enumerate(answers):
                self._asked[_digest(prompt + answer)] = (place, side)

    def lines(self) -> Iterator[dict[str, Any]]:
        """One object a pair."""
        for place, (name, rewards) in enumerate(zip(self.pairs.ids, self.pairs.rewards, strict=True)):
            line = dict(zip(("prompt", "chosen_response", "rejected_response"), self._texts(place), strict=True))
            given = {"chosen_reward": rewards[0], "rejected_reward": rewards[1]} if self.pairs.needs_rewards else {}
            yield {"id": name, **line, **given}

    def ids(self, text: str) -> Sequence[int]:
        """Token ids of a text that the data set asks for.

        Raises:
            TrainingError: it asks for a text of no pair.
        """
        if _digest(text) not in self._asked:
            raise TrainingError(f"NeMo-Aligner's data set asks for the tokens of {text[:80]!r}, which is of no pair")
        place, side = self._asked[_digest(text)]
        document = self.pairs.documents(place)[side or 0]
        return document.token_ids[: prompt_length(document)] if side is None else document.token_ids[:-1]

    def _texts(self, place: int) -> tuple[str, str, str]:
        chosen, rejected = self.pairs.documents(place)
        cut = prompt_length(chosen)
        spelled = partial(spell, tokenizer=self.pairs.template.tokenizer)
        return spelled(chosen.token_ids[:cut]), spelled(chosen.token_ids[cut:-1]), spelled(rejected.token_ids[cut:-1])


def spell(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of ids, special tokens spelled out."""
    names = {number: name for name, number in tokenizer.special_tokens.items()}
    parts = [
        "".join(names[i] for i in run) if special else tokenizer.decode(run)
        for special, run in ((key, list(run)) for key, run in groupby(ids, key=names.__contains__))
    ]
    return "".join(parts)


def prompt_length(document: Document) -> int:
    """Tokens before the answer."""
    return next(place for place, learnt in enumerate(document.loss_mask) if learnt)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Prepared:
    """The prepared pairs by id, read from disk when asked for."""

    def __init__(self, pairs: PairSet, reference: ReferenceLogprobs) -> None:
        self.pairs, self.reference = pairs, reference
        self._places = {name: place for place, name in enumerate(pairs.ids)}

    def __getitem__(self, name: str) -> PreparedPair:
        found = [
            replace(document, signals={"reference_logprobs": self.reference.of(document)})
            for document in self.pairs.documents(self._places[name])
        ]
        return PreparedPair(*found)
