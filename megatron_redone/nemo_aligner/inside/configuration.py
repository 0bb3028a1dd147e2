"""Reads a configuration of NeMo-Aligner's as its own program does: by OmegaConf, with every `${...}` resolved.

Runs in NeMo-Aligner's environment, see `start.py`: OmegaConf needs another ANTLR than our packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from megatron_redone.nemo_aligner.inside.remote_connection import Connection

ELSEWHERE = ("defaults", "exp_manager", "pretrained_checkpoint")
"""Sections that say where its program writes and what it loads; they name things that only it has."""


def read(order: Mapping[str, Any], connection: Connection) -> None:
    """Sends the tree of `order["path"]`."""
    for name, resolver in (("multiply", lambda x, y: x * y), ("int_div", lambda x, y: x // y)):
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    loaded = OmegaConf.load(order["path"])
    for name in ELSEWHERE:
        loaded.pop(name, None)
    connection.tell("configuration", tree=OmegaConf.to_container(loaded, resolve=True))
