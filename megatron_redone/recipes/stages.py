"""What each kind of stage does: reads its inputs, calls the room that knows how, writes its files."""

from __future__ import annotations

import json

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.curation.conversations import (
    TrainingConversation,
    balanced,
    gold_conversation,
    write_conversations,
)
from megatron_redone.curation.diagnose import diagnose
from megatron_redone.curation.refine import DIFFICULTY, measure_difficulty, refinement_rows, write_difficulty
from megatron_redone.curation.sns_bench_rows import sns_bench_rows
from megatron_redone.curation.soft_labels import soft_labels
from megatron_redone.curation.synthesize.config import SynthesizeConfig
from megatron_redone.curation.synthesize.generate import generate
from megatron_redone.curation.target import weak_rows
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.evaluation.runner import baselines, write_evaluation
from megatron_redone.generation.weight_stream import WeightDigest
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.recipes import config as kinds, data_stages
from megatron_redone.recipes.execution import Execution, Executor
from megatron_redone.recipes.executors.dapo import run_dapo
from megatron_redone.recipes.executors.dpo import run_dpo
from megatron_redone.recipes.executors.filter import run_filter, run_tone_model
from megatron_redone.recipes.executors.interactions import run_general_text, run_interaction_logs, run_interactions
from megatron_redone.recipes.executors.pairs import run_judge_agreement, run_pairs
from megatron_redone.recipes.executors.pretrain import train_on_tokens
from megatron_redone.recipes.executors.regmix import run_regmix_fit, run_regmix_mixtures, run_regmix_proxies
from megatron_redone.recipes.executors.sft import read_examples, run_sft_set
from megatron_redone.recipes.executors.stats import run_stats
from megatron_redone.recipes.executors.tokens import run_tokenize, run_tokenizer
from megatron_redone.reporting.schema import DiagnosisResult, read_result
from megatron_redone.tasks.reading import write_rows
from megatron_redone.tasks.row import Row
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.model_folder import check_vocabulary, load_engine
from megatron_redone.training.run import FORWARD_BACKWARD_PASSES
from megatron_redone.training.sft import sft


def run_synthesize(execution: Execution) -> None:
    """Corpus and rows of the generated world."""
    config = execution.config(data_stages.SynthesizeStage)
    own = SynthesizeConfig(**{name: getattr(config, name) for name in SynthesizeConfig.model_fields})
    counts = generate(own, execution.work, execution.seed)
    atomic_write_json(execution.work / "counts.json", counts)
    execution.counts["documents"] = counts["corpus"]["documents"]
    execution.counts.update({f"faults/{kind}": count for kind, count in counts["corpus"]["by_fault"].items()})
    for split, by_task in counts["rows"].items():
        execution.counts[f"rows/{split}"] = sum(sum(languages.values()) for languages in by_task.values())
    execution.counts["rows/general"] = sum(counts["general"].values())


def run_sns_bench_rows(execution: Execution) -> None:
    """Rows of the benchmark's files, and sums as general rows if any are asked for."""
    config = execution.config(data_stages.SNSBenchRowsStage)
    found = sns_bench_rows(config, execution.input_path("data"), execution.max_refused_share, execution.seed)
    for split, rows in found.rows.items():
        if rows:
            write_rows(execution.work / f"{split}.jsonl", rows)
    execution.counts.update(found.counts)
    execution.refused += found.refused


def run_pretrain(execution: Execution) -> None:
    """Pretraining from random weights or a checkpoint."""
    config = execution.config(kinds.PretrainStage)
    tokenizer = load_tokenizer(execution.input_path("tokenizer"))
    if config.model.path is not None:
        engine, _ = load_engine(execution.model_folder("model.path"), execution.context, config.optimizer)
    else:
        assert config.model.preset is not None
        size = config.model.vocab_size or tokenizer.vocab_size
        shape = get_preset(config.model.preset).model_copy(update={"vocab_size": size})
        check_vocabulary(shape, tokenizer, execution.input_path("tokenizer"))
        engine = MegatronEngine(shape, execution.context, config.optimizer)
        engine.load_hf_weights(RandomWeights(shape, execution.seed), f"preset {config.model.preset}")
    execution.counts["parameters"] = engine.shape.num_parameters()
    run = execution.training_run(tokenizer)
    execution.counts.update(train_on_tokens(execution, config, tokenizer, engine, run))
    execution.finish_model(engine, tokenizer, ChatTemplate(tokenizer), run)


