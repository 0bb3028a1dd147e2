"""vLLM and the in-process generator are one engine to whoever asks: same tokens, same log-probabilities, same updates.

Needs vLLM: `make test-vllm`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from megatron_redone.common.errors import CheckpointError, InputError, RedoneError
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.factory import engine_for_model
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.generation.vllm_engine import VLLMEngine
from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import PRESETS
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.parallel.platform import STREAM_NAMES
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.generation_agreement import assert_agree

pytest.importorskip("vllm", reason="vLLM is not installed; make test-vllm runs this in an environment that has it")
pytestmark = pytest.mark.vllm

FAMILIES = ("qwen3-tiny", "llama-tiny", "qwen2.5-tiny", "qwen3-moe-tiny")
CONFIG = GenerationConfig.model_validate(
    {"engine": "vllm", "max_prompt_tokens": 40, "max_new_tokens": 16, "vllm": {"kv_cache_gib": 0.05}}
)


def shape_of(name: str) -> ModelShape:
    smallest = {"head_dim": 32, "num_heads": 2, "num_kv_heads": 1}  # vLLM on a CPU takes no smaller heads
    return PRESETS[name].model_copy(update=smallest)


def prompts_of(shape: ModelShape, count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 40, (count,), generator=generator).tolist()
    return [torch.randint(0, shape.vocab_size, (n,), generator=generator).tolist() for n in lengths]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(
    request: pytest.FixtureRequest, parallel_context: ParallelContext
) -> Iterator[tuple[MegatronEngine, MegatronGenerator, VLLMEngine]]:
    engine = MegatronEngine(shape_of(request.param), parallel_context)
    engine.load_hf_weights(SpreadWeights(engine.shape, 5), "test weights")
    copy = engine_for_model(CONFIG, engine.model, parallel_context, engine.export_hf_weights)
    assert isinstance(copy, VLLMEngine)
    yield engine, MegatronGenerator(engine.model, parallel_context), copy
    copy.close()


def test_greedy_tokens_and_logprobs_agree(pair: tuple[MegatronEngine, MegatronGenerator, VLLMEngine]) -> None:
    engine, ours, theirs = pair
    prompts = prompts_of(engine.shape, 50)
    params = SamplingParams(max_new_tokens=16, temperature=0.0, stop_ids=(3, 7))
    keys = [str(i) for i in range(50)]
    parted = assert_agree(
        engine, prompts, params, keys, ours.generate(prompts, params, keys), theirs.generate(prompts, params, keys)
    )
    assert parted == 0


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.8)])
def test_the_same_tokens_are_drawn(
    pair: tuple[MegatronEngine, MegatronGenerator, VLLMEngine], temperature: float, top_p: float
) -> None:
    engine, ours, theirs = pair
    prompts = prompts_of(engine.shape, 12)
    params = SamplingParams(16, temperature, top_p, num_samples=3, stop_ids=(3, 7), seed=4)
    keys = [str(i) for i in range(12)]
    parted = assert_agree(
        engine, prompts, params, keys, ours.generate(prompts, params, keys), theirs.generate(prompts, params, keys)
    )
    assert parted <= 1


def test_an_update_changes_both_alike(pair: tuple[MegatronEngine, MegatronGenerator, VLLMEngine]) -> None:
    engine, ours, theirs = pair
    prompts, keys = prompts_of(engine.shape, 8), [str(i) for i in range(8)]
    params = SamplingParams(max_new_tokens=12, temperature=0.0)
    before = theirs.generate(prompts, params, keys)
    engine.load_hf_weights(SpreadWeights(engine.shape, 6), "other weights")
    theirs.update_weights(engine.export_hf_weights(), version=3)
    after = theirs.generate(prompts, params, keys)
    assert [g[0].token_ids for g in before] != [g[0].token_ids for g in after]
    assert assert_agree(engine, prompts, params, keys, ours.generate(prompts, params, keys), after) == 0
    assert {g[0].version for g in after} == {3}
    engine.load_hf_weights(SpreadWeights(engine.shape, 5), "test weights")
    theirs.update_weights(engine.export_hf_weights(), version=0)
    assert assert_agree(engine, prompts, params, keys, before, theirs.generate(prompts, params, keys)) == 0


@pytest.fixture(scope="module")
def qwen(parallel_context: ParallelContext) -> Iterator[VLLMEngine]:
    engine = VLLMEngine(CONFIG, shape_of("qwen3-tiny"), parallel_context)
    yield engine
    engine.close()


def weights(qwen: VLLMEngine, seed: int = 5) -> dict[str, Tensor]:
    return dict(SpreadWeights(qwen.core.shape, seed))


def test_bad_weights_are_refused_and_stop_the_engine_until_good_ones_come(qwen: VLLMEngine) -> None:
    params, prompts = SamplingParams(4, 0.0), [[1, 2, 3]]
    qwen.update_weights(weights(qwen).items(), 0)
    good = qwen.generate(prompts, params, ["a"])
    bad = weights(qwen)
    bad.pop("model.layers.1.mlp.up_proj.weight")
    bad["model.norm.weight"] = torch.ones(3)
    bad["model.nothing.weight"] = torch.ones(3)
    stream = [*bad.items(), ("model.embed_tokens.weight", bad["model.embed_tokens.weight"])]
    with pytest.raises(CheckpointError, match=r"version 1: 4 tensors do not fit") as refused:
        qwen.update_weights(stream, 1)
    for problem in (
        "model.layers.1.mlp.up_proj.weight: missing",
        "model.norm.weight: shape (3,), the model has (64,)",
        "model.nothing.weight: the model has no such tensor",
        "model.embed_tokens.weight: came twice",
    ):
        assert problem in str(refused.value)
    with pytest.raises(RedoneError, match=r"answers nothing: the update of its weights to version 1 failed"):
        qwen.generate(prompts, params, ["a"])
    qwen.update_weights(weights(qwen).items(), 2)
    assert [c.token_ids for c in qwen.generate(prompts, params, ["a"])[0]] == [c.token_ids for c in good[0]]


def test_a_stream_that_breaks_off_stops_the_engine(qwen: VLLMEngine) -> None:
    def stream() -> Iterator[tuple[str, Tensor]]:
        yield from list(weights(qwen).items())[:3]
        raise OSError("the link broke")

    with pytest.raises(OSError, match=r"the link broke"):
        qwen.update_weights(stream(), 1)
    with pytest.raises(RedoneError, match=r"answers nothing"):
        qwen.generate([[1]], SamplingParams(4, 0.0), ["a"])
    qwen.update_weights(weights(qwen).items(), 2)


def test_samples_do_not_depend_on_the_batch(qwen: VLLMEngine) -> None:
    qwen.update_weights(weights(qwen).items(), 0)
    prompts, keys = [[1, 2, 3], [9] * 11, [4, 4], [1, 2, 3]], ["p", "q", "r", "s"]
    params = SamplingParams(max_new_tokens=8, num_samples=4, seed=8)
    whole = qwen.generate(prompts, params, keys)
    alone = [qwen.generate([prompt], params, [key])[0] for prompt, key in zip(prompts, keys, strict=True)]
    assert [[c.token_ids for c in g] for g in whole] == [[c.token_ids for c in g] for g in alone]
    assert [c.token_ids for c in whole[0]] != [c.token_ids for c in whole[3]]


def test_the_process_stays_as_it_was(qwen: VLLMEngine, parallel_context: ParallelContext) -> None:
    def settings() -> list[object]:
        cuda = [getattr(torch.cuda, name) for name in STREAM_NAMES]
        return [torch.get_float32_matmul_precision(), torch.set_num_threads, torch.get_default_dtype(), *cuda]

    before, product = settings(), torch.randn(256, 256) @ torch.randn(256, 256)
    qwen.update_weights(weights(qwen).items(), 0)
    answers = qwen.generate([[1, 2]], SamplingParams(4, 0.0), ["a"])
    VLLMEngine(CONFIG, shape_of("qwen3-tiny"), parallel_context).close()
    assert qwen.generate([[1, 2]], SamplingParams(4, 0.0), ["a"]) == answers  # nor are other engines touched
    assert settings() == before
    torch.manual_seed(0)
    assert torch.equal(torch.randn(256, 256) @ torch.randn(256, 256), product)
    parallel_context.barrier()  # the process group stands


def test_prompts_that_do_not_fit_are_refused(qwen: VLLMEngine) -> None:
    qwen.update_weights(weights(qwen).items(), 0)
    for prompt, problem in (([1] * 60, "has 60 tokens"), ([], "has 0 tokens"), ([1, 256], "the ids 1 to 256")):
        with pytest.raises(InputError, match=problem):
            qwen.generate([[1], prompt], SamplingParams(4, 0.0), ["a", "b"])
    assert len(qwen.generate([[1]], SamplingParams(4, 0.0), ["a"])[0][0].token_ids) == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"head_dim": 16}, r"head_dim=16: vLLM's attention on a CPU"),
        ({"family": "qwen2_5", "num_heads": 4}, r"head_dim=32 with 4 heads and hidden_size=64: vLLM takes 16"),
        ({"max_positions": 50}, r"= 56, but the model has"),
    ],
)
def test_models_that_cannot_run_are_refused(
    change: dict[str, int], problem: str, parallel_context: ParallelContext
) -> None:
    with pytest.raises(InputError, match=problem):
        VLLMEngine(CONFIG, shape_of("qwen3-tiny").model_copy(update=change), parallel_context)
