"""Where a process in NeMo-Aligner's environment starts: `python -m megatron_redone.nemo_aligner.inside.start`.

Messages take standard input and output. Its libraries print while they are imported, so these are moved out of their
way before anything of them is loaded.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def main() -> None:
    """Waits for an order, and does it."""
    inward, outward = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from megatron_redone.nemo_aligner.inside.remote_connection import Connection

    with inward, outward:
        connection = Connection(inward, outward)
        order = connection.receive()
        try:
            _work_for(order.kind)(order.values, connection)
        except Exception as error:
            traceback.print_exc()
            connection.tell("failed", error=f"{type(error).__name__}: {error}")
            raise SystemExit(1) from error


def _work_for(kind: str) -> Callable[[Mapping[str, Any], Any], None]:
    """What an order asks for; each brings its own libraries."""
    if kind == "read_configuration":
        from megatron_redone.nemo_aligner.inside.configuration import read

        return read
    if kind == "train_dpo":
        from megatron_redone.nemo_aligner.inside.dpo import train

        return train
    if kind == "train_dapo":
        from megatron_redone.nemo_aligner.inside.dapo import train as train_dapo

        return train_dapo
    if kind == "check_export":
        from megatron_redone.nemo_aligner.inside.check_export import check

        return check
    raise ValueError(f"order {kind!r} is not known")


if __name__ == "__main__":
    main()
