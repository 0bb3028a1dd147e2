"""The judge that a stage's settings name: a model behind a server or in this process, or a yardstick."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from megatron_redone.common.logging import get_logger
from megatron_redone.curation.pairs.config import JudgeConfig
from megatron_redone.curation.pairs.judged import judge_identity
from megatron_redone.curation.pairs.local_judges import generated_replies, likelihood_scores
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.recipes.execution import Execution
from megatron_redone.scoring.completion_cache import CompletionCache
from megatron_redone.scoring.completion_server import CompletionServer
from megatron_redone.scoring.judge import (
    CompleteAll,
    Judge,
    PairwiseJudge,
    PointwiseJudge,
    length_scores,
    one_by_one,
    prompted_scores,
)
from megatron_redone.training.model_folder import load_engine

LOG = get_logger("judge")


@contextlib.contextmanager
def judge_of(execution: Execution, config: JudgeConfig) -> Iterator[Judge]:
    """The judge of the settings, on every rank; what it holds is freed at the end, and its use counted."""
    if config.kind == "length":
        yield PointwiseJudge(length_scores, config.min_margin)
    elif config.kind == "server":
        with _server_replies(execution, config) as complete_all:
            yield _prompted(config, complete_all)
    else:
        engine, tokenizer = load_engine(execution.model_folder("judge_model"), execution.context)
        template = ChatTemplate(tokenizer)
        if config.kind == "likelihood":
            yield PointwiseJudge(likelihood_scores(engine, template, config), config.min_margin)
        else:
            generator = execution.generator(engine, config.generation)
            yield _prompted(config, generated_replies(generator, template, config.generation, execution.seed))


def _prompted(config: JudgeConfig, complete_all: CompleteAll) -> Judge:
    if config.mode == "pairwise":
        return PairwiseJudge(complete_all)
    return PointwiseJudge(prompted_scores(complete_all), config.min_margin)


@contextlib.contextmanager
def _server_replies(execution: Execution, config: JudgeConfig) -> Iterator[CompleteAll]:
    """Replies of the server, asked by rank 0 alone; its cache is in the work folder unless the settings name one."""
    assert config.server is not None
    settings = config.server
    if not execution.context.is_main:
        yield lambda conversations: execution.context.on_main(lambda: [])
        return
    own = execution.work / "cache.sqlite"
    cache = CompletionCache(settings.cache or own)
    server = CompletionServer(settings, cache)
    ask = one_by_one(server.complete, settings.concurrency)
    try:
        yield lambda conversations: execution.context.on_main(lambda: ask(conversations))
        cache.close()
        own.unlink(missing_ok=True)
    finally:
        cache.close()
        execution.counts.update({f"judge/{name}": count for name, count in asdict(server.usage).items()})
        execution.counts["judge/cost"] = round(server.usage.cost(settings), 6)
        LOG.info("judge: %s", server.usage)


def identity_of(execution: Execution, config: JudgeConfig) -> dict[str, Any]:
    """What decides the judge's verdicts, the hash of a local model's folder among it."""
    model = execution.identity["inputs"].get("judge_model")
    return judge_identity(config, None if model is None else model["sha256"], execution.seed)