def _write_conversations(execution: Execution, conversations: list[TrainingConversation]) -> None:
    execution.counts["conversations"] = write_conversations(execution.work / "conversations.jsonl", conversations)


def run_sft(execution: Execution) -> None:
    """Fine-tuning on conversations."""
    config = execution.config(kinds.SFTStage)
    engine, tokenizer, template = execution.load_model(config.optimizer)
    if config.match_compute_of:
        config = _with_matching_steps(execution, config)
    run = execution.training_run(tokenizer)
    folder = execution.input_path("conversations")
    examples = read_examples(folder / f"step{config.schedule_step}" if config.schedule_step else folder)
    execution.counts.update(sft(config, examples, template, engine, run))
    execution.finish_model(engine, tokenizer, template, run)


def _with_matching_steps(execution: Execution, config: kinds.SFTStage) -> kinds.SFTStage:
    """As many optimizer steps as cost what the named stages spent, in forward-pass tokens."""
    budget = 0
    for place, name in enumerate(config.match_compute_of):
        path = execution.input_path(f"match_compute_of.{place}") / "training.json"
        if not path.is_file():
            raise DataError(f"match_compute_of={name!r}: {path} is missing; name stages that train a model")
        budget += json.loads(path.read_text())["compute_tokens"]
    tokens_per_step = config.global_batch_size * config.sequence_length
    steps = max(1, round(budget / (FORWARD_BACKWARD_PASSES * tokens_per_step)))
    execution.counts["matched_compute_tokens"] = budget
    return config.model_copy(update={"steps": steps})


def run_rl_set(execution: Execution) -> None:
    """Task rows and general rows for exploration."""
    config = execution.config(kinds.RLSetStage)
    general = balanced(execution.general_rows("data"), None, execution.seed)[: config.general_rows]
    rows = [*execution.rows("data", "train.jsonl"), *general]
    _write_rows(execution, rows)


def _write_rows(execution: Execution, rows: list[Row]) -> None:
    execution.counts["rows"] = write_rows(execution.work / "rows.jsonl", rows)
    execution.counts["rows_with_rationale"] = sum(row.rationale is not None for row in rows)


def run_diagnose(execution: Execution) -> None:
    """Answers to the diagnosis rows, and the weak bucket."""
    config = execution.config(kinds.DiagnoseStage)
    engine, _, template = execution.load_model()
    rows = execution.rows("data", "diagnosis.jsonl")
    result, predictions = execution.answer(engine, template, rows, "diagnosis", config.generation)
    found = diagnose(config, result.tasks, predictions, execution.run.inputs["model"])
    if execution.context.is_main:
        write_evaluation(execution.work / "diagnosis_rows", result, predictions)
        atomic_write_json(execution.work / "diagnosis.json", found.model_dump(mode="json"))
    execution.counts["weak_tasks"] = len(found.weak_bucket)


