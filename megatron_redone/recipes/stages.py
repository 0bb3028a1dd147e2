"""What each kind of stage does: reads its inputs, calls the room that knows how, writes its files."""

from __future__ import annotations

import json

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.curation.sns_bench_rows import sns_bench_rows
from megatron_redone.curation.synthesize.config import SynthesizeConfig
from megatron_redone.curation.synthesize.generate import generate
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.evaluation.runner import baselines
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.recipes import config as kinds, data_stages
from megatron_redone.recipes.execution import Execution, Executor
from megatron_redone.recipes.executors.dapo import run_dapo
from megatron_redone.recipes.executors.diagnosis import run_diagnose
from megatron_redone.recipes.executors.dpo import run_dpo
from megatron_redone.recipes.executors.filter import run_filter, run_tone_model
from megatron_redone.recipes.executors.interactions import run_general_text, run_interaction_logs, run_interactions
from megatron_redone.recipes.executors.pairs import run_judge_agreement, run_pairs
from megatron_redone.recipes.executors.pretrain import train_on_tokens
from megatron_redone.recipes.executors.regmix import run_regmix_fit, run_regmix_mixtures, run_regmix_proxies
from megatron_redone.recipes.executors.sets import run_refinement_set, run_rl_set, run_target_set
from megatron_redone.recipes.executors.sft import read_examples, run_sft_set
from megatron_redone.recipes.executors.stats import run_stats
from megatron_redone.recipes.executors.tokens import run_tokenize, run_tokenizer
from megatron_redone.tasks.reading import write_rows
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
    tokenizer = load_tokenizer(execution.model_folder("tokenizer"))
    if config.model.path is not None:
        engine, _ = load_engine(execution.model_folder("model.path"), execution.context, config.optimizer)
    else:
        assert config.model.preset is not None
        size = config.model.vocab_size or tokenizer.vocab_size
        shape = get_preset(config.model.preset).model_copy(update={"vocab_size": size})
        check_vocabulary(shape, tokenizer, execution.model_folder("tokenizer"))
        engine = MegatronEngine(shape, execution.context, config.optimizer)
        engine.load_hf_weights(RandomWeights(shape, execution.seed), f"preset {config.model.preset}")
    execution.counts["parameters"] = engine.shape.num_parameters()
    run = execution.training_run(tokenizer)
    execution.counts.update(train_on_tokens(execution, config, tokenizer, engine, run))
    execution.finish_model(engine, tokenizer, ChatTemplate(tokenizer), run)


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
