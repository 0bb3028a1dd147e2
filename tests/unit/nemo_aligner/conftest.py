"""The other environment, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def nemo_aligner_python() -> Path:
    """Python of NeMo-Aligner's environment: REDONE_NEMO_ALIGNER_PYTHON, or what `make nemo-aligner` set up."""
    made = Path(__file__).resolve().parents[3] / ".venv-nemo-aligner" / "bin" / "python"
    python = Path(os.environ.get("REDONE_NEMO_ALIGNER_PYTHON") or made)
    if not python.is_file():
        pytest.skip("no environment of NeMo-Aligner; `make nemo-aligner` sets one up")
    return python
