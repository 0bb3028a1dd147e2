"""Router replay in the loop: the trainer sends each token to the experts that it had in the rollout.

The choices are those of the in-process generator, which alone can give them. They are replayed in every pass over the
answers: the old log-probabilities, the comparison with the generator's, and the updates. The reference model chooses
for itself. It works on every layout; whole-layer recomputation under a pipeline is refused, since there the routers run
again when other micro-batches have passed.
"""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.generation.base import Completion
from megatron_redone.models.expert_choices import expert_signal_names, expert_signals
from megatron_redone.training.engine import MegatronEngine


def check_replayable(engine: MegatronEngine) -> None:
    """Raises InputError where the model or the layout cannot replay choices of experts."""
    layout = engine.context.config
    if not engine.shape.is_moe:
        raise InputError("router_replay=true with a model without experts: there is nothing to replay; leave it out")
    if layout.recompute == "full" and layout.pp > 1:
        raise InputError(
            f"router_replay=true with parallel.recompute=full and parallel.pp={layout.pp}: the routers run again in "
            "the backward pass, when other micro-batches have passed; take recompute=selective or none"
        )


def replay_names(engine: MegatronEngine) -> list[str]:
    """Names of the signals that a batch carries for replay."""
    return expert_signal_names(range(1, engine.shape.num_layers + 1), engine.shape.experts_per_token)


def replay_signals(completion: Completion, num_prompt_tokens: int) -> dict[str, list[int]]:
    """The signals of the document of a prompt and its answer.

    Raises:
        RedoneError: the generator gave no choices.
    """
    if completion.experts is None:
        raise RedoneError(
            "router_replay=true, and an answer came without the experts of its tokens; take "
            "generation.engine=megatron, and remove the folder of rollouts that were recorded without them"
        )
    return expert_signals(completion.experts, num_prompt_tokens + len(completion.token_ids))


def all_signals(names: Sequence[str], engine: MegatronEngine, replay: bool) -> list[str]:
    """The names of the signals that the loss reads, and those of replay."""
    return [*names, *(replay_names(engine) if replay else [])]
