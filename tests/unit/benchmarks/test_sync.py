"""The benchmark of weight updates sends every tensor each way, and its ratios are those of its rounds."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.benchmarks.sync import SyncBenchmarkConfig, measure_sync
from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import validate
from megatron_redone.generation.config import ServersConfig
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import hf_shapes
from megatron_redone.parallel.context import ParallelContext
from tests.fake_rollout_server import FakeRolloutServer

SHAPE = get_preset("qwen3-tiny")


def test_every_way_sends_the_weights(parallel_context: ParallelContext, tmp_path: Path) -> None:
    server = FakeRolloutServer(SHAPE, tmp_path)
    config = SyncBenchmarkConfig(
        preset="qwen3-tiny",
        ways=("copy", "export", "checked", "servers"),
        rounds=2,
        servers=ServersConfig(urls=(server.url,), transfer_folder=tmp_path),
    )
    try:
        found = measure_sync(config, parallel_context)
    finally:
        server.close()
    assert server.version == 3  # two rounds, after one that is not measured
    assert found.tensors == len(hf_shapes(SHAPE))
    assert found.bytes == 4 * sum(_product(shape) for shape in hf_shapes(SHAPE).values())
    copy = found.ways[0]
    assert copy.ratio == 1.0
    for way in found.ways:
        assert way.ratio == pytest.approx(
            statistics.median(a / b for a, b in zip(way.seconds, copy.seconds, strict=True))
        )
        assert way.gigabytes_per_second == pytest.approx(
            statistics.median(found.bytes / taken / 1e9 for taken in way.seconds)
        )


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for part in shape:
        size *= part
    return size


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"ways": ["export"]}, r"ways=export: give copy first, then some of export, checked, vllm, servers, each once"),
        ({"ways": ["copy", "pigeon"]}, r"ways=copy,pigeon: give copy first"),
        ({"ways": ["copy", "servers"]}, r"needs at least one address; start one with `redone serve`"),
        ({"ways": ["copy", "servers"], "servers": {"urls": ["http://a:1"]}}, r"nothing would be sent; name the folder"),
        ({"model": "folder"}, r"preset=qwen3-tiny and model=folder: give exactly one of them"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        validate(SyncBenchmarkConfig, {"preset": "qwen3-tiny", **settings}, "test")
