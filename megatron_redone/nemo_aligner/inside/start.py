"""Where a process in NeMo-Aligner's environment starts: `python -m megatron_redone.nemo_aligner.inside.start`.

Messages take standard input and output. Its libraries print while they are imported, so these are moved out of their
way before anything of them is loaded.
"""

from __future__ import annotations

import os
import traceback


def main() -> None:
    """Waits for the order to begin, and runs the trainer that it names."""
    inward, outward = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from megatron_redone.nemo_aligner.inside.remote import Connection

    with inward, outward:
        connection = Connection(inward, outward)
        order = connection.receive().values
        try:
            from megatron_redone.nemo_aligner.inside.dpo import train

            train(order, connection)
        except Exception as error:
            traceback.print_exc()
            connection.tell("failed", error=f"{type(error).__name__}: {error}")
            raise SystemExit(1) from error


if __name__ == "__main__":
    main()
