"""RegMix: mixtures, proxy runs, the best mixture."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megatron_redone.common.errors import DataError, Interrupted
from megatron_redone.common.logging import configure_logging, get_logger
from megatron_redone.curation.regmix.config import RegMixFitConfig, RegMixProxiesConfig
from megatron_redone.curation.regmix.proxy import (
    RUNS,
    UNFINISHED,
    ProxyPlan,
    ProxyResult,
    ProxyRun,
    fingerprint_of,
    planned_runs,
    run_proxy,
)
from megatron_redone.curation.regmix.results import read_result_file, take_finished, write_tables
from megatron_redone.curation.regmix.sampling import sample_mixtures
from megatron_redone.curation.regmix.search import natural_shares, read_runs, search, write_outcome
from megatron_redone.curation.regmix.tables import MIXTURES, read_mixtures, read_prior, write_prior, write_table
from megatron_redone.data.indexed_corpus import PretrainSamples
from megatron_redone.data.token_folder import read_token_shards
from megatron_redone.launch.processes import end_with_parent
from megatron_redone.parallel.context import build_context
from megatron_redone.recipes import data_stages as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.worker_pool import WorkerPool
from megatron_redone.reporting.regmix import write_regmix_page
from megatron_redone.training.stop import install_stop_signals, stop_signal, stopped

LOG = get_logger("regmix")
NO_TOKEN = -1
MIXTURE_TOLERANCE = 0.005
"""So far from 1 the weights of a mixture may add up; runs divide them by their sum."""


def run_regmix_mixtures(execution: Execution) -> None:
    """A table of mixtures, and the natural shares they were drawn around."""
    config = execution.config(kinds.RegMixMixturesStage)
    prior = config.prior or {
        domain: float(_tokens_in(execution.input_path(f"domains.{domain}"))) for domain in config.domains
    }
    shares = {domain: amount / sum(prior.values()) for domain, amount in prior.items()}
    mixtures = sample_mixtures(config, np.array(list(shares.values())))
    names = [f"{number:05}" for number in range(1, len(mixtures) + 1)]  # the same where more are asked for later
    write_table(execution.work / MIXTURES, names, list(shares), mixtures)
    write_prior(execution.work, shares)
    execution.counts |= {"mixtures": len(mixtures), "domains": len(shares)}


def _tokens_in(folder: Path) -> int:
    """Tokens of a corpus with an end token for each document."""
    shards = read_token_shards(folder)
    samples = PretrainSamples(shards.prefixes, sequence_length=2, eos_id=NO_TOKEN, seed=0)  # adds an end token to each
    return samples.tokens_per_epoch - (samples.num_documents if shards.eos_stored else 0)


def run_regmix_proxies(execution: Execution) -> None:
    """A run for each mixture, side by side; what an interruption left undone is done by the next start."""
    config = execution.config(kinds.RegMixProxiesStage)
    mixtures = read_mixtures(execution.input_path("mixtures"), MIXTURE_TOLERANCE)
    plan = _plan(execution, config)
    runs = planned_runs(config, mixtures, list(config.domains), execution.seed)
    if not runs:
        raise DataError(f"part={config.part!r} of {len(mixtures.names)} mixtures is empty; make fewer parts")
    (execution.work / UNFINISHED).mkdir(exist_ok=True)  # such a work folder is kept when settings change
    if config.finished is not None:
        taken = take_finished(execution.input_path("finished"), runs, plan.fingerprint, execution.work)
        execution.counts["taken_over"] = taken
    pending = [run for run in runs if not (execution.work / RUNS / f"{run.id}.json").is_file()]
    LOG.info("%d runs, %d of them done", len(runs), len(runs) - len(pending))
    if config.workers == 1 and execution.context.world_size == 1:
        _train_here(plan, pending, execution)
    else:
        _train_side_by_side(plan, pending, execution.work, config)
    results = [read_result_file(execution.work / RUNS / f"{run.id}.json") for run in runs]
    write_tables(execution.work, mixtures.columns, list(config.validation), results, config.num_seeds)
    folder = execution.input_path("mixtures")
    prior = read_prior(folder) if folder.is_dir() else None
    if prior is not None:
        write_prior(execution.work, prior)
    execution.counts |= {
        "runs": len(results),
        "parameters": results[0].parameters,
        "tokens_per_run": results[0].trained_tokens,
        "steps_skipped": sum(result.steps_skipped for result in results),
    }


def _plan(execution: Execution, config: kinds.RegMixProxiesStage) -> ProxyPlan:
    hashes = {field: record["sha256"] for field, record in execution.identity["inputs"].items()}
    return ProxyPlan(
        config=RegMixProxiesConfig(**{name: getattr(config, name) for name in RegMixProxiesConfig.model_fields}),
        checkpoint=config.checkpoint,
        domains={name: execution.input_path(f"domains.{name}") for name in config.domains},
        validation={name: execution.input_path(f"validation.{name}") for name in config.validation},
        tokenizer=execution.model_folder("tokenizer"),
        model=None if config.model.path is None else execution.model_folder("model.path"),
        fingerprint=fingerprint_of(config, hashes),
    )


def _train_here(plan: ProxyPlan, pending: Sequence[ProxyRun], execution: Execution) -> None:
    context = build_context(plan.parallel)
    for number, run in enumerate(pending, start=1):
        if stop_signal():
            raise _stopped_before(run)
        began = time.monotonic()
        _tell(run_proxy(plan, run, execution.work, context), number, len(pending))
        _note_time(execution.work, run, time.monotonic() - began)


def _train_side_by_side(
    plan: ProxyPlan, pending: Sequence[ProxyRun], work: Path, config: kinds.RegMixProxiesStage
) -> None:
    """Hands the runs to a pool. After a failure or a stop nothing new begins; what runs ends or checkpoints."""
    import torch

    threads = max(1, torch.get_num_threads() // config.workers)
    places = multiprocessing.get_context("spawn").Value("i", 0)
    waiting, began = list(pending), {}
    failure: BaseException | None = None
    with WorkerPool[ProxyRun](config.workers, _start_worker, (plan, work, os.getpid(), threads, places)) as pool:
        while pool.running or (waiting and failure is None):
            while waiting and failure is None and pool.has_room:
                run = waiting.pop(0)
                began[run.id] = time.monotonic()
                pool.submit(_run_in_worker, run)
            for run, error in pool.finished():
                if error is None:
                    result = read_result_file(work / RUNS / f"{run.id}.json")
                    _tell(result, len(pending) - len(waiting) - len(pool.running), len(pending))
                    _note_time(work, run, time.monotonic() - began[run.id])
                failure = failure or error
            if failure is None and waiting and stop_signal():
                failure = _stopped_before(waiting[0])
    if failure is not None:
        raise failure


def _stopped_before(run: ProxyRun) -> Interrupted:
    return stopped(f"stopped before run {run.id}; the same command goes on with it", stop_signal())


def _tell(result: ProxyResult, number: int, total: int) -> None:
    losses = ", ".join(f"{name} {loss:.4f}" for name, loss in result.losses.items())
    LOG.info("run %s (%d of %d): %s", result.id, number, total, losses)


def _note_time(work: Path, run: ProxyRun, seconds: float) -> None:
    with (work / "timing.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": run.id, "seconds": round(seconds, 3)}) + "\n")


_worker: tuple[ProxyPlan, Path, Any] | None = None


def _start_worker(plan: ProxyPlan, work: Path, parent: int, threads: int, places: Any) -> None:
    """First call in each process of the pool; each takes a GPU of the host in turn, where there are any."""
    import torch

    global _worker
    end_with_parent(parent)
    configure_logging()
    install_stop_signals()
    torch.set_num_threads(threads)
    with places.get_lock():
        place = places.value
        places.value += 1
    context = build_context(plan.parallel, local_rank=place % max(1, torch.cuda.device_count()))
    _worker = plan, work, context


def _run_in_worker(run: ProxyRun) -> None:
    """Trains a run in a process of the pool."""
    assert _worker is not None
    plan, work, context = _worker
    run_proxy(plan, run, work, context)


def run_regmix_fit(execution: Execution) -> None:
    """The regression and what it predicts to be best."""
    stage = execution.config(kinds.RegMixFitStage)
    config = RegMixFitConfig(**{name: getattr(stage, name) for name in RegMixFitConfig.model_fields})
    folder = execution.input_path("mixtures")
    if stage.losses is None and not folder.is_dir():
        raise DataError(f"mixtures={stage.mixtures!r} is a file; give `losses` as well, the table of the same runs")
    train = read_runs(config, folder, execution.input_path("losses") if stage.losses is not None else folder)
    tests = [
        read_runs(config, execution.input_path(f"test_mixtures.{place}"), execution.input_path(f"test_losses.{place}"))
        for place in range(len(stage.test_mixtures))
    ]
    prior, source = natural_shares(config, train, folder)
    outcome = search(config, train, tests, prior, source)
    inputs = {field: record["sha256"] for field, record in execution.identity["inputs"].items()}
    write_outcome(execution.work, outcome, {"inputs_sha256": inputs, "fit_seed": config.fit_seed})
    write_regmix_page(execution.work)
    execution.counts |= {"runs": outcome.result.num_runs, "trees": outcome.result.iterations}
    execution.counts |= {f"spearman/{table.name}": table.spearman for table in outcome.result.sets}
    execution.counts |= {f"predicted/{mixture.name}": mixture.predicted_loss for mixture in outcome.result.mixtures}
