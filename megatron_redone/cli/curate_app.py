"""The commands of `redone curate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

curate_app = typer.Typer(
    help="""Make data: raw notes and logs to corpora, tokens, training sets, preference pairs.

    Every command runs one stage, which a recipe can hold as well: `redone curate COMMAND settings.yaml key=value --out
    FOLDER`. Without `--out` it prints its settings with their defaults and meaning. The folder holds the result and
    a manifest; it appears when it is whole, and an interrupted command goes on where it was.""",
    no_args_is_help=True,
)

StageSettings = Annotated[
    list[str] | None,
    typer.Argument(help="A YAML file of settings, and settings as `key=value`; `seed=1` seeds everything random."),
]
StageOut = Annotated[Path | None, typer.Option(help="New folder for the result; without it the settings are printed.")]
StageAgain = Annotated[bool, typer.Option("--again", help="Make it anew even if it stands.")]


def _curate(kind: str, settings: list[str] | None, out: Path | None, again: bool) -> None:
    from megatron_redone.cli.curate import curate

    given = list(settings or [])
    file = Path(given.pop(0)) if given and "=" not in given[0] else None
    curate(kind, file, given, out, again)


@curate_app.command("tokenizer")
def curate_tokenizer_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """A SentencePiece tokenizer of a corpus.

    Byte-pair pieces with byte fallback: every text can be encoded. Of a large corpus a uniform sample of
    `max_sentences` lines is learnt from. `redone curate tokenizer corpus=notes/ vocab_size=8000 --out tokenizer`
    """
    _curate("tokenizer", settings, out, again)


@curate_app.command("tokenize")
def curate_tokenize_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """A corpus of texts as token ids on disk (Megatron's indexed dataset), in shards.

    Reads a JSONL file or a folder of .jsonl and .jsonl.gz files, whole or in pieces, by `workers` processes; any
    Hugging Face tokenizer.json or SentencePiece model will do. `tokens.json` beside the shards tells documents,
    tokens and the hash of every file. `validation_share=0.001` keeps some documents apart by a hash of their id.
    `redone curate tokenize corpus=notes/ tokenizer=Qwen3-4B/ workers=8 --out tokens`
    """
    _curate("tokenize", settings, out, again)


@curate_app.command("regmix-mixtures")
def curate_regmix_mixtures_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """Mixtures of domains for proxy runs to try, drawn around the natural one (RegMix, step 1).

    `redone curate regmix-mixtures prior='{web: 900000, weibo: 120000}' num_mixtures=64 --out mixtures`
    """
    _curate("regmix_mixtures", settings, out, again)


@curate_app.command("regmix-proxies")
def curate_regmix_proxies_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """A small training run for each mixture, and its loss on every validation corpus (RegMix, step 2).

    Every finished run is one small file, so that a killed command goes on where it was. `workers=8` trains eight side
    by side; `redone curate regmix-array` spreads the runs over a Slurm cluster.
    """
    _curate("regmix_proxies", settings, out, again)


@curate_app.command("regmix-fit")
def curate_regmix_fit_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """The mixture that a regression over finished runs predicts to be the best for a target (RegMix, step 3).

    Works on any tables: `redone curate regmix-fit mixtures=m.csv losses=l.csv target=weibo --out fit`. The folder holds
    `blend.yaml` for continued pretraining, and `regmix.html` with predicted against measured losses.
    """
    _curate("regmix_fit", settings, out, again)


@curate_app.command("regmix-array")
def curate_regmix_array_command(
    settings: Annotated[Path, typer.Argument(help="The YAML file of `regmix-proxies`.")],
    out: Annotated[Path, typer.Option(help="Folder for batch file, logs and parts; all nodes must see it.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as `key=value`, for all tasks.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Array tasks; each trains its part of the runs.")] = 8,
    time: Annotated[str, typer.Option(help="Time limit of a task.")] = "04:00:00",
    cpus: Annotated[int, typer.Option(min=1, help="Cores of a task.")] = 4,
    sbatch: Annotated[
        list[str] | None, typer.Option(help="A further option of sbatch: `--sbatch=--partition=gpu`, `--gres=gpu:1`.")
    ] = None,
) -> None:
    """Write a Slurm batch file that trains the proxy runs as an array, and the command that gathers them."""
    from megatron_redone.cli.regmix_array import write_batch_file

    write_batch_file(settings, overrides or [], out, tasks, time, cpus, sbatch or [])


@curate_app.command("synthesize")
def curate_synthesize_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Interaction logs as pretraining documents: single searches, consecutive searches, click-through estimates.

    `redone curate synthesize logs=LOGS notes=NOTES --out DOCUMENTS`. LOGS holds one session a line, NOTES one note a
    line (docs/synthesis.md tells the schema; a line that breaks it is refused with file and line).
    """
    _curate("interactions", settings, out, again)


@curate_app.command("interaction-logs")
def curate_interaction_logs_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """A generated log of users who search, click and read, for trials of `redone curate synthesize`."""
    _curate("interaction_logs", settings, out, again)


@curate_app.command("general-text")
def curate_general_text_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """General texts cut at sentence borders and put together to a length: `texts=FOLDER max_tokens=2048`."""
    _curate("general_text", settings, out, again)


@curate_app.command("quickstart-data")
def curate_quickstart_data_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """The quickstart's generated data: a corpus, and rows of its tasks in four splits."""
    _curate("synthesize", settings, out, again)


@curate_app.command("sft")
def curate_sft_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Conversations to fine-tune on: SNS and general rows, mixed by capability, task and share.

    Reads task rows and conversations in the formats of OpenAI (`messages`), Alpaca and ShareGPT, for example
    `redone curate sft sns=[rows.jsonl] general=[alpaca.json] num_rows=10000 general_share=0.2 --out set`. With
    `tokenizer=FOLDER` lengths and packing are measured. `set.json` beside the set tells shares asked and reached.
    """
    _curate("sft_set", settings, out, again)


@curate_app.command("stats")
def curate_stats_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """What a data set holds: lengths on a log axis, tasks, languages, turns, two-level categories; with a page.

    Reads conversations (OpenAI, Alpaca, ShareGPT), task rows and documents, for example
    `redone curate stats data=[set] tokenizer=FOLDER --out stats`, and writes stats.json and stats.html. Categories come
    from keywords, or from a model: `labeller=model model=FOLDER`.
    """
    _curate("stats", settings, out, again)


@curate_app.command("judge-agreement")
def curate_judge_agreement_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """How well a judge agrees with people, before it may label preference pairs.

    The judge labels pairs that people labelled, in both orders. agreement.json says accuracy and Cohen's kappa with
    bootstrap intervals, what the order of the answers does to it, and whether it passes the gate.
    """
    _curate("judge_agreement", settings, out, again)


@curate_app.command("pairs")
def curate_pairs_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Preference pairs for DPO: right over wrong options, truth over the model's errors, a judge's labels.

    Sources are sections of the settings: `option_order`, `model_errors`, `candidates` with `judge` and `agreement`,
    and `files` of pairs made elsewhere. train.jsonl and validation.jsonl are as NeMo-Aligner reads them, and say of
    every pair where it is from; report.json counts what was kept and dropped, and how long the answers are.
    """
    _curate("pairs", settings, out, again)


@curate_app.command("filter")
def curate_filter_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Raw documents to kept ones: rules, exact and near duplicates, benchmarks, a small language model, tone.

    `redone curate filter documents='["notes/", "web.jsonl.gz"]' --out kept` runs the rules and both searches for
    duplicates. The folder holds the corpus, `filter.html` with what was dropped and why, and samples for review."""
    _curate("filter", settings, out, again)


@curate_app.command("tone-model")
def curate_tone_model_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """A classifier of offensive texts from public labels, for `tone.model` of `redone curate filter`.

    `redone curate tone-model davidson=data/davidson cold=data/cold --out tone` trains it and tells its held-out AUC."""
    _curate("tone_model", settings, out, again)


@curate_app.command("diagnose")
def curate_diagnose_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Which tasks a model fails, and how: the weak bucket, the reason for every task, a capability map.

    On evaluations made before: `redone curate diagnose results=evals/rl against='[evals/base]' --out diagnosis`, or
    with answers of its own: `model=MODEL data=DATA` (its diagnosis.jsonl). The target is a number (`threshold=60`,
    `targets='{note_ner: 40}'`) or the best of other results (`against`); `earlier` shows the trend. Copy `bucket.yaml`
    to edit it. The page is diagnosis.html."""
    _curate("diagnose", settings, out, again)


@curate_app.command("target")
def curate_target_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """The targeted set: rows of the weak bucket by capability, and general rows with the model's own best answers.

    `redone curate target diagnosis=diagnosis model=MODEL data=DATA num_rows=10000 --out set`; `bucket=./my_bucket.yaml`
    takes an edited bucket. Rows that the held-out files hold, by id or by n-grams, are left out and counted."""
    _curate("target_set", settings, out, again)


@curate_app.command("refine")
def curate_refine_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """The refinement set: rows that the model solves sometimes first, and the share that asks for a rationale.

    `redone curate refine model=MODEL data=DATA num_rows=10000 num_samples=8 --out set`. `difficulty.jsonl` holds the
    pass rate of every measured row, for a curriculum (`curriculum` of `redone rl`)."""
    _curate("refinement_set", settings, out, again)
