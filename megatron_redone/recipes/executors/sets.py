"""The sets of RedOne 2.0's three stages: for exploration, targeted fine-tuning and refinement."""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.common.logging import get_logger
from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.conversations import balanced, gold_conversation, write_conversations
from megatron_redone.curation.diagnosis.bucket import BUCKET, bucket_for, write_bucket_file
from megatron_redone.curation.refine import DIFFICULTY, measure_difficulty, refinement_rows, write_difficulty
from megatron_redone.curation.soft_labels import soft_labels
from megatron_redone.curation.target import WEIGHTS, weak_rows, weighted_rows, write_weights
from megatron_redone.generation.weight_stream import WeightDigest
from megatron_redone.recipes import config as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.executors.held_out import held_out_of
from megatron_redone.reporting.schema import DiagnosisResult, read_result
from megatron_redone.tasks.reading import write_rows
from megatron_redone.tasks.row import Row

LOG = get_logger("sets")


def training_rows(execution: Execution, config: HeldOutConfig, extra: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Task rows and general rows of the input `data`, without what the held-out files hold."""
    folder = execution.input_path("data")
    held_out = held_out_of(execution, config, extra, folder)
    task_rows, general = execution.rows("data", "train.jsonl"), execution.general_rows("data")
    if held_out is None:
        LOG.warning("%s: no held-out file beside the training rows; nothing is kept out", folder)
        return task_rows, general
    task_rows, left_out = held_out.without(task_rows)
    general, of_general = held_out.without(general)
    for reason, count in left_out.items():
        execution.counts[f"held_out/{reason}"] = count + of_general[reason]
    return task_rows, general


def run_rl_set(execution: Execution) -> None:
    """Task rows and general rows for exploration."""
    config = execution.config(kinds.RLSetStage)
    task_rows, general = training_rows(execution, config.held_out, config.held_out_rows)
    _write_rows(execution, [*task_rows, *balanced(general, None, execution.seed)[: config.general_rows]])


def _write_rows(execution: Execution, rows: list[Row]) -> None:
    execution.counts["rows"] = write_rows(execution.work / "rows.jsonl", rows)
    execution.counts["rows_with_rationale"] = sum(row.rationale is not None for row in rows)


def run_target_set(execution: Execution) -> None:
    """Rows of the weak bucket, and soft-labelled rows of general and, where asked for, healthy tasks."""
    config = execution.config(kinds.TargetSetStage)
    folder = execution.input_path("diagnosis")
    found = read_result(folder / "diagnosis.json", DiagnosisResult)
    edited = execution.input_path("bucket") if config.bucket is not None else None
    bucket = bucket_for(edited, folder, found)
    task_weights = {name: task.weight for name, task in bucket.tasks.items()}
    train, general = training_rows(execution, config.held_out, config.held_out_rows)
    weighted = weighted_rows(config.weights, train, task_weights)
    chosen = weak_rows(weighted, task_weights, config.num_rows, execution.seed)
    total = len(chosen) / (1.0 - config.general_share - config.healthy_share)
    pools = {
        "general": (general, round(total * config.general_share)),
        "healthy": ([row for row in train if row.task not in task_weights], round(total * config.healthy_share)),
    }
    engine, _, template = execution.load_model()
    generator = execution.generator(engine, config.soft_labels.generation)
    digest = WeightDigest()
    for tensor_name, tensor in engine.export_hf_weights():
        digest.add(tensor_name, tensor)
    conversations = [gold_conversation(one.row) for one in chosen]
    for name, (rows, wanted) in pools.items():
        labelled, counts = soft_labels(
            config.soft_labels, rows, wanted, generator, template, execution.seed, digest.value
        )
        conversations += labelled
        execution.counts.update({f"soft_labels/{name}/{key}": count for key, count in counts.items()})
    if execution.context.is_main:
        execution.counts["conversations"] = write_conversations(execution.work / "conversations.jsonl", conversations)
        write_weights(execution.work / WEIGHTS, chosen, task_weights)
        write_bucket_file(execution.work / BUCKET, bucket)
    execution.counts["weak_tasks"] = len(task_weights)
    execution.counts["upweighted_rows"] = sum(one.weight > 1.0 for one in chosen)


def run_refinement_set(execution: Execution) -> None:
    """Training rows by difficulty."""
    config = execution.config(kinds.RefinementSetStage)
    task_rows, general = training_rows(execution, config.held_out, config.held_out_rows)
    rows = [*task_rows, *general]
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
