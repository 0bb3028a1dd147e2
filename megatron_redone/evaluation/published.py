"""Published figures to set beside ours: RedOne 2.0, table 1 (the same rows in RedOne, table 2), in 0..100.

They were made on the whole benchmarks, with the authors' prompts.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "RedOne 2.0, table 1"

_SNS_GROUPS = ("Taxonomy", "Hashtag", "QueryCorr", "MRC", "NER", "Gender", "CHLW", "QueryGen")
_SNS_BENCH = {
    "GPT-4o-1120": (65.79, 84.98, 51.79, 58.89, 54.99, 88.08, 38.96, 47.33, 61.35),
    "Qwen2.5-7B": (49.50, 73.80, 42.37, 45.32, 45.41, 88.08, 33.76, 44.65, 52.86),
    "Qwen3-4B": (60.88, 81.90, 38.31, 34.69, 44.50, 79.27, 28.17, 46.75, 51.81),
    "RedOne-7B": (72.18, 88.02, 65.09, 63.98, 51.86, 70.47, 74.73, 48.69, 66.88),
    "RedOne 2.0 4B": (75.85, 89.05, 60.92, 66.54, 43.15, 78.76, 79.11, 47.17, 67.57),
    "RedOne 2.0 30B-A3B": (77.02, 89.99, 63.76, 62.16, 54.15, 81.87, 74.19, 49.15, 69.04),
}
_TRANSLATION = ("zh-en BLEU", "zh-en chrF2", "en-zh BLEU", "en-zh chrF2")
_SNS_TRANSBENCH = {
    "GPT-4o-1120": (40.32, 63.91, 49.15, 47.28, 50.17),
    "Qwen2.5-7B": (31.43, 55.91, 38.36, 36.48, 40.55),
    "Qwen3-4B": (26.87, 54.26, 36.35, 35.41, 38.22),
    "RedOne-7B": (38.06, 62.66, 46.88, 44.82, 48.11),
    "RedOne 2.0 4B": (38.61, 62.46, 45.78, 43.84, 47.67),
    "RedOne 2.0 30B-A3B": (40.22, 63.88, 48.06, 45.95, 49.54),
}


def published_figures(benchmark: str) -> dict[str, dict[str, float]]:
    """By model: by part of the benchmark its score, and last `score`; empty for a benchmark without figures."""
    if benchmark == "sns-bench":
        return _named(_SNS_BENCH, (*(f"Note-{group}" for group in _SNS_GROUPS), "score"))
    if benchmark == "sns-transbench":
        return _named(_SNS_TRANSBENCH, (*_TRANSLATION, "score"))
    return {}


def _named(figures: Mapping[str, tuple[float, ...]], names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    return {model: dict(zip(names, values, strict=True)) for model, values in figures.items()}
