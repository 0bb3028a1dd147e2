"""What a stage gets to work with."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import Tokenizer
from megatron_redone.evaluation.runner import evaluate, write_evaluation
from megatron_redone.generation.base import GenerationEngine
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.factory import engine_for_model, engine_settings
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.recipes.graph import StageRun
from megatron_redone.recipes.stage_config import (
    MODEL,
    EvaluationConfig,
    ScoredStage,
    StageConfig,
    TrainingStage,
    model_folder,
)
from megatron_redone.recipes.workspace import resumable
from megatron_redone.reporting.schema import EvaluationResult, Prediction
from megatron_redone.scoring.config import ScoringConfig
from megatron_redone.tasks.reading import read_rows
from megatron_redone.tasks.row import Row
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.model_folder import load_engine, save_model_folder
from megatron_redone.training.run import TrainingRun

T = TypeVar("T", bound=StageConfig)
GENERAL = "general.jsonl"


@dataclass
class Execution:
    """One stage run being executed: its configuration, inputs and work folder, on every rank."""

    run: StageRun
    work: Path
    context: ParallelContext
    input_path: Callable[[str], Path]
    """Folder of an input field."""
    max_refused_share: float
    identity: Mapping[str, Any]
    """What decides the result: the configuration, and path and hash of each input."""
    counts: dict[str, int | float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    evaluation_seconds: float = 0.0
    _generator: tuple[tuple[GenerationConfig, ModelShape], GenerationEngine] | None = None

    @property
    def seed(self) -> int:
        """Seed of the stage."""
        return self.run.run_seed

    def config(self, kind: type[T]) -> T:
        """The configuration, as the type that the executor of this kind knows."""
        assert isinstance(self.run.config, kind)
        return self.run.config

    def rows(self, name: str, file: str) -> list[Row]:
        """Rows of a file in an input's folder; refused ones go into the manifest."""
        read = read_rows(self.input_path(name) / file, self.max_refused_share)
        self.refused += read.refused
        self.counts[f"rows_refused/{file}"] = len(read.refused)
        return list(read.rows)

    def general_rows(self, name: str) -> list[Row]:
        """Rows of general ability in an input's folder; none where the data has no such file."""
        return self.rows(name, GENERAL) if (self.input_path(name) / GENERAL).is_file() else []

    def model_folder(self, name: str = "model") -> Path:
        """The model of an input: a stage's, or a folder made elsewhere."""
        return model_folder(self.input_path(name))

    def load_model(self, optimizer: OptimizerConfig | None = None) -> tuple[MegatronEngine, Tokenizer, ChatTemplate]:
        """Engine, tokenizer and chat template of the input `model`."""
        engine, tokenizer = load_engine(self.model_folder(), self.context, optimizer)
        return engine, tokenizer, ChatTemplate(tokenizer)

    def generator(self, engine: MegatronEngine, config: GenerationConfig) -> GenerationEngine:
        """The generation engine of the settings, with the engine's weights as they are now; closed with the stage.

        One that holds a copy of the weights is kept: the same settings get it again, brought up to date.
        """
        if config.engine == "megatron":
            return engine_for_model(config, engine.model, self.context, engine.export_hf_weights)
        what = (engine_settings(config), engine.shape)
        if self._generator is not None and self._generator[0] == what:
            self._generator[1].update_weights(engine.export_hf_weights(), version=0)
        else:
            self.close()
            made = engine_for_model(
                config, engine.model, self.context, engine.export_hf_weights, engine.tokenizer_fingerprint
            )
            self._generator = (what, made)
        return self._generator[1]

    def close(self) -> None:
        """Frees what the stage's generation engine holds."""
        if self._generator is not None:
            self._generator[1].close()
            self._generator = None

    def training_run(self, tokenizer: Tokenizer) -> TrainingRun:
        """Metrics and checkpoints of this stage."""
        config = self.config(TrainingStage)
        fixed = resumable(self.identity)
        settings = json.dumps(fixed["config"], sort_keys=True)
        inputs = {f"input {name}": record["sha256"] for name, record in fixed["inputs"].items()}
        return TrainingRun(
            self.work,
            self.run.id,
            self.seed,
            self.context,
            config.checkpoint,
            config.watchdog_minutes,
            {
                "config": hashlib.sha256(settings.encode()).hexdigest(),
                "tokenizer": tokenizer.fingerprint,
                **inputs,
            },
        )

    def finish_model(
        self,
        engine: MegatronEngine,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        training: TrainingRun | None,
    ) -> None:
        """Evaluates the model on held-out rows and writes its folder."""
        if training is not None:
            self.counts.update(training.summary())
        evaluation = self.config(ScoredStage).evaluate
        if evaluation is not None:
            self.evaluate(engine, template, evaluation)
        save_model_folder(engine, tokenizer, self.work / MODEL)

    def evaluate(self, engine: MegatronEngine, template: ChatTemplate, config: EvaluationConfig) -> None:
        """Answers and scores of the held-out rows, in `evaluation/`."""
        began = time.monotonic()
        rows = self.rows("evaluate.data", f"{config.split}.jsonl")
        result, predictions = self.answer(engine, template, rows, config.split, config.generation, config.scoring)
        if self.context.is_main:
            write_evaluation(self.work / "evaluation", result, predictions)
        self.evaluation_seconds = time.monotonic() - began

    def answer(
        self,
        engine: MegatronEngine,
        template: ChatTemplate,
        rows: Sequence[Row],
        split: str,
        generation: GenerationConfig,
        scoring: ScoringConfig | None = None,
    ) -> tuple[EvaluationResult, list[Prediction]]:
        """Scores of the engine's model on rows."""
        return evaluate(
            rows,
            self.generator(engine, generation),
            template,
            generation,
            label=self.run.name,
            split=split,
            model=self.run.id,
            seed=self.run.seed,
            scoring=scoring,
        )


Executor = Callable[[Execution], Any]
