"""The engine that the settings name, from a model or from its folder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from megatron_redone.checkpoint.hf_folder import write_safetensors
from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.config.loading import validate
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.factory import engine_for_folder, engine_for_model, engine_settings
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.generation.remote_engine import RemoteEngine
from megatron_redone.models.families import shape_to_hf
from megatron_redone.models.presets import PRESETS
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.engine import MegatronEngine
from tests.fake_rollout_server import FakeRolloutServer

SHAPE = PRESETS["qwen3-tiny"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    write_safetensors(model, RandomWeights(SHAPE, 0).items())
    (model / "config.json").write_text(json.dumps(shape_to_hf(SHAPE, "float32")))
    return model


def test_a_folder_and_its_model_answer_alike(folder: Path, parallel_context: ParallelContext) -> None:
    engine = MegatronEngine(SHAPE, parallel_context)
    engine.load_hf_weights(RandomWeights(SHAPE, 0), "test weights")
    config = GenerationConfig()
    of_model = engine_for_model(config, engine.model, parallel_context, engine.export_hf_weights)
    of_folder = engine_for_folder(config, folder, parallel_context)
    assert isinstance(of_model, MegatronGenerator) and isinstance(of_folder, MegatronGenerator)
    asked = ([[1, 2, 3]], SamplingParams(max_new_tokens=6), ["a"])
    assert of_model.generate(*asked) == of_folder.generate(*asked)


@pytest.mark.parametrize("transfer", [True, False])
def test_servers_get_or_have_the_folders_weights(
    transfer: bool, folder: Path, tmp_path: Path, parallel_context: ParallelContext
) -> None:
    fake = FakeRolloutServer(SHAPE, tmp_path)
    try:
        servers = {"urls": (fake.url,), "transfer_folder": tmp_path}
        sender = engine_for_folder(
            GenerationConfig.model_validate({"engine": "servers", "servers": servers}), folder, parallel_context
        )
        assert isinstance(sender, RemoteEngine) and sender.weights == fake.weights
        if not transfer:
            config = GenerationConfig.model_validate({"engine": "servers", "servers": {"urls": (fake.url,)}})
            assert isinstance(engine_for_folder(config, folder, parallel_context), RemoteEngine)
    finally:
        fake.close()


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_vllm_that_is_not_installed_is_an_input_error(folder: Path, parallel_context: ParallelContext) -> None:
    with pytest.raises(InputError, match=r"vLLM is not installed here; install the extra `vllm`"):
        engine_for_folder(GenerationConfig(engine="vllm"), folder, parallel_context)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"engine": "servers"}, r"engine=servers needs at least one address"),
        ({"servers": {"urls": ["node7:8600"]}}, r"an address looks like http://node7:8600"),
        ({"engine": "sglang"}, r"engine"),
    ],
)
def test_settings_that_name_no_engine_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        validate(GenerationConfig, settings, "test")


def test_what_only_draws_does_not_make_another_engine() -> None:
    greedy = GenerationConfig(temperature=0.0, top_p=0.5, over_long="truncate")
    assert engine_settings(greedy) == engine_settings(GenerationConfig())
    assert engine_settings(GenerationConfig(max_new_tokens=9)) != engine_settings(GenerationConfig())
