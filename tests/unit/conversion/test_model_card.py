"""The card of a model says which stages made it, from what, and how it scores; a model's own card stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from megatron_redone.conversion.model_card import model_card
from megatron_redone.conversion.to_hf import ToHF
from megatron_redone.conversion.to_megatron import ToMegatron
from tests.unit.conversion.conftest import small

SHAPE = small("qwen3-tiny")


def stage(run: Path, name: str, kind: str, score: float | None = None, **inputs: str) -> Path:
    """A stage's folder with its manifest; gives its model's."""
    folder = run / name
    (folder / "model").mkdir(parents=True)
    records = {field: {"path": path, "sha256": f"{number}" * 64} for number, (field, path) in enumerate(inputs.items())}
    manifest = {"stage": name, "kind": kind, "seeds": [7], "inputs": records}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if score is not None:
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "results.json").write_text(json.dumps({"mean_score": score}))
    return folder / "model"


def test_stages_scores_and_the_licence_of_the_base(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    run = tmp_path / "run"
    stage(run, "explore", "dapo", 20.5, model=str(base), rows="explore_set")
    refined = stage(run, "refine", "dapo", 45.25, model="explore", rows="refinement_set")
    card = model_card(refined, SHAPE)
    assert "license: apache-2.0" in card and f"Starts from: {base}" in card
    rows = [line for line in card.splitlines() if line.startswith("| ") and "dapo" in line]
    assert rows == [
        "| explore | dapo | 7 | model 000000000000, rows 111111111111 | 20.5 |",
        "| refine | dapo | 7 | model 000000000000, rows 111111111111 | 45.2 |",
    ]


def test_a_model_without_manifests_says_so_and_one_with_a_card_keeps_it(hub_folder: Callable[..., Path]) -> None:
    hub = hub_folder(SHAPE)
    assert "how it was trained is not recorded here" in model_card(hub, SHAPE)
    (hub / "README.md").write_text("# Mine\n")
    ToMegatron(hub, hub.parent / "megatron").run()
    ToHF(hub.parent / "megatron", hub.parent / "back").run()
    assert (hub.parent / "back" / "README.md").read_text() == "# Mine\n"
