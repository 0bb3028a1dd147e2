"""The proofs that need no second rank, on one device: `make test-gpu` where there is one, small on a CPU elsewhere."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from megatron_redone.benchmarks.train import _rank_record
from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.checkpoint.distributed import CheckpointSeries
from megatron_redone.data.document import Document
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.factory import engine_for_model
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import shape_to_hf
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.planning.memory import Workload, rank_memory
from megatron_redone.training.batches import pack
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.generation_agreement import assert_agree
from tests.gpu.conftest import Place

FAMILIES = ("llama-tiny", "qwen2.5-tiny", "qwen3-tiny", "qwen3-moe-tiny")
TE: dict[str, Any] = {"layer_spec": "transformer_engine"}
PROFILES: dict[str, dict[str, Any]] = {
    "local": {},
    "te": TE,
    "te flash": {**TE, "attention": "auto"},
}
MIB = 2**20


def documents_of(shape: ModelShape, lengths: tuple[int, ...], seed: int = 2) -> list[Document]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Document(torch.randint(0, shape.vocab_size, (n,), generator=generator).tolist(), [1.0] * n, str(i))
        for i, n in enumerate(lengths)
    ]


def engine_of(shape: ModelShape, context: ParallelContext, trained: bool = True) -> MegatronEngine:
    engine = MegatronEngine(shape, context, OptimizerConfig(lr=1e-3) if trained else None)
    engine.load_hf_weights(SpreadWeights(shape, 5), "test weights")
    return engine


def reference_logprobs(shape: ModelShape, documents: list[Document], dtype: str, device: torch.device) -> list[Tensor]:
    """Of transformers' model with the same weights; their softmax is in fp64."""
    weights = SpreadWeights(shape, 5)
    with tempfile.TemporaryDirectory() as folder:  # a folder, since names of experts change on the way in
        Path(folder, "config.json").write_text(json.dumps(shape_to_hf(shape, dtype)), encoding="utf-8")
        save_file({name: weights[name].contiguous() for name in weights}, Path(folder, "model.safetensors"))
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    model.to(device)
    found = []
    for document in documents:
        ids = torch.tensor(document.token_ids, device=device)
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1].double()
        found.append(logits.log_softmax(-1).gather(-1, ids[1:, None])[:, 0].cpu())
    return found


def our_logprobs(engine: MegatronEngine, documents: list[Document], together: bool) -> list[Tensor]:
    rows = [documents] if together else [[document] for document in documents]
    values = engine.logprobs([pack(row, engine) for row in rows])
    if not together:
        return [row[: len(document) - 1].double() for row, document in zip(values, documents, strict=True)]
    parts = values[0][: sum(len(document) for document in documents)].split([len(d) for d in documents])
    return [part[:-1].double() for part in parts]


def largest(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True) if a.numel())


def mean(found: list[Tensor], expected: list[Tensor]) -> float:
    return float((torch.cat(found) - torch.cat(expected)).abs().mean())


