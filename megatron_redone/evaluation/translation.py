"""SNS-TransBench (RedTrans-Bench): notes, titles and comments between Chinese and English.

BLEU is the mean of sacrebleu's sentence BLEU (effective order; tokenizer `zh` for Chinese targets, the default for
English). What the authors call chrF++ is computed with word order 0, which is chrF2: it stands here as `chrf2`, and
true chrF++ (word order 2) beside it, with corpus BLEU and its signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from megatron_redone.evaluation.benchmark import Benchmark, BenchmarkTask, Metrics, Prompt, Row, Sums, statistic
from megatron_redone.scoring.base import Score
from megatron_redone.scoring.text_metrics import MAX_ORDER, BleuChrf, tokenizer_of

NAME = "sns-transbench"
FILE = "RedTrans-Bench.json"
LANGUAGES = {"zh": "Chinese", "en": "English"}
SCORE_RULE = "the mean of BLEU and chrF2 (published as chrF++) of both directions, each direction counting the same"
NOTES = (
    "The published chrF++ is computed without word n-grams, which is chrF2; true chrF++ stands beside it.",
    "Prompts are in words of our own unless a prompt set is given; published figures were made with the authors'.",
)
PROMPT = Prompt(
    "You translate posts and comments of a social network. Keep the tone, slang, memes, hashtags and emoji; write what "
    "a native user of the network would write. Reply with the translation alone.",
    "Translate from {source_language} to {target_language}:\n{text}",
)
BY_ROW = ("bleu", "chrf2", "chrf++")
_COUNTS = [f"bleu_{kind}_{order}" for kind in ("correct", "total") for order in range(1, MAX_ORDER + 1)]
CORPUS_COUNTS = (*_COUNTS, "bleu_length", "bleu_reference_length")


@dataclass(frozen=True)
class TranslationQuality:
    """BLEU, chrF2, chrF++ and corpus BLEU by direction; BLEU, chrF2 and chrF++ by direction and kind of source.

    The score is the mean over the directions of (BLEU + chrF2) / 2. Statistics are named `DIRECTION name` and
    `DIRECTION SOURCE name`, for example `zh-en comment bleu`; `items` counts the rows.
    """

    name: str = "mean of BLEU and chrF2"

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """One score an answer: (BLEU + chrF2) / 2; an empty answer counts as unreadable."""
        return [self._score_one(output, row) for output, row in zip(outputs, rows, strict=True)]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """By direction and by direction and source: `bleu`, `chrf2`, `chrf++`; `corpus_bleu` by direction;
        and `bleu`, `chrf2`, `chrf++` as means over the directions."""
        values: Metrics = {}
        places = sorted(name.removesuffix(" items") for name in sums if name.endswith(" items"))
        for place in places:
            items = statistic(sums, f"{place} items")
            for name in BY_ROW:
                values[f"{place} {name}"] = 100 * statistic(sums, f"{place} {name}") / np.maximum(items, 1)
        directions = [place for place in places if " " not in place]
        for direction in directions:
            values[f"{direction} corpus_bleu"] = _corpus_bleu(sums, direction)
        means: Metrics = {
            name: np.mean([values[f"{direction} {name}"] for direction in directions], axis=0) for name in BY_ROW
        }
        return {**means, **values, "score": (means["bleu"] + means["chrf2"]) / 2}

    def _score_one(self, output: str, row: Row) -> Score:
        reference, direction = row[row["dst_lang"]], f"{row['src_lang']}-{row['dst_lang']}"
        score = BleuChrf(row["dst_lang"]).score([output], [reference])[0]
        found = {
            "items": 1.0,
            "bleu": score.statistics["bleu"],
            "chrf2": score.statistics["chrf"],
            "chrf++": _chrf_plus_plus().sentence_score(output, [reference]).score / 100,
        }
        statistics = {
            f"{place} {name}": value
            for place in (direction, f"{direction} {row['source']}")
            for name, value in found.items()
        }
        statistics |= {f"{direction} {name}": score.statistics[name] for name in CORPUS_COUNTS}
        reason = f"{direction}: BLEU {100 * found['bleu']:.1f}, chrF2 {100 * found['chrf2']:.1f}"
        return Score(score.value, bool(output.strip()), statistics, reason)


def sns_transbench() -> Benchmark:
    """The benchmark: one file."""
    task = BenchmarkTask(
        file=FILE,
        group=NAME,
        fields=("en", "zh", "source", "src_lang", "dst_lang"),
        metric=TranslationQuality(),
        prompt=PROMPT,
        answer=("dst_lang", "text"),
        max_new_tokens=512,
        gold_text=lambda row: str(row[row["dst_lang"]]),
        options_text=lambda row: str(row[row["src_lang"]]),
        check=_languages,
        shown={
            "text": lambda row: str(row[row["src_lang"]]),
            "source_language": lambda row: LANGUAGES[row["src_lang"]],
            "target_language": lambda row: LANGUAGES[row["dst_lang"]],
            "source": lambda row: str(row["source"]),
        },
    )
    signatures = {f"corpus BLEU to {language}": _signature(language) for language in LANGUAGES}
    settings = {"sacrebleu": sacrebleu.__version__, "signatures": signatures}
    return Benchmark(NAME, {FILE: task}, SCORE_RULE, NOTES, settings)


def _languages(row: Row) -> str:
    pair = {row["src_lang"], row["dst_lang"]}
    return "" if pair == set(LANGUAGES) else f"src_lang and dst_lang are {sorted(pair)}, expected zh and en"


@cache
def _chrf_plus_plus() -> CHRF:
    return CHRF(word_order=2)


def _signature(language: str) -> str:
    metric = BLEU(tokenize=tokenizer_of(language))
    metric.corpus_score(["a"], [["a"]])  # a signature knows the number of references after a first use only
    return str(metric.get_signature())


def _corpus_bleu(sums: Sums, direction: str) -> npt.NDArray[np.float64]:
    columns = {name: statistic(sums, f"{direction} {name}") for name in CORPUS_COUNTS}
    scorer = BleuChrf("en")  # the counts are made; the language does not matter any more
    resamples = range(len(columns["bleu_length"]))
    values = [
        scorer.corpus_bleu([Score(0.0, True, {name: column[place] for name, column in columns.items()})])
        for place in resamples
    ]
    return 100 * np.array(values)
