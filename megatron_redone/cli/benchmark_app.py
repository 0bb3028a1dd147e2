"""The commands of `redone benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

benchmark_app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)


@benchmark_app.command("train")
def benchmark_train_command(
    preset: Annotated[str | None, typer.Option(help="Shape by name, with random weights: `qwen3-30m`.")] = None,
    layers: Annotated[int | None, typer.Option(help="The first so many layers of the shape; by default all.")] = None,
    model: Annotated[Path | None, typer.Option(help="Hugging Face model folder instead.")] = None,
    conversations: Annotated[
        Path | None,
        typer.Option(help="JSONL of `messages`, packed as SFT packs them; by default random tokens, all labels."),
    ] = None,
    document_length: Annotated[
        int | None, typer.Option(help="Tokens of a random document; by default as long as a row.")
    ] = None,
    lengths: Annotated[
        str, typer.Option(help="Of random documents: fixed, or redone (the spread of its SFT data).")
    ] = "fixed",
    sequence_length: Annotated[int, typer.Option(help="Tokens of a packed row, which is one micro-batch.")] = 1024,
    rows: Annotated[int, typer.Option(help="Packed rows of a step, over all replicas.")] = 1,
    steps: Annotated[int, typer.Option(help="Steps that are measured.")] = 10,
    warmup: Annotated[int, typer.Option(help="Steps before them.")] = 2,
    profiled: Annotated[int, typer.Option(help="Steps after them that tell where the time goes.")] = 2,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    layout: Annotated[str, typer.Option(help="`tp=2,pp=2` and any other key of `parallel`.")] = "",
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes on this host.")] = 1,
    peer: Annotated[
        bool, typer.Option("--peer", help="Beside each step, forward and backward of plain transformers.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """Tokens/s, model FLOP/s against the matrix products this machine reaches, memory by rank, time by part.

    Trains for some steps on rows as training stages pack them and tells medians. Useful tokens are those that are
    no padding. Operations are those the maths needs (`models/flops.py`).
    """
    from megatron_redone.cli.benchmark import benchmark_training

    settings = {
        "preset": preset if preset or model else "qwen3-30m",
        "model": model and str(model),
        "conversations": conversations and str(conversations),
        "layers": layers,
        "document_length": document_length,
        "lengths": lengths,
        "sequence_length": sequence_length,
        "rows": rows,
        "steps": steps,
        "warmup": warmup,
        "profiled": profiled,
        "peer": peer,
        "parallel": {"precision": precision},
    }
    benchmark_training(settings, layout, nproc, out)


@benchmark_app.command("convert")
def benchmark_convert_command(
    folder: Annotated[Path, typer.Option(help="New folder with room for three times the model; kept.")],
    preset: Annotated[str, typer.Option(help="Shape by name.")] = "qwen3-30b-a3b",
    layers: Annotated[int, typer.Option(min=1, help="So many layers of it; one of Qwen3-30B-A3B has 1.2 GB.")] = 4,
    shard_gib: Annotated[float, typer.Option(help="Largest shard of the model folder, in GiB.")] = 2.0,
    processes: Annotated[int, typer.Option(min=1, help="Processes of a conversion.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Copies and conversions, in turn.")] = 3,
    peer: Annotated[
        str, typer.Option(help="A program beside ours, called with --hf and --out: `PYTHON tools/mbridge_convert.py`.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """Time and memory of both conversions, against a copy of the same bytes in the same round.

    Makes a bf16 model folder of random bits first. The page cache is dropped before each program where the system
    allows it (as root).
    """
    from megatron_redone.cli.benchmark import benchmark_conversion

    benchmark_conversion(preset, layers, folder, shard_gib, processes, rounds, out, peer)


@benchmark_app.command("data")
def benchmark_data_command(
    folder: Annotated[Path, typer.Option(help="New folder for texts and results.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder with a tokenizer.json.")],
    text: Annotated[Path | None, typer.Option(help="JSONL file to tokenize; by default made-up text.")] = None,
    megabytes: Annotated[int, typer.Option(min=1, help="Size of the made-up text.")] = 32,
    workers: Annotated[str, typer.Option(help="Numbers of processes of ours.")] = "1,2",
    rounds: Annotated[int, typer.Option(min=1, help="Every program runs once a round, in turn.")] = 3,
    shard_mib: Annotated[int, typer.Option(min=1, help="Shards of ours, in MiB of text.")] = 4,
    peer: Annotated[Path | None, typer.Option(help="Megatron-LM's tools/preprocess_data.py.")] = None,
    peer_path: Annotated[str, typer.Option(help="PYTHONPATH of the peer: where `megatron.training` lies.")] = "",
    memory_megabytes: Annotated[str, typer.Option(help="`64,256,1024`: memory over sizes of made-up text.")] = "",
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """Tokens/s and memory of `redone curate tokenize`, of the bare tokenizer library and of Megatron-LM's script.

    The same text and tokenizer for all, in turn, some rounds; ratios are medians of ratios inside one round.
    """
    from megatron_redone.benchmarks.data import DataBenchmark
    from megatron_redone.cli.benchmark_data import benchmark_data

    counts, sizes = (tuple(int(part) for part in value.split(",") if part) for value in (workers, memory_megabytes))
    benchmark = DataBenchmark(
        folder,
        tokenizer,
        text,
        megabytes,
        counts,
        rounds,
        shard_mib,
        peer,
        peer_path,
        sizes,
    )
    benchmark_data(benchmark, out)


@benchmark_app.command("score")
def benchmark_score_command(
    answers: Annotated[int, typer.Option(min=1, help="Answers a scorer is given.")] = 400,
    workers: Annotated[str, typer.Option(help="Numbers of processes; 0: in this one.")] = "0,1,2",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 3,
    programs: Annotated[int, typer.Option(min=0, help="Programs through the sandbox; 0 leaves it out.")] = 200,
    sns_bench: Annotated[Path | None, typer.Option(help="Folder of SNS-Bench: its gold answers are scored.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Run of examples/quickstart on this machine: what scoring takes of an RL step.")
    ] = None,
    rollout: Annotated[int, typer.Option(min=1, help="Answers of a rollout (quickstart: 16 prompts, 8 each).")] = 128,
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """Answers a second of each scorer, programs a second in the sandbox, and their share of an RL step."""
    from megatron_redone.cli.benchmark_score import benchmark_score

    counts = tuple(int(part) for part in workers.split(","))
    benchmark_score(answers, counts, rounds, programs, sns_bench, run, rollout, out)


@benchmark_app.command("rollout")
def benchmark_rollout_command(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="More settings: `seed=1 vllm.kv_cache_gib=2 parallel.precision=bf16`.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Shape by name, with random weights: `qwen3-30m`.")] = None,
    model: Annotated[Path | None, typer.Option(help="Hugging Face model folder instead.")] = None,
    engines: Annotated[
        str, typer.Option(help="Some of megatron, transformers and vllm; the first is compared with.")
    ] = "megatron,transformers",
    prompts: Annotated[int, typer.Option(help="Prompts.")] = 32,
    samples: Annotated[int, typer.Option(help="Sequences of each prompt.")] = 4,
    prompt_tokens: Annotated[int, typer.Option(help="Longest prompt; the shortest has half of it.")] = 128,
    new_tokens: Annotated[int, typer.Option(help="Tokens of every sequence.")] = 64,
    temperature: Annotated[float, typer.Option(help="0: greedy, which all engines must answer alike.")] = 1.0,
    rounds: Annotated[int, typer.Option(help="Rounds; all engines run once in each.")] = 3,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """Generated tokens/s of our generator, transformers and vLLM: same weights, prompts, lengths, type and threads."""
    from megatron_redone.cli.benchmark_rollout import benchmark_rollout

    settings = {
        "preset": preset if preset or model else "qwen3-30m",
        "model": model and str(model),
        "engines": [name for name in engines.split(",") if name],
        "prompts": prompts,
        "samples": samples,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "temperature": temperature,
        "rounds": rounds,
        "parallel": {"precision": precision},
    }
    benchmark_rollout(settings, overrides or [], out)


@benchmark_app.command("sync")
def benchmark_sync_command(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="More: `servers.urls=[http://node7:8600] servers.transfer_folder=/shared/weights`."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Shape by name, with random weights: `qwen3-30m`.")] = None,
    model: Annotated[Path | None, typer.Option(help="Hugging Face model folder instead.")] = None,
    ways: Annotated[
        str, typer.Option(help="copy, the limit, then some of export, checked, vllm and servers.")
    ] = "copy,export,checked",
    rounds: Annotated[int, typer.Option(help="Rounds; all ways are gone once in each.")] = 3,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """How long weights take from the trainer to vLLM or to servers, against a copy of the same bytes."""
    from megatron_redone.cli.benchmark_sync import benchmark_sync

    settings = {
        "preset": preset if preset or model else "qwen3-30m",
        "model": model and str(model),
        "ways": [name for name in ways.split(",") if name],
        "rounds": rounds,
        "parallel": {"precision": precision},
    }
    benchmark_sync(settings, overrides or [], out)


@benchmark_app.command("rl")
def benchmark_rl_command(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="More settings: `dapo.max_new_tokens=128 dpo.peer_batches=[2] max_repeats=5`."),
    ] = None,
    parts: Annotated[str, typer.Option(help="Some of dapo, dpo and rollout.")] = "dapo,dpo,rollout",
    model: Annotated[
        Path | None, typer.Option(help="Hugging Face model folder; by default a random one of 20M parameters.")
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="rows.jsonl for DAPO; by default invented ones.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Preference pairs for DPO; by default invented ones.")] = None,
    peer: Annotated[str, typer.Option(help="`.venv-trl/bin/python tools/trl_rl.py`; by default ours alone.")] = "",
    vllm_python: Annotated[
        Path | None, typer.Option(help="Python of the environment with vLLM, for the part rollout.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Every side runs once a round, in its own process.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of every side.")] = 2,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """A DAPO step by part and DPO pairs/s beside TRL, tokens/s of the generators; same model, tokens and threads.

    A run during which other processes took over 0.1 core is repeated (`max_other_cores`, `max_repeats`), and told.
    """
    from megatron_redone.cli.benchmark_rl import benchmark_rl

    settings = {
        "parts": [name for name in parts.split(",") if name],
        "model": model and str(model),
        "rows": rows and str(rows),
        "pairs": pairs and str(pairs),
        "peer": peer,
        "vllm_python": vllm_python and str(vllm_python),
        "rounds": rounds,
        "threads": threads,
        "precision": precision,
    }
    benchmark_rl(settings, overrides or [], out)


@benchmark_app.command("rl-side", hidden=True)
def benchmark_rl_side_command(
    settings: Annotated[Path, typer.Argument(help="Settings that `redone benchmark rl` wrote.")],
    out: Annotated[Path, typer.Option(help="JSON file for the steps.")],
) -> None:
    """Our side of one run of `redone benchmark rl`, in a process of its own."""
    from megatron_redone.cli.benchmark_rl import measure_our_side

    measure_our_side(settings, out)


@benchmark_app.command("sweep")
def benchmark_sweep_command(
    folder: Annotated[Path, typer.Option(help="One JSON file a layout; those that are there are not measured again.")],
    layout: Annotated[
        list[str], typer.Option(help="Ranks and layout: `1`, `2:tp=2`, `2:pp=2,recompute=full`; may be repeated.")
    ],
    preset: Annotated[str | None, typer.Option(help="Shape by name, with random weights: `qwen3-30m`.")] = None,
    model: Annotated[Path | None, typer.Option(help="Hugging Face model folder instead.")] = None,
    conversations: Annotated[Path | None, typer.Option(help="JSONL of `messages`, packed as SFT packs them.")] = None,
    lengths: Annotated[str, typer.Option(help="Of random documents: fixed, or redone (its SFT data's).")] = "fixed",
    sequence_length: Annotated[int, typer.Option(help="Tokens of a packed row.")] = 1024,
    rows: Annotated[int, typer.Option(help="Packed rows of a step, over all replicas.")] = 2,
    steps: Annotated[int, typer.Option(help="Steps that are measured.")] = 5,
    profiled: Annotated[int, typer.Option(help="Steps after them that tell where the time goes.")] = 1,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    gpu: Annotated[
        str | None, typer.Option(help="h100, h200 or a100: MFU over its peak; by default over what is measured beside.")
    ] = None,
) -> None:
    """`benchmark train` on several layouts, beside what the planner expects of each; writes sweep.md and sweep.json.

    TFLOP/s and MFU are model operations: three forward passes of matrix products of every token, causal attention
    inside documents, active experts and the output layer (`models/flops.py`), over the seconds of a step, and over the
    matrix products that this machine reached beside it. The planner's efficiency comes from the other layouts alone.

    An ended sweep goes on with the same command. Exit code 1: a layout failed; it is told, and tried again next time.
    """
    from megatron_redone.cli.benchmark_sweep import benchmark_sweep

    source = {"preset": preset or (None if model else "qwen3-30m"), "model": model, "conversations": conversations}
    words = {"lengths": lengths, "sequence-length": sequence_length, "rows": rows, "steps": steps}
    benchmark_sweep(folder, layout, {**source, **words, "precision": precision, "profiled": profiled}, gpu)
