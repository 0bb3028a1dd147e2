"""Shows that DAPO learns, and what its parts do to the curve: data, table and chart of examples/dapo_learns.

    python tools/dapo_learns.py make --out runs/dapo_learns_data
    redone run examples/dapo_learns/recipe.yaml
    python tools/dapo_learns.py report --run runs/dapo_learns --chart docs/images/dapo_learns.svg

`make` writes a task with a verifiable reward: the words of a note belong to one of four topics, whose names have one to
seven words; no train row stands among the test rows. The model has random weights. Its warm-up teaches it which words
go together, and the form of an answer by topics drawn by chance, so it begins at chance. `report` reads the runs of
every arm and seed; intervals are Student's over seeds, differences are paired by seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from megatron_redone.benchmarks.inputs import row_texts, train_tokenizer
from megatron_redone.checkpoint.hf_folder import write_safetensors
from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.common.files import atomic_directory, atomic_write_json
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.common.seeding import rng
from megatron_redone.conversion.output import check_output
from megatron_redone.curation.conversations import TrainingConversation, gold_conversation, write_conversations
from megatron_redone.data.conversation import Message
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.models.families import shape_to_hf
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.reading import write_rows

TOPICS: dict[str, tuple[str, ...]] = {
    "tea": ("kettle", "leaf", "cup", "brew", "pot", "steam"),
    "garden work": ("spade", "seed", "soil", "hedge", "bloom", "weed"),
    "long walks by the sea": ("dune", "wave", "gull", "shell", "tide", "sand"),
    "repair of old radios and wall clocks": ("valve", "gear", "dial", "spring", "solder", "chime"),
}
TASK = "note_taxonomy_single"
CHANCE = 1 / len(TOPICS)
NOTE_WORDS = 5
ROWS_PER_TOPIC = 200
TRAIN_SHARE = 0.75
WARMUP_ROWS = 480
LEARNT = 0.9
"""The score that counts as learnt; `rollouts_to_learn` is the first rollout whose score reaches it."""


def task_rows(seed: int) -> list[Row]:
    """Different rows, as many of each topic: a title and a note whose words all belong to it."""
    rows = []
    for topic, words in TOPICS.items():
        met: set[tuple[str, ...]] = set()
        for number in itertools.count():
            drawn = tuple(rng(seed, "row", topic, number).choices(words, k=1 + NOTE_WORDS))
            if drawn not in met:
                met.add(drawn)
                fields = {"title": drawn[0], "content": " ".join(drawn[1:]), "candidates": list(TOPICS)}
                rows.append(Row("-".join(drawn), TASK, "en", fields, topic, source="dapo_learns"))
            if len(met) == ROWS_PER_TOPIC:
                break
    rng(seed, "order").shuffle(rows)
    return rows


def warmup_conversations(rows: Sequence[Row], seed: int) -> list[TrainingConversation]:
    """Rows answered with a topic drawn by chance, and words that go on with words of one topic, whose name is absent.

    The second kind teaches which words go together, as a pretrained model knows, and not what a group is called.
    """
    found = []
    for row in rows[:WARMUP_ROWS]:
        guess = rng(seed, "guess", row.id).choice(list(TOPICS))
        found.append(gold_conversation(replace(row, answer=guess)))
        words = str(row.fields["content"]).split()
        turns = [("user", f"Go on: {row.fields['title']} {words[0]}"), ("assistant", " ".join(words[1:]))]
        messages = [Message(role=role, content=text) for role, text in turns]
        found.append(TrainingConversation(f"words-{row.id}", "words", messages, "gold", "general", "en", "dapo_learns"))
    return found


def make(out: Path, seed: int) -> None:
    """Writes model/, rows.jsonl and test.jsonl, and the warm-up's conversations.jsonl, as one new folder."""
    check_output(out)
    rows = task_rows(seed)
    border = round(TRAIN_SHARE * len(rows))
    train, test = rows[:border], rows[border:]
    conversations = warmup_conversations(train, seed)
    with atomic_directory(out) as work:
        model = work / "model"
        model.mkdir()
        texts = [message["content"] for conversation in conversations for message in conversation.messages]
        train_tokenizer([*texts, *row_texts(rows)], model)
        size = load_tokenizer(model).vocab_size
        shape = get_preset("qwen3-tiny").model_copy(update={"num_layers": 2, "vocab_size": -(-size // 64) * 64})
        write_safetensors(model, RandomWeights(shape, seed).items())
        atomic_write_json(model / "config.json", shape_to_hf(shape, "float32"))
        write_rows(work / "rows.jsonl", train)
        write_rows(work / "test.jsonl", test)
        write_conversations(work / "conversations.jsonl", conversations)
    print(f"{out}: {len(train)} rows to learn, {len(test)} to test, chance {CHANCE:.2f}, {size} tokens")


@dataclass(frozen=True)
class Curve:
    """One run: the score of the sampled answers by rollout, and of greedy answers to the test rows at the end."""

    arm: str
    seed: int
    scores: tuple[float, ...]
    thrown_away: int
    """Groups without differing scores in the whole run."""
    generated_groups: int
    test_score: float

    @property
    def rollouts_to_learn(self) -> int | None:
        """The first rollout whose score reaches LEARNT."""
        return next((place for place, score in enumerate(self.scores) if score >= LEARNT), None)


def read_curves(run: Path, arms: Sequence[str]) -> list[Curve]:
    """The runs that are done.

    Raises:
        InputError: an arm without one.
    """
    curves = []
    for arm in arms:
        folders = sorted(run.glob(f"{arm}.seed*"), key=lambda path: int(path.name.rpartition("seed")[2]))
        found = [folder for folder in folders if (folder / "manifest.json").is_file()]
        if not found:
            raise InputError(f"{run}: no finished run of {arm!r}; run examples/dapo_learns/recipe.yaml first")
        curves += [_curve(arm, folder) for folder in found]
    return curves


def _curve(arm: str, folder: Path) -> Curve:
    steps = [row for _, row in read_jsonl(folder / "metrics.jsonl")]
    evaluation = json.loads((folder / "evaluation" / "results.json").read_text(encoding="utf-8"))
    thrown = sum(int(step["groups_thrown_away"]) for step in steps)
    return Curve(
        arm=arm,
        seed=int(folder.name.rpartition("seed")[2]),
        scores=tuple(float(step["score"]) for step in steps),
        thrown_away=thrown,
        generated_groups=thrown + sum(int(s["groups_trained"] + s["groups_left_over"]) for s in steps),
        test_score=evaluation["mean_score"] / 100,
    )


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean; None for a single value."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = float(t.ppf(0.5 + level / 2, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return mean - half, mean + half


def table(curves: Sequence[Curve], arms: Sequence[str]) -> str:
    """The arms in Markdown; the first is what the others are compared with."""
    by_arm = {arm: {curve.seed: curve for curve in curves if curve.arm == arm} for arm in arms}
    lines = [
        f"| arm | seeds | first rollout | last five rollouts | test rows | rollouts to {LEARNT} | area | "
        f"area, less {arms[0]} | groups sampled | thrown away |",
        "|---|---:|---:|---|---|---|---|---|---:|---:|",
    ]
    for arm, of_seed in by_arm.items():
        runs = list(of_seed.values())
        learnt = [run.rollouts_to_learn for run in runs if run.rollouts_to_learn is not None]
        paired = [seed for seed in of_seed if seed in by_arm[arms[0]]]
        less = [_area(of_seed[seed]) - _area(by_arm[arms[0]][seed]) for seed in paired]
        reached = _told(learnt, 1) if learnt else "never"
        cells = [
            arm,
            str(len(runs)),
            f"{statistics.fmean(run.scores[0] for run in runs):.2f}",
            _told([statistics.fmean(run.scores[-5:]) for run in runs], 3),
            _told([run.test_score for run in runs], 3),
            reached if len(learnt) == len(runs) else f"{reached} ({len(learnt)} of {len(runs)} runs)",
            _told([_area(run) for run in runs], 3),
            "" if arm == arms[0] else _told(less, 3),
            f"{statistics.fmean(run.generated_groups for run in runs):.0f}",
            f"{statistics.fmean(run.thrown_away for run in runs):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _area(curve: Curve) -> float:
    """The mean score over all rollouts: what is learnt early counts."""
    return statistics.fmean(curve.scores)


def _told(values: Sequence[float], digits: int) -> str:
    found = interval(values)
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if found is None else f"{mean} [{found[0]:.{digits}f}, {found[1]:.{digits}f}]"


def draw(curves: Sequence[Curve], arms: Sequence[str], path: Path) -> None:
    """Mean score by rollout with its interval over seeds, an SVG that stands by itself."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "dapo_learns", "font.size": 9}):
        figure = Figure(figsize=(7.5, 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(CHANCE, color="#888888", linestyle=":", linewidth=1)
        axes.axhline(LEARNT, color="#888888", linestyle="--", linewidth=1)
        for arm in arms:
            runs = [curve.scores for curve in curves if curve.arm == arm]
            length = min(map(len, runs))
            columns = [[run[place] for run in runs] for place in range(length)]
            means = [statistics.fmean(column) for column in columns]
            (line,) = axes.plot(range(length), means, label=f"{arm} ({len(runs)} seeds)", linewidth=1.6)
            if len(runs) > 1:
                bands = [interval(column) or (0.0, 0.0) for column in columns]
                low, high = ([max(0.0, min(1.0, band[side])) for band in bands] for side in (0, 1))
                axes.fill_between(range(length), low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(xlabel="rollout", ylabel="score of sampled answers", ylim=(0, 1.02))
        axes.legend(loc="lower right", frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, makes or reports, returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write rows, model and warm-up conversations")
    making.add_argument("--out", required=True, type=Path, help="new folder")
    making.add_argument("--seed", type=int, default=0)
    reporting = commands.add_parser("report", help="table and chart of the runs")
    reporting.add_argument("--run", required=True, type=Path, help="output folder of the recipe")
    reporting.add_argument("--arms", default="full,no_dynamic_sampling,no_clip_higher,sequence_mean")
    reporting.add_argument("--chart", type=Path, help="SVG file")
    reporting.add_argument("--out", type=Path, help="JSON file with every curve")
    options = parser.parse_args(arguments)
    try:
        if options.command == "make":
            make(options.out, options.seed)
            return 0
        arms = options.arms.split(",")
        curves = read_curves(options.run, arms)
    except RedoneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(table(curves, arms))
    if options.chart is not None:
        draw(curves, arms, options.chart)
    if options.out is not None:
        atomic_write_json(options.out, [_as_json(curve) for curve in curves])
    return 0


def _as_json(curve: Curve) -> Mapping[str, Any]:
    return vars(curve) | {"scores": [round(score, 4) for score in curve.scores]}


if __name__ == "__main__":
    sys.exit(main())
