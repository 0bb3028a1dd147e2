"""Packing efficiency on real lengths, and its time: `python -m tools.measure_packing TOKENIZER FILE...`.

Prints, for each file of conversations and for all together, the lengths in tokens and the share of the packed rows that
tokens fill, by best fit with the longest first, at 16,384, 4,096 and 2,048 tokens; longer conversations are left out.
Then packs one million lengths drawn from a log-normal law with the median and 95th percentile of RedOne's SFT data.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.curation.sft.build import packing_of, token_counter
from megatron_redone.curation.sft.formats import Defaults, read_conversation
from megatron_redone.curation.sft.records import read_records
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.packing import best_fit_bins
from megatron_redone.data.tokenizer import load_tokenizer

SEQUENCE_LENGTHS = (16_384, 4_096, 2_048)
MEDIAN, P95 = 345, 2_342
"""Tokens; RedOne, analysis of the SFT data."""
NORMAL_P95 = 1.6449


def token_lengths(path: Path, template: ChatTemplate) -> NDArray[np.int32]:
    """Tokens of the conversations that can be read."""
    count, found = token_counter(template), []
    for record in read_records(path):
        if record.value is None:
            continue
        try:
            found.append(count(read_conversation(record.value, f"{path}:{record.line}", Defaults("row", "", "", ""))))
        except DataError:
            continue
    return np.array(found, dtype=np.int32)


def line(name: str, lengths: NDArray[np.int32]) -> str:
    """A row of the table."""
    cells = []
    for size in SEQUENCE_LENGTHS:
        kept = lengths[lengths <= size]
        packed = packing_of(kept, size)
        left_out = f", {len(lengths) - len(kept)} left out" if len(kept) < len(lengths) else ""
        cells.append(f"{100 * packed.efficiency:.2f}% of {packed.packed_rows}{left_out}")
    median, p95 = np.percentile(lengths, [50, 95], method="inverted_cdf")
    return f"| {name} | {len(lengths)} | {lengths.sum()} | {median} | {p95} | {lengths.max()} | {' | '.join(cells)} |"


def main(tokenizer: Path, files: list[Path]) -> None:
    """Prints the table and the time."""
    template = ChatTemplate(load_tokenizer(tokenizer))
    lengths = {path.stem: token_lengths(path, template) for path in files}
    for name, found in [*lengths.items(), ("all", np.concatenate(list(lengths.values())))]:
        print(line(name, found))
    spread = np.log(P95 / MEDIAN) / NORMAL_P95
    drawn = np.exp(numpy_rng(0, "lengths").normal(np.log(MEDIAN), spread, 1_000_000)).astype(np.int64)
    million = np.sort(drawn.clip(8, SEQUENCE_LENGTHS[0]))[::-1].tolist()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    bins = best_fit_bins(million, SEQUENCE_LENGTHS[0])
    seconds = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    share = sum(million) / (len(bins) * SEQUENCE_LENGTHS[0])
    print(f"1,000,000 lengths: {100 * share:.3f}% of {len(bins)} rows, {seconds:.2f} s, {grown:.0f} MiB more")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
