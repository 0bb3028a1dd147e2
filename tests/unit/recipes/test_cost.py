"""The cost of a stage follows from tokens and shape: closed forms, proportions, and bounds that must hold."""

from __future__ import annotations

import pytest

from megatron_redone.models.config import ModelShape
from megatron_redone.models.flops import forward_flops
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.recipes.cost import StageCost, Work, stage_cost, whole_cost
from megatron_redone.recipes.graph import Recipe, load_recipe
from megatron_redone.recipes.memory import key_value_bytes, model_bytes
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


def cost(recipe: Recipe, stage: str, gpus: int = 8) -> StageCost:
    return stage_cost(recipe, stage, model_shape(recipe, stage), gpus)


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
    assert cost(recipe, "unknown").memory_bytes is not None
    assert stage_cost(recipe, "cpt", None, 8) == StageCost(None, None, None)
    assert cost(recipe, "sets") == StageCost(None, None, None)


def test_operations_are_those_of_the_model(recipe: Recipe) -> None:
    assert work(recipe, "cpt").flops == pytest.approx(3 * (10 * 4 * 512 / 256) * forward_flops(SHAPE, [256], 256))
    six = 6 * (SHAPE.num_parameters() - SHAPE.vocab_size * SHAPE.hidden_size) * work(recipe, "tuned").trained_tokens
    assert work(recipe, "tuned").flops == pytest.approx(six, rel=0.25)  # half of the logits and short attention on top
    assert work(recipe, "tuned").flops > six


def test_time_is_operations_over_what_the_gpus_reach(recipe: Recipe) -> None:
    found = cost(recipe, "cpt")
    assert found.work is not None and found.seconds == pytest.approx(found.work.flops / (8 * 989e12 * 0.35))
    assert cost(recipe, "cpt", 4).seconds == pytest.approx(2 * found.seconds)  # type: ignore[operator]


def test_drawing_takes_at_least_the_reading_of_keys_and_values(recipe: Recipe) -> None:
    found = cost(recipe, "explore")
    assert found.work is not None and found.seconds is not None
    drawing = found.seconds - found.work.flops / (8 * 989e12 * 0.35)
    read = found.work.drawn_tokens * found.work.mean_context * key_value_bytes(SHAPE)
    assert drawing > read / (8 * 4.8e12 * 0.5)
    assert found.work.mean_context == 100 + 25


def test_the_sum_counts_each_seed_and_leaves_out_what_is_unknown(recipe: Recipe) -> None:
    one, unknown = cost(recipe, "tuned"), cost(recipe, "unknown")
    whole = whole_cost([(one, 3), (unknown, 2)])
    assert whole.work is not None and one.work is not None and one.seconds is not None
    assert whole.work.trained_tokens == 3 * one.work.trained_tokens
    assert whole.seconds == pytest.approx(3 * one.seconds)


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-30b-a3b"])
def test_memory_of_all_ranks_is_one_model_and_its_states_with_the_distributed_optimizer(name: str) -> None:
    """tp x pp x dp ranks hold dp copies of weights and gradients, and one copy of the optimizer's states."""
    shape = get_preset(name)
    ep = 4 if shape.is_moe else 1
    layout = ParallelConfig(tp=2, pp=2, ep=ep, precision="bf16", distributed_optimizer=True)
    replicas, ranks = 8, 32
    every = ranks * model_bytes(shape, layout, True, replicas)
    experts = _experts(shape)
    dense = shape.num_parameters() - experts
    expert_copies = ranks / (ep * layout.etp * layout.pp)
    expected = dense * (replicas * 6 + 12) + experts * (expert_copies * 6 + 12)
    assert every == pytest.approx(expected)
    without = layout.model_copy(update={"distributed_optimizer": False})
    assert model_bytes(shape, without, True, replicas) > model_bytes(shape, layout, True, replicas)


def _experts(shape: ModelShape) -> int:
    return shape.num_layers * shape.num_experts * 3 * shape.hidden_size * shape.moe_ffn_hidden_size
