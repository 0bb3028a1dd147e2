"""How far a run has come in each corpus of a blend, and that a resume goes on exactly there. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megatron_redone.common.errors import CheckpointError
from megatron_redone.data.blend import Blend

METRIC = "samples"


class BlendLedger:
    """Positions of a blend's corpora over a run.

    A resume may bring another blend as long as the samples before it are the same: phases that have not begun may be
    changed, added or taken away, corpora may be added, and corpora that have given nothing may go.

    Args:
        fingerprints: of the tokens of each corpus, by name.
        samples_per_epoch: of each corpus, by name.
    """

    def __init__(self, blend: Blend, fingerprints: Mapping[str, str], samples_per_epoch: Mapping[str, float]) -> None:
        self.blend, self.num_samples = blend, 0
        self._fingerprints, self._samples_per_epoch = dict(fingerprints), dict(samples_per_epoch)

    def advance(self, num_samples: int) -> dict[str, float]:
        """Notes samples that were read; returns the counts of each corpus so far as metrics."""
        self.num_samples += num_samples
        return {f"{METRIC}/{name}": count for name, count in self.blend.counts(self.num_samples).items()}

    def summary(self) -> dict[str, int | float]:
        """Samples and epochs of each corpus, for the manifest."""
        counts = self.blend.counts(self.num_samples)
        epochs = {f"epochs/{name}": round(n / self._samples_per_epoch[name], 4) for name, n in counts.items()}
        return {**{f"{METRIC}/{name}": n for name, n in counts.items()}, **epochs}

    def state(self) -> dict[str, Any]:
        """For a checkpoint: what was read of each corpus, and what decided it."""
        return {
            "num_samples": self.num_samples,
            "positions": self.blend.counts(self.num_samples),
            "past": self.blend.past(self.num_samples),
            "fingerprints": self._fingerprints,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes the state of a checkpoint.

        Raises:
            CheckpointError: this blend would have read other samples until there.
        """
        count = int(state["num_samples"])
        remedy = (
            f"the checkpoint stands at sample {count}: leave the phases before it as they were and give a new one "
            f"`from_sample: {count}` or later; or move the work folder away to start anew"
        )
        for name, position in state["positions"].items():
            if position and self._fingerprints.get(name) != state["fingerprints"][name]:
                what = "is no longer there" if name not in self._fingerprints else "has other tokens than before"
                raise CheckpointError(f"blend: {name!r}, of which {position} samples are read, {what}; {remedy}")
        past = self.blend.past(count)
        if past != state["past"]:
            raise CheckpointError(f"blend: until sample {count} it was {state['past']}, now {past}; {remedy}")
        now = {name: n for name, n in self.blend.counts(count).items() if n}
        if now != {name: n for name, n in state["positions"].items() if n}:
            raise CheckpointError(f"blend: positions were {state['positions']}, now {now}; {remedy}")
        self.num_samples = count
