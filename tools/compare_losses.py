"""Compares our SFT, DPO and DAPO losses with TRL's: value, and gradient with respect to the logits, in float64.

    python tools/compare_losses.py --trl-python .venv-trl/bin/python

Both sides get the same random logits, tokens, masks, reference and old log-probabilities. TRL's side runs in its own
environment (tools/trl_losses.py). Prints a Markdown table; the exit code is 1 where something differs by more than 1e-6
of its size (of SFT's fp32 reduction in transformers: 1e-5).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megatron_redone.common.errors import RedoneError
from megatron_redone.objectives.base import LabelledTokens, Objective
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.objectives.dpo import DPO
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.vocab_logprobs import vocab_parallel_logprobs

PAIRS, LENGTH, VOCABULARY = 5, 14, 37
BETA = 0.2
GATE, SFT_GATE = 1e-6, 1e-5

CASES: dict[str, tuple[dict[str, Any], Objective]] = {
    "SFT": ({"kind": "sft"}, NextToken()),
    "DPO sigmoid": ({"types": ["sigmoid"], "weights": [1.0]}, DPO(BETA, 0.0)),
    "DPO sigmoid + 0.3 sft": ({"types": ["sigmoid", "sft"], "weights": [1.0, 0.3]}, DPO(BETA, 0.3)),
    "DPO hinge": ({"types": ["hinge"], "weights": [1.0]}, DPO(BETA, 0.0, loss="hinge")),
    "DPO ipo": ({"types": ["ipo"], "weights": [1.0]}, DPO(BETA, 0.0, loss="ipo", preference_logprobs="mean")),
    "DPO sigmoid_norm": (
        {"types": ["sigmoid_norm"], "weights": [1.0]}, DPO(BETA, 0.0, preference_logprobs="mean")
    ),
    "DAPO": ({"kind": "dapo", "loss_type": "dapo", "kl": 0.0}, DAPO(dual_clip=None)),
    "DAPO with KL (k3)": ({"kind": "dapo", "loss_type": "dapo", "kl": 0.1}, DAPO(dual_clip=None, kl_coefficient=0.1)),
    "GRPO (sequence_mean)": (
        {"kind": "dapo", "loss_type": "grpo", "kl": 0.0}, DAPO(dual_clip=None, normalisation="sequence_mean")
    ),
}  # fmt: skip
"""Settings of TRL, and our objective for the same."""


def inputs(seed: int) -> dict[str, Tensor]:
    """2 * PAIRS rows, chosen answers first: logits [B, L, V], ids and mask [B, L], and signals of L - 1 tokens."""
    generator = torch.Generator().manual_seed(seed)
    rows = 2 * PAIRS
    start = torch.randint(2, 6, (PAIRS,), generator=generator).repeat(2)
    end = start + torch.randint(1, LENGTH - 6, (rows,), generator=generator)
    places = torch.arange(LENGTH)
    logits = torch.randn(rows, LENGTH, VOCABULARY, generator=generator, dtype=torch.float64)
    ids = torch.randint(0, VOCABULARY, (rows, LENGTH), generator=generator)
    mine = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    noise = torch.randn(2, *mine.shape, generator=generator, dtype=torch.float64) * 0.3
    return {
        "logits": logits,
        "ids": ids,
        "mask": ((places >= start[:, None]) & (places < end[:, None])).long(),
        "reference": mine + noise[0],
        "old": mine + noise[1],
        "advantages": torch.randn(rows, generator=generator, dtype=torch.float64),
    }


def ours(given: dict[str, Tensor], objective: Objective) -> tuple[float, Tensor]:
    """Our loss and its gradient, over the rows packed as pairs."""
    order = torch.arange(2 * PAIRS).view(2, PAIRS).T.reshape(-1)  # chosen, rejected, chosen, ...
    weights = given["mask"][order][:, 1:].bool()
    logits = given["logits"].clone().requires_grad_()
    labels = given["ids"][order][:, 1:][weights]
    logprobs = vocab_parallel_logprobs(logits[order][:, :-1][weights], labels)
    document = torch.arange(2 * PAIRS)[:, None].expand_as(weights)[weights]
    advantages = given["advantages"][order][document]
    signals = {"reference_logprobs": given["reference"][order][weights], "old_logprobs": given["old"][order][weights]}
    if isinstance(objective, DAPO) and not objective.kl_coefficient:
        del signals["reference_logprobs"]
    tokens = LabelledTokens(torch.ones_like(logprobs.detach()), document, {**signals, "advantages": advantages})
    units = objective.count_units(tokens)
    terms = objective(logprobs, tokens).terms
    loss = sum((term.weight * term.loss_sum / units[term.name] for term in terms), torch.zeros(()))
    (gradient,) = torch.autograd.grad(loss, logits)
    return float(loss.detach()), gradient


def theirs(given: dict[str, Tensor], python: Path) -> dict[str, np.ndarray[Any, Any]]:
    """TRL's losses and gradients by case.

    Raises:
        RedoneError: its program fails.
    """
    settings = {name: {"kind": "dpo", "beta": BETA, **case} for name, (case, _) in CASES.items()}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "inputs.npz", Path(folder) / "out.npz"
        arrays = {name: tensor.numpy() for name, tensor in given.items()}
        np.savez(source, cases=np.asarray(json.dumps(settings)), **arrays)  # type: ignore[arg-type]
        program = Path(__file__).resolve().with_name("trl_losses.py")
        command = [str(python), "-W", "ignore", str(program), str(source), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RedoneError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        with np.load(out, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares all cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", required=True, type=Path, help="Python of the environment of trl.lock")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    given = inputs(options.seed)
    try:
        expected = theirs(given, options.trl_python)
    except RedoneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("| loss | ours | TRL | difference | of the gradient |", "|---|---|---|---|---|", sep="\n")
    same = True
    for name, (_, objective) in CASES.items():
        loss, gradient = ours(given, objective)
        other, other_gradient = float(expected[f"loss/{name}"]), torch.from_numpy(expected[f"gradient/{name}"])
        of_loss = abs(loss - other) / abs(other)
        of_gradient = float((gradient - other_gradient).abs().max() / other_gradient.abs().max())
        print(f"| {name} | {loss:.9f} | {other:.9f} | {of_loss:.1e} | {of_gradient:.1e} |")
        same = same and max(of_loss, of_gradient) <= (SFT_GATE if name == "SFT" else GATE)
    print("equal" if same else "NOT equal")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