@pytest.mark.parametrize("profile", ["local", "te"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_equals_transformers(family: str, profile: str, place: Place) -> None:
    shape, context = place.shape(family), place.context("fp32", PROFILES[profile])
    documents = documents_of(shape, place.lengths)
    expected = reference_logprobs(shape, documents, "float32", context.device)
    found = our_logprobs(engine_of(shape, context, trained=False), documents, together=True)
    assert largest(found, expected) < (1e-4 if place.on_gpu else 2e-5)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_as_near_to_fp32_as_transformers_is(family: str, profile: str, place: Place) -> None:
    shape, context = place.shape(family), place.context("bf16", PROFILES[profile])
    documents = documents_of(shape, place.lengths)
    exact = reference_logprobs(shape, documents, "float32", context.device)
    theirs = mean(reference_logprobs(shape, documents, "bfloat16", context.device), exact)
    ours = mean(our_logprobs(engine_of(shape, context, trained=False), documents, together=True), exact)
    assert theirs > 0.0
    assert ours < 1.5 * theirs


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_packed_equals_separate(precision: str, profile: str, place: Place) -> None:
    if precision == "fp32" and profile == "te flash":
        pytest.skip("Transformer Engine's flash attention takes 16 bits")
    shape, context = place.shape("qwen3-tiny"), place.context(precision, PROFILES[profile])
    documents = documents_of(shape, place.lengths)
    engine = engine_of(shape, context, trained=False)
    packed, apart = (our_logprobs(engine, documents, together) for together in (True, False))
    if precision == "fp32":
        assert largest(packed, apart) < 2e-5
    else:  # as far apart as rounding of 8 bits of mantissa; a leak between documents is a hundred times that
        assert mean(packed, apart) < 0.02
    swapped = our_logprobs(engine, [*documents_of(shape, place.lengths[:1], seed=9), *documents[1:]], together=True)
    assert largest(swapped[1:], packed[1:]) < (1e-5 if precision == "fp32" else 0.05)  # the first document is not seen
    assert mean(swapped[:1], packed[:1]) > 0.1


def losses(shape: ModelShape, context: ParallelContext, place: Place, steps: int) -> list[float]:
    engine = engine_of(shape, context)
    found = []
    for step in range(steps):
        batch = pack(documents_of(shape, place.lengths, seed=step % 5), engine)  # five batches, learnt by heart
        found.append(engine.train_step([batch], NextToken(), 1e-3)["loss"])
    return found


@pytest.mark.parametrize("recipe", ["delayed", "tensorwise", "blockwise"])
@pytest.mark.parametrize("family", ["qwen3-tiny", "qwen3-moe-tiny"])
def test_fp8_loss_stays_within_one_percent_of_bf16(family: str, recipe: str, place: Place) -> None:
    if not place.on_gpu:
        if recipe != "tensorwise" or family != "qwen3-tiny":
            pytest.skip("no FP8 on a CPU: one form of the proof is enough, of BF16 against FP32")
        shape = place.shape(family)
        short, long = (losses(shape, place.context(precision), place, 12) for precision in ("bf16", "fp32"))
    else:
        shape = place.shape(family)
        gpu = {**TE, "grouped_gemm": shape.is_moe}
        fp8 = {"recipe": recipe, "format": "e4m3" if recipe == "blockwise" else "hybrid"}
        short = losses(shape, place.context("bf16", {**gpu, "fp8": fp8}), place, 50)
        long = losses(shape, place.context("bf16", gpu), place, 50)
    assert long[-1] < long[0] - 0.05  # it learns, or the comparison says nothing
    assert max(abs(a - b) / b for a, b in zip(short, long, strict=True)) < 0.01
    assert short != long


def trained_state(engine: MegatronEngine) -> dict[str, Tensor]:
    weights = {name: tensor.clone() for name, tensor in engine.export_hf_weights()}
    return weights | {f"moment/{name}": tensor.clone() for name, tensor in engine.export_hf_moments("exp_avg_sq")}


@pytest.mark.parametrize("profile", ["local", "te", "te fp8", "te short moments"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_has_the_same_bits(precision: str, profile: str, place: Place, tmp_path: Path) -> None:
    settings = {
        **PROFILES,
        "te fp8": {**TE, "fp8": {}},
        "te short moments": {**TE, "optimizer": {"moments": "bf16"}},
    }[profile]
    if precision == "fp32" and profile not in ("local", "te"):
        pytest.skip("an option of bf16 training")
    context = place.context(precision, settings, distributed_optimizer=True)
    shape = place.shape("qwen3-tiny")

    def step(engine: MegatronEngine, number: int) -> float:
        batch = pack(documents_of(shape, place.lengths, seed=number), engine)
        return engine.train_step([batch], NextToken(), 1e-3)["loss"]

    straight = engine_of(shape, context)
    checkpoints = CheckpointSeries(tmp_path, context, CheckpointConfig(in_background=False))
    expected = []
    for number in range(4):
        if number == 2:
            checkpoints.save(2, straight.sharded_state(), {"updates": straight.num_updates})
        expected.append(step(straight, number))
    resumed = engine_of(shape, context)
    state, extra = checkpoints.load(resumed.sharded_state)
    resumed.load_sharded_state(state, extra["updates"])
    assert [step(resumed, number) for number in (2, 3)] == expected[2:]
    end, again = trained_state(straight), trained_state(resumed)
    assert all(torch.equal(end[name], again[name]) for name in end)


def test_vllm_agrees(place: Place) -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed; make test-vllm has an environment for a CPU")
    context = place.context("fp32")
    shape = place.shape("qwen3-tiny").model_copy(update={"head_dim": 64 if place.on_gpu else 32})
    engine = engine_of(shape, context, trained=False)
    settings = {"engine": "vllm", "max_prompt_tokens": 40, "max_new_tokens": 16, "vllm": {"kv_cache_gib": 0.05}}
    config = GenerationConfig.model_validate(settings)
    theirs = engine_for_model(config, engine.model, context, engine.export_hf_weights)
    prompts = [document.token_ids for document in documents_of(shape, (5, 17, 40, 1))]
    params = SamplingParams(max_new_tokens=16, temperature=0.0, stop_ids=(3, 7))
    keys = [str(i) for i in range(len(prompts))]
    ours = MegatronGenerator(engine.model, context).generate(prompts, params, keys)
    try:
        parted = assert_agree(engine, prompts, params, keys, ours, theirs.generate(prompts, params, keys))
    finally:
        theirs.close()
    assert parted <= 1


@pytest.mark.parametrize("distributed_optimizer", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["qwen3-tiny", "qwen3-moe-tiny"])
def test_memory_is_what_the_planner_says(
    family: str, precision: str, distributed_optimizer: bool, place: Place
) -> None:
    """On a CPU what stays (weights, gradients, optimizer); on a GPU the peak of a step as well."""
    context = place.context(precision, distributed_optimizer=distributed_optimizer)
    shape, tokens = place.shape(family), 64
    if place.on_gpu:
        shape, tokens = shape.model_copy(update={"hidden_size": 1024, "num_layers": 12, "vocab_size": 32_000}), 4096
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    engine = engine_of(shape, context)
    for number in range(2):
        batch = pack(documents_of(shape, (tokens,), seed=number), engine)
        engine.train_step([batch], NextToken(), 1e-3)
    expected = rank_memory(shape, context.config, 1, Workload(tokens, 1))
    record = _rank_record(engine, 1.0)
    static = (record.weights_mib + record.gradients_mib + record.optimizer_mib) * MIB
    assert static == pytest.approx(expected.static, rel=0.05)
    if place.on_gpu:
        assert torch.cuda.max_memory_allocated() - before == pytest.approx(expected.tensors, rel=0.05)
