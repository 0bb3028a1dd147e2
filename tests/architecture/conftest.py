"""Adds the list of long files to the end of a run: to be looked at, not enforced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.rules import USUAL_MAXIMUM_LINES, long_files

LIBRARY = Path(__file__).resolve().parents[2] / "megatron_redone"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [f"{path.relative_to(LIBRARY.parent)} {lines}" for lines, path in long_files(LIBRARY)]
    if found:
        terminalreporter.write_line(f"files over {USUAL_MAXIMUM_LINES} lines (not an error): " + ", ".join(found))
