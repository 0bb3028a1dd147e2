from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.mini_recipe import run_here


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini recipe, run once without an interruption in one process. Tests read it and copy it."""
    output = tmp_path_factory.mktemp("mini") / "run"
    assert run_here(output) == 0
    return output
