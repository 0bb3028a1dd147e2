"""The cost of a stage follows from tokens and shape: closed forms, proportions, and bounds that must hold."""

from __future__ import annotations

import pytest

from megatron_redone.models.flops import forward_flops
from megatron_redone.models.presets import get_preset
from megatron_redone.recipes.cost import Work
from megatron_redone.recipes.forecast import StageForecast, forecast_stage
from megatron_redone.recipes.graph import Recipe, load_recipe
from megatron_redone.recipes.plan import model_shape

RECIPE = """\
name: cost
output: run
cluster: {nodes: 2, gpus_per_node: 4}
parallel: {precision: bf16}
expect:
  prompt_tokens: 100
  response_tokens: 50
  conversation_tokens: 200
  document_tokens: 256
  groups_kept: 0.5
  rows: {sets/step2: 1000, ./chats: 500, ./rows/test: 40, pairs/train: 64, ./rows/train: 300}
stages:
  start: {kind: evaluate, model: ./hub/Qwen3-0.6B}
  judged: {kind: evaluate, model: start, evaluate: {data: ./rows}}
  cpt: {kind: pretrain, model: {path: start}, tokens: ./tokens, tokenizer: ./hub/x, sequence_length: 512,
        global_batch_size: 4, steps: 10}
  sets: {kind: sft_set, sns: [./chats], schedule: redone}
  tuned: {kind: sft, model: cpt, conversations: sets, schedule_step: 2, epochs: 3, sequence_length: 1024}
  unknown: {kind: sft, model: cpt, conversations: sets, schedule_step: 1, epochs: 3, sequence_length: 1024}
  pairs: {kind: pairs, files: [./given]}
  dpo: {kind: dpo, model: tuned, pairs: pairs, epochs: 2}
  rows: {kind: rl_set, data: ./rows, general_rows: 7}
  explore: {kind: dapo, model: tuned, rows: rows, num_rollouts: 3, prompts_per_rollout: 8, responses_per_prompt: 4,
            minibatch_prompts: 2}
  hard: {kind: refinement_set, model: explore, data: ./rows, num_rows: 100, num_samples: 8}
"""
SHAPE = get_preset("qwen3-0.6b")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("cost") / "recipe.yaml"
    path.write_text(RECIPE)
    return load_recipe(path)


def cost(recipe: Recipe, stage: str, gpus: int = 8) -> StageForecast:
    assert recipe.config.cluster is not None
    return forecast_stage(recipe, stage, model_shape(recipe, stage), gpus, recipe.config.cluster.accelerator())


def work(recipe: Recipe, stage: str) -> Work:
    found = cost(recipe, stage).work
    assert found is not None
    return found


def test_tokens_of_every_kind_of_stage(recipe: Recipe) -> None:
    tokens = {
        name: (found.trained_tokens, found.read_tokens, found.drawn_tokens)
        for name in ("judged", "cpt", "tuned", "dpo", "explore", "hard")
        for found in [work(recipe, name)]
    }
    assert tokens == {
        "judged": (0, 40 * 100, 40 * 50),
        "cpt": (10 * 4 * 512, 0, 0),
        "tuned": (1000 * 3 * 200, 0, 0),
        "dpo": (64 * 2 * 2 * 200, 64 * 2 * 200, 0),  # the reference reads each pair once
        "explore": (96 * 150, 96 / 0.5 * 100 + 96 * 150, 96 / 0.5 * 50),
        "hard": (0, 300 * 8 * 100, 300 * 8 * 50),
    }


def test_what_the_settings_do_not_tell_is_told_as_unknown(recipe: Recipe) -> None:
    assert cost(recipe, "unknown").work is None and cost(recipe, "unknown").seconds is None
    assert cost(recipe, "unknown").memory_bytes > 0
    assert recipe.config.cluster is not None
    nameless = forecast_stage(recipe, "cpt", None, 8, recipe.config.cluster.accelerator())
    assert (nameless.work, nameless.seconds, nameless.memory_bytes) == (None, None, 0)
    assert cost(recipe, "sets").seconds is None


def test_operations_are_those_of_the_model(recipe: Recipe) -> None:
    assert work(recipe, "cpt").flops == pytest.approx(3 * (10 * 4 * 512 / 256) * forward_flops(SHAPE, [256], 256))
    six = 6 * (SHAPE.num_parameters() - SHAPE.vocab_size * SHAPE.hidden_size) * work(recipe, "tuned").trained_tokens
    assert work(recipe, "tuned").flops == pytest.approx(six, rel=0.25)  # half of the logits and short attention on top
    assert work(recipe, "tuned").flops > six


def test_time_of_training_is_steps_times_the_planned_step(recipe: Recipe) -> None:
    found = cost(recipe, "cpt")
    assert found.training is not None and found.steps == 10
    assert found.seconds == pytest.approx(10 * found.training.time.seconds)
    tuned = cost(recipe, "tuned")
    assert tuned.steps == pytest.approx(1000 * 3 * 200 / (64 * 1024))
    assert tuned.seconds is not None and (half := cost(recipe, "tuned", 4).seconds) is not None
    assert half > tuned.seconds > half / 2.2


def test_rows_of_reinforcement_learning_are_filled_with_expected_answers(recipe: Recipe) -> None:
    found = cost(recipe, "explore")
    assert found.batch is not None and found.full_batch is not None
    # 8 answers of 150 tokens a step over 8 replicas: one short row each; memory for a whole one
    assert (found.batch.global_batch, found.batch.sequence_length) == (8, 150)
    assert (found.full_batch.global_batch, found.full_batch.sequence_length) == (8, 32_768)
    assert found.steps == 3 * 4


def test_drawing_takes_at_least_the_reading_of_keys_and_values(recipe: Recipe) -> None:
    found = cost(recipe, "explore")
    (part,) = found.rollouts
    assert found.work is not None
    read = found.work.drawn_tokens * 125 * 4 * 28 * 8 * 128  # keys and values in bf16, 28 layers of 8 heads of 128
    assert part.plan.seconds > read / (8 * 4.8e12 * 0.5)
    assert part.drawn.drawing.batches == 3 / 0.5 and part.drawn.drawing.responses == 32
    assert found.seconds == pytest.approx(
        found.training_seconds + found.passed_seconds + part.plan.seconds + part.prompt_seconds
    )
    assert found.sync == 0  # the generator in the process has the trainer's own weights


def test_the_sum_counts_each_seed() -> None:
    once = StageForecast("a", "sft", SHAPE, 8, 1)
    assert once.gpu_hours is None and once.problems == []
