"""Training starts from a converted checkpoint on any layout: each rank has the weights of the Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.conversion.to_megatron import ToMegatron
from megatron_redone.data.tokenizer import train_sentencepiece
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from tests.distributed.ranks import run_on_ranks
from tools.make_tiny_checkpoint import write_tiny_checkpoint

pytestmark = pytest.mark.distributed
CASES = [
    ("qwen2.5-tiny", ParallelConfig(tp=2), ParallelConfig(pp=2)),  # tied: the last stage loads the embedding, too
    ("qwen3-moe-tiny", ParallelConfig(ep=2), ParallelConfig(tp=2, etp=2)),
    ("qwen3-moe-tiny", ParallelConfig(), ParallelConfig(ep=2)),
    ("llama-tiny", ParallelConfig(pp=2), ParallelConfig(distributed_optimizer=True)),
]


def compare(rank: int, world_size: int, store_file: str, folders: list[str], layouts: list[ParallelConfig]) -> None:
    from torch.distributed import FileStore

    from megatron_redone.parallel.context import build_context
    from megatron_redone.training.config import OptimizerConfig
    from megatron_redone.training.model_folder import load_engine

    store = FileStore(store_file, world_size)
    for folder, layout in zip(folders, layouts, strict=True):
        context = build_context(layout, rank=rank, world_size=world_size, store=store)
        engine, _ = load_engine(Path(folder) / "megatron", context, OptimizerConfig())
        expected = SafetensorsFolder(Path(folder) / "hub")
        names = set()
        for name, tensor in engine.export_hf_weights():
            assert torch.equal(tensor, expected[name]), f"{layout}: {name}"
            names.add(name)
        assert names == set(expected) and engine.ddp


def test_each_rank_reads_its_part(tmp_path: Path) -> None:
    texts = [f"{word} of the {number} words here" for number in range(200) for word in ("some", "all")]
    tokenizer = train_sentencepiece(texts, tmp_path / "tokenizer", 300, 0)
    folders = []
    for number, (preset, cut, _) in enumerate(CASES):
        folder = tmp_path / str(number)
        shape = get_preset(preset).model_copy(update={"vocab_size": tokenizer.vocab_size + 1})
        write_tiny_checkpoint(shape, folder / "hub")
        tokenizer.save(folder / "hub")
        ToMegatron(folder / "hub", folder / "megatron", cut).run()
        folders.append(str(folder))
    run_on_ranks(compare, 2, tmp_path, folders, [layout for _, _, layout in CASES])
