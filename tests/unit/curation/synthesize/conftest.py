from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.curation.synthesize.config import SynthesizeConfig
from megatron_redone.curation.synthesize.generate import generate
from megatron_redone.curation.synthesize.texts import SPLITS
from megatron_redone.tasks.row import Row


@dataclass(frozen=True)
class Written:
    """The default data set, read back."""

    counts: dict[str, Any]
    rows: dict[str, list[Row]]
    general: list[Row]
    corpus: list[dict[str, Any]]


def rows_of(path: Path) -> list[Row]:
    return [Row.from_json(value, f"{path}:{line}") for line, value in read_jsonl(path)]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("synthesized")
    counts = generate(SynthesizeConfig(), folder, 0)
    return Written(
        counts,
        {split: rows_of(folder / f"{split}.jsonl") for split in SPLITS},
        rows_of(folder / "general.jsonl"),
        [document for _, document in read_jsonl(folder / "corpus.jsonl")],
    )
