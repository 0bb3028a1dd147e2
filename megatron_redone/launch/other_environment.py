"""Starts a module of ours with the Python of another environment, whose packages cannot share a process with ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import BinaryIO

from megatron_redone.common.errors import InputError

PACKAGE_FOLDER = Path(__file__).resolve().parents[2]


def start_module(python: Path, module: str, log: BinaryIO, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process with pipes as standard input and output, whose standard error goes to `log`.

    Our package is found by PYTHONPATH; nothing else of our environment is.

    Raises:
        InputError: there is no such Python.
    """
    if not python.is_file() or not os.access(python, os.X_OK):
        raise InputError(f"{python} is no Python that can be started; name bin/python of the other environment")
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    env = kept | {"PYTHONPATH": str(PACKAGE_FOLDER)} | settings
    return subprocess.Popen(
        [str(python), "-W", "ignore", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=env,
        start_new_session=True,  # a Ctrl-C of the terminal stops us; we stop it
    )
