"""General-Bench: which general benchmarks the two papers name, which of them can be run here, and from which files.

Sources: RedOne (section 4.2) and RedOne 2.0 (section 4.2.1). Both name the same benchmarks and print one average;
neither says how it is formed, with which prompts or shots, or which parts of WMT, FLORES, BBH and CompassBench are
meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.common.errors import InputError

TASKS_FOLDER = Path(__file__).parent / "tasks"


@dataclass(frozen=True)
class GeneralBenchmark:
    """One benchmark of General-Bench.

    Attributes:
        name: of its task (`tasks/NAME.yaml`) and of its folder of data.
        title: as the papers write it.
        capability: what it belongs to in the figures of RedOne.
        file: the test rows, below the folder of data; empty where there is no task for it.
        metric: the metric of its task that is its score.
        why_not: why there is no task for it.
    """

    name: str
    title: str
    capability: str
    file: str = ""
    metric: str = ""
    why_not: str = ""


def _choice(name: str, title: str, capability: str) -> GeneralBenchmark:
    return GeneralBenchmark(name, title, capability, f"{name}/test.jsonl", "acc")


def _translation(name: str, title: str) -> GeneralBenchmark:
    return GeneralBenchmark(name, title, "translation", f"{name}/test.jsonl", "corpus_bleu")


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        _choice("mmlu", "MMLU", "knowledge"),
        _choice("cmmlu", "CMMLU", "knowledge"),
        _choice("ceval", "C-Eval", "knowledge"),
        _choice("gpqa_diamond", "GPQA-Diamond", "knowledge"),
        GeneralBenchmark(
            "newsbench", "NewsBench", "knowledge", why_not="its open questions are judged by another model"
        ),
        _choice("mmlu_pro", "MMLU-Pro", "reasoning"),
        GeneralBenchmark("bbh", "BBH", "reasoning", "bbh/test.jsonl", "exact_match"),
        GeneralBenchmark(
            "gaokao_bench", "GaokaoBench", "reasoning", why_not="its open questions are scored by people"
        ),
        GeneralBenchmark("gsm8k", "GSM8K", "mathematics", "gsm8k/test.jsonl", "math_match"),
        GeneralBenchmark("math500", "MATH500", "mathematics", "math500/test.jsonl", "math_match"),
        GeneralBenchmark("aime2025", "AIME 2025", "mathematics", "aime2025/test.jsonl", "math_match"),
        GeneralBenchmark("humaneval", "HumanEval", "code", "humaneval/HumanEval.jsonl.gz", "pass_at_1"),
        GeneralBenchmark("mbpp", "MBPP", "code", "mbpp/mbpp.jsonl", "pass_at_1"),
        GeneralBenchmark(
            "livecodebench", "LiveCodeBench", "code", why_not="its tests come as pickles, which are not read here"
        ),
        _translation("wmt22", "WMT-22"),
        _translation("wmt23", "WMT-23"),
        _translation("wmt24", "WMT-24"),
        _translation("flores", "FLORES"),
        GeneralBenchmark("ifeval", "IFEval", "instruction following", "ifeval/input_data.jsonl", "prompt_level_strict"),
        _choice("halueval", "HaluEval", "hallucination"),
        GeneralBenchmark(
            "compassbench", "CompassBench", "preference", why_not="its answers are judged by another model"
        ),
    )
}  # fmt: skip
"""By name, in the order of RedOne."""

_CAPABILITIES_2 = {"knowledge": "knowledge reasoning", "reasoning": "knowledge reasoning", "preference": "CompassBench"}
SETS = ("redone-general", "redone2-general")


@dataclass(frozen=True)
class Selection:
    """What is asked for.

    Attributes:
        name: of the set, or "chosen tasks".
        groups: by capability the names of its benchmarks, in order.
        harness_tasks: names of lm-evaluation-harness's own tasks.
    """

    name: str
    groups: dict[str, tuple[str, ...]]
    harness_tasks: tuple[str, ...] = ()

    @property
    def benchmarks(self) -> tuple[GeneralBenchmark, ...]:
        """Those of all groups."""
        return tuple(BENCHMARKS[name] for names in self.groups.values() for name in names)


HARNESS_PREFIX = "lm-eval:"


def select(tasks: Sequence[str]) -> Selection:
    """The benchmarks of a set (`redone-general`, `redone2-general`), or those named.

    Args:
        tasks: one set; or names of benchmarks here and, as `lm-eval:NAME`, of tasks of the harness.

    Raises:
        InputError: no name, a set beside other names, or an unknown name.
    """
    names = [name.strip() for part in tasks for name in part.split(",") if name.strip()]
    if not names:
        raise InputError(f"--tasks names nothing; give {' or '.join(SETS)}, or names such as gsm8k,ifeval")
    if names[0] in SETS and len(names) == 1:
        return Selection(names[0], _grouped(list(BENCHMARKS), by_paper_2=names[0] == "redone2-general"))
    for name in names:
        if name in SETS:
            raise InputError(f"--tasks {name} is a whole set; give it alone, or the names of single benchmarks")
        if name not in BENCHMARKS and not name.startswith(HARNESS_PREFIX):
            raise InputError(
                f"--tasks {name}: unknown; known here are {', '.join(BENCHMARKS)}; a task of lm-evaluation-harness "
                f"itself is written {HARNESS_PREFIX}{name}"
            )
    own = [name for name in dict.fromkeys(names) if name in BENCHMARKS]
    harness = tuple(n.removeprefix(HARNESS_PREFIX) for n in dict.fromkeys(names) if n.startswith(HARNESS_PREFIX))
    return Selection("chosen tasks", _grouped(own, by_paper_2=False), harness)


def _grouped(names: Sequence[str], *, by_paper_2: bool) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for name in names:
        capability = BENCHMARKS[name].capability
        group = _CAPABILITIES_2.get(capability, capability) if by_paper_2 else capability
        groups[group] = (*groups.get(group, ()), name)
    return groups
