"""`redone evaluate` on the online tasks: the defaults of `redone online`, whose options say more."""

from __future__ import annotations

from megatron_redone.cli.evaluate_app import EvaluateOptions
from megatron_redone.cli.online import harmful, search
from megatron_redone.common.errors import InputError
from megatron_redone.evaluation.online.search import SearchSettings

MAX_REFUSED_SHARE = 0.01


def evaluate_online(options: EvaluateOptions) -> None:
    """`online-harmful`: notes in `data`, scores by `model` or in `predictions`; `online-search`: logs in `data`,
    rankings in `predictions`.

    Raises:
        InputError: a model where rankings are asked for.
    """
    if options.benchmark == "online-harmful":
        harmful(
            options.data,
            options.out,
            None,
            options.model,
            "f1",
            0.5,
            options.limit,
            options.seed,
            MAX_REFUSED_SHARE,
            options.predictions,
        )
        return
    if options.predictions is None:
        raise InputError("online-search weighs rankings; give them with --predictions, lines of {query, ranking}")
    search(options.data, options.out, options.predictions, None, SearchSettings(seed=options.seed), MAX_REFUSED_SHARE)