def run_target_set(execution: Execution) -> None:
    """Rows of the weak bucket, and soft-labelled rows of general and, where asked for, healthy tasks."""
    config = execution.config(kinds.TargetSetStage)
    found = read_result(execution.input_path("diagnosis") / "diagnosis.json", DiagnosisResult)
    train = execution.rows("data", "train.jsonl")
    chosen = weak_rows(train, found.weak_bucket, config.num_rows, execution.seed)
    total = len(chosen) / (1.0 - config.general_share - config.healthy_share)
    pools = {
        "general": (execution.general_rows("data"), round(total * config.general_share)),
        "healthy": ([row for row in train if row.task not in found.weak_bucket], round(total * config.healthy_share)),
    }
    engine, _, template = execution.load_model()
    generator = execution.generator(engine, config.soft_labels.generation)
    digest = WeightDigest()
    for name, tensor in engine.export_hf_weights():
        digest.add(name, tensor)
    conversations = [gold_conversation(row) for row in chosen]
    for name, (rows, wanted) in pools.items():
        labelled, counts = soft_labels(
            config.soft_labels, rows, wanted, generator, template, execution.seed, digest.value
        )
        conversations += labelled
        execution.counts.update({f"soft_labels/{name}/{key}": count for key, count in counts.items()})
    if execution.context.is_main:
        _write_conversations(execution, conversations)


def run_refinement_set(execution: Execution) -> None:
    """Training rows by difficulty."""
    config = execution.config(kinds.RefinementSetStage)
    rows = [*execution.rows("data", "train.jsonl"), *execution.general_rows("data")]
    if config.num_candidates is not None:
        per_task = -(-config.num_candidates // len({row.task for row in rows}))
        rows = balanced(rows, per_task, execution.seed)
    engine, _, template = execution.load_model()
    generator = execution.generator(engine, config.generation)
    measured = measure_difficulty(config, rows, generator, template, execution.seed)
    if execution.context.is_main:
        _write_rows(execution, refinement_rows(config, measured, execution.seed))
        write_difficulty(execution.work / DIFFICULTY, measured)
    execution.counts["measured_rows"] = len(measured)
    execution.counts["over_long_prompts"] = len(rows) - len(measured)
    execution.counts["informative_rows"] = sum(0.0 < m.pass_rate < 1.0 for m in measured)


def run_evaluate(execution: Execution) -> None:
    """Scores of a model made elsewhere, which is copied as it is."""
    engine, tokenizer, template = execution.load_model()
    execution.finish_model(engine, tokenizer, template, None)


def run_baselines(execution: Execution) -> None:
    """Scores of rules without a model."""
    config = execution.config(kinds.BaselinesStage)
    results = baselines(execution.rows("data", f"{config.split}.jsonl"), execution.rows("data", "train.jsonl"))
    atomic_write_json(execution.work / "baselines.json", [result.model_dump(mode="json") for result in results])


EXECUTORS: dict[str, Executor] = {
    "synthesize": run_synthesize,
    "interaction_logs": run_interaction_logs,
    "interactions": run_interactions,
    "general_text": run_general_text,
    "sns_bench_rows": run_sns_bench_rows,
    "tokenizer": run_tokenizer,
    "tokenize": run_tokenize,
    "pretrain": run_pretrain,
    "sft_set": run_sft_set,
    "sft": run_sft,
    "dpo": run_dpo,
    "rl_set": run_rl_set,
    "dapo": run_dapo,
    "diagnose": run_diagnose,
    "target_set": run_target_set,
    "refinement_set": run_refinement_set,
    "evaluate": run_evaluate,
    "baselines": run_baselines,
    "regmix_mixtures": run_regmix_mixtures,
    "regmix_proxies": run_regmix_proxies,
    "regmix_fit": run_regmix_fit,
    "stats": run_stats,
    "judge_agreement": run_judge_agreement,
    "pairs": run_pairs,
    "filter": run_filter,
    "tone_model": run_tone_model,
}

ON_ONE_RANK = {"regmix_mixtures", "regmix_proxies", "regmix_fit", "interaction_logs", "interactions", "general_text"}
ON_ONE_RANK |= {"filter", "tone_model"}
ON_ONE_RANK |= {"synthesize", "tokenizer", "tokenize", "sft_set", "rl_set", "baselines", "sns_bench_rows"}
"""Kinds that use no model, or many small ones in processes of their own: rank 0 runs them while the others wait."""
