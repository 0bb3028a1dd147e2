"""How far the planner's memory is from a trace of the real code, over presets and layouts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.memory import RankMemory, Workload, rank_memory

LIMIT = 0.05
"""The error that the planner is held to."""


@dataclass(frozen=True)
class PlanCase:
    """One preset on one layout."""

    preset: str
    layout: str
    world_size: int
    sequence_length: int
    pipeline_rank: int = 0

    def name(self) -> str:
        """Of its file."""
        words = (self.preset, self.layout, self.world_size, self.sequence_length, self.pipeline_rank)
        return re.sub(r"[^\w.=]+", "_", "_".join(map(str, words)))

    def parallel(self) -> ParallelConfig:
        """The layout, in bf16."""
        words = [word for word in self.layout.split(",") if word]
        return validate(ParallelConfig, apply_overrides({"precision": "bf16"}, words), "layout of a plan")


@dataclass(frozen=True)
class PlanError:
    """Bytes that tensors take, as expected and as traced."""

    case: PlanCase
    expected_static: int
    traced_static: int
    expected: int
    traced: int

    @property
    def error(self) -> float:
        """Expected over traced peak, less one."""
        return self.expected / self.traced - 1


ZERO = "distributed_optimizer=true"
DENSE_LAYOUTS = (
    ("tp=1", 8, 4096, 0),
    ("tp=2", 8, 4096, 0),
    ("tp=4,sequence_parallel=true", 64, 16_384, 0),
    ("tp=2,pp=2,sequence_parallel=true", 16, 8192, 0),
    ("tp=2,pp=2,sequence_parallel=true", 16, 8192, 1),
    ("tp=1,recompute=full", 8, 8192, 0),
    ("tp=4,pp=4,sequence_parallel=true,recompute=full", 512, 16_384, 0),
)
EXPERT_LAYOUTS = (
    ("ep=8", 64, 4096, 0),
    ("ep=8,pp=8", 64, 4096, 0),
    ("ep=8,pp=8", 64, 4096, 7),
    ("ep=32,pp=8,recompute=full", 256, 8192, 0),
    ("tp=2,ep=4,etp=2", 32, 8192, 0),
    ("cp=2,ep=8", 64, 8192, 0),
    ("tp=4,ep=4,pp=2", 64, 8192, 1),
)
OTHERS = (
    # the layouts of examples/redone and examples/redone2
    ("qwen3-4b", "tp=2,recompute=selective", 64, 16_384, 0),
    ("qwen3-8b", "tp=4,recompute=selective", 64, 32_768, 0),
    ("qwen3-32b", "tp=8,recompute=full", 64, 32_768, 0),
    ("qwen3-30b-a3b", "tp=4,ep=8,recompute=selective", 64, 16_384, 0),
    ("qwen2.5-7b", "tp=4,recompute=full", 64, 16_384, 0),
    ("qwen2.5-32b", "tp=8,recompute=full", 64, 16_384, 0),
    # interleaved stages, context parallelism
    ("qwen3-8b", "tp=2,pp=2,vpp=2,sequence_parallel=true", 16, 4096, 0),
    ("qwen3-8b", "tp=2,pp=2,vpp=2,sequence_parallel=true", 16, 4096, 1),
    ("qwen3-32b", "tp=4,pp=4,vpp=4,sequence_parallel=true", 128, 8192, 0),
    ("qwen3-32b", "tp=4,pp=4,vpp=4,sequence_parallel=true", 128, 8192, 3),
    ("qwen3-8b", "cp=2", 16, 8192, 0),
    ("qwen3-8b", "tp=2,cp=4,sequence_parallel=true", 64, 16_384, 0),
    # every other shape by name
    ("qwen3-0.6b", "tp=1", 8, 4096, 0),
    ("qwen3-1.7b", "tp=2,sequence_parallel=true", 32, 8192, 0),
    ("qwen3-14b", "tp=2,pp=2,sequence_parallel=true", 16, 8192, 1),
    ("qwen3-235b-a22b", "tp=4,ep=32,pp=2,recompute=full", 512, 4096, 0),
    ("qwen2.5-0.5b", "tp=1", 8, 4096, 0),
    ("qwen2.5-1.5b", "tp=2,sequence_parallel=true", 32, 8192, 0),
    ("qwen2.5-3b", "tp=2", 16, 4096, 0),
    ("qwen2.5-14b", "tp=4,sequence_parallel=true", 64, 16_384, 0),
    ("qwen2.5-72b", "tp=8,pp=4,sequence_parallel=true", 256, 8192, 0),
    ("llama-3-8b", "tp=2,sequence_parallel=true", 16, 8192, 0),
    ("llama-3-70b", "tp=8,pp=4,sequence_parallel=true", 256, 8192, 3),
    ("smollm2-135m", "tp=1", 8, 2048, 0),
)


def cases() -> list[PlanCase]:
    """The models of both papers on a set of layouts, and every other shape, on 8 to 512 ranks; all with the distributed
    optimizer."""
    dense = ("qwen3-4b", "qwen2.5-7b", "qwen3-8b", "qwen2.5-32b", "qwen3-32b")
    found = [PlanCase(name, f"{layout},{ZERO}", *rest) for name in dense for layout, *rest in DENSE_LAYOUTS]
    found += [PlanCase("qwen3-30b-a3b", f"{layout},{ZERO}", *rest) for layout, *rest in EXPERT_LAYOUTS]
    return found + [PlanCase(name, f"{layout},{ZERO}", *rest) for name, layout, *rest in OTHERS]


def measure_error(case: PlanCase) -> PlanError:
    """Traces one case in this process, whose global state it changes (see `memory_trace`)."""
    from megatron_redone.verification.memory_trace import trace_memory

    shape, parallel = get_preset(case.preset), case.parallel()
    traced = trace_memory(shape, parallel, case.world_size, case.sequence_length, pipeline_rank=case.pipeline_rank)
    memory = _expected(case)
    return PlanError(case, memory.static, traced.static, memory.tensors, traced.peak)


def measure_errors(chosen: Sequence[PlanCase], folder: Path | None = None) -> Iterator[PlanError]:
    """Each case in a process of its own, one after the other.

    Args:
        folder: keeps one file a case; a case whose file is there is not traced again.
    Raises:
        DataError: a file of the folder cannot be read.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for case in chosen:
            path = None if folder is None else folder / f"{case.name()}.json"
            if path is not None and path.is_file():
                yield _read(path, case)
                continue
            found = pool.submit(measure_error, case).result()
            if path is not None:
                atomic_write_json(path, asdict(found))
            yield found


