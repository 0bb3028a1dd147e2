"""Near duplicates: datatrove's MinHash over shingles of our units, and clusters that keep their first document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WordTokenizer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from megatron_redone.curation.filter.config import MinHashConfig
from megatron_redone.data.ngrams import ngram_hashes, unit_hashes, units

PAIR = np.dtype("<u4")
"""datatrove writes a pair of duplicates as four of these: shard and index of one, shard and index of the other."""


def datatrove_config(config: MinHashConfig) -> MinhashConfig:
    """The settings as datatrove names them. Its hash function is named, but `Signatures` hashes shingles itself."""
    return MinhashConfig(
        n_grams=config.shingle_units,
        num_buckets=config.num_buckets,
        hashes_per_bucket=config.hashes_per_bucket,
        hash_config=HashConfig(precision=64, hash_fc="sha1"),
    )


class UnitTokenizer(WordTokenizer):
    """Our units as datatrove's words. Its own tokenizers differ by language, and ask for packages of their own."""

    def word_tokenize(self, text: str) -> list[str]:
        """Words, and single Han and kana characters."""
        return units(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """MinHash has no use for sentences."""
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Nor for their places."""
        raise NotImplementedError


class Signatures(MinhashDedupSignature):
    """datatrove's signatures, of shingles that Chinese has too; hashed as arrays, several times as fast."""

    def __init__(self, folder: Path, config: MinHashConfig) -> None:
        super().__init__(str(folder), config=datatrove_config(config), language=UnitTokenizer())

    def get_shingles(self, text: str) -> npt.NDArray[np.uint64]:
        """[m, 1] hashes of the different shingles; none in texts shorter than one."""
        found = unit_hashes(self.word_tokenizer.word_tokenize(text))
        return np.unique(ngram_hashes(found, self.config.n_grams)).reshape(-1, 1)


class Clusters(PipelineStep):
    """Connected components of the duplicate pairs; all but the first document of each are listed for removal.

    datatrove's own step keeps whichever document its union happens to end at, and holds a dictionary entry for each
    duplicate. Memory here: about 60 bytes a pair. The files are those that `MinhashDedupFilter` reads.
    """

    type = "DEDUP"
    name = "clusters of near duplicates"

    def __init__(self, pairs: Path, removals: Path) -> None:
        super().__init__()
        self.pairs, self.removals = str(pairs), str(removals)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Writes `SHARD.remove` for each shard that loses documents."""
        folder = Path(self.removals)
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.remove"):
            stale.unlink()
        files = [np.fromfile(path, PAIR).reshape(-1, 4) for path in sorted(Path(self.pairs).glob("*.dups"))]
        pairs = np.concatenate([np.zeros((0, 4), PAIR), *files])
        for shard, indices in later_of_clusters(pairs).items():
            indices.astype(PAIR).tofile(folder / f"{shard:06d}.remove")
        return iter(())


def later_of_clusters(pairs: npt.NDArray[np.uint32]) -> dict[int, npt.NDArray[np.uint64]]:
    """shard -> sorted indices of the documents that are not the first of their cluster.

    Args:
        pairs: [p, 4] shard, index, shard, index.
    """
    if not len(pairs):
        return {}
    wide = pairs.astype(np.uint64)
    ends = np.concatenate([wide[:, 0] << np.uint64(32) | wide[:, 1], wide[:, 2] << np.uint64(32) | wide[:, 3]])
    nodes, numbers = np.unique(ends, return_inverse=True)
    left, right = numbers[: len(pairs)], numbers[len(pairs) :]
    graph = coo_array((np.ones(len(pairs), bool), (left, right)), shape=(len(nodes), len(nodes)))
    _, cluster_of = connected_components(graph, directed=False)
    _, firsts = np.unique(cluster_of, return_index=True)  # nodes are sorted, so the first of each comes first
    later = np.delete(nodes, firsts)
    shards = later >> np.uint64(32)
    return {int(shard): later[shards == shard] & np.uint64(0xFFFFFFFF) for shard in np.unique(shards)}