def _read(path: Path, case: PlanCase) -> PlanError:
    """What an earlier run traced; what is expected is computed anew."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        traced = int(kept["traced_static"]), int(kept["traced"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no trace of a case ({error}); delete it, and it is traced again") from error
    memory = _expected(case)
    return PlanError(case, memory.static, traced[0], memory.tensors, traced[1])


def _expected(case: PlanCase) -> RankMemory:
    parallel = case.parallel()
    work = Workload(case.sequence_length, 2 * parallel.pp * parallel.data_parallel_size(case.world_size))
    return rank_memory(get_preset(case.preset), parallel, case.world_size, work, case.pipeline_rank)


def as_markdown(found: Sequence[PlanError]) -> str:
    """A table, worst errors told below it."""
    lines = [
        "| shape | layout | ranks | tokens of a row | stage | static | traced | peak | traced | error |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        case = one.case
        layout = case.layout.replace(f",{ZERO}", "")
        sizes = (one.expected_static, one.traced_static, one.expected, one.traced)
        cells = (case.preset, f"`{layout}`", str(case.world_size), f"{case.sequence_length:,}", str(case.pipeline_rank),
                 *(f"{size / 2**30:.2f}" for size in sizes), f"{one.error:+.1%}")  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    errors = sorted(abs(one.error) for one in found)
    half = errors[len(errors) // 2]
    lines += ["", f"{len(found)} cases: half of them within {half:.1%}, the largest error {errors[-1]:.1%}."]
    return "\n".join(lines) + "\n"
