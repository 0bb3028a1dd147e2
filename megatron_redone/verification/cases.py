"""The layouts that the suite proves, and how a case is written in one line. Imports no torch.

A line: FAMILY LAYOUT [OPTION=VALUE ...], the layout as `tp=2,pp=2,dp=2` with any key of `parallel`.
"""

from __future__ import annotations

from typing import Any

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.verification.config import LayoutCase, ResumeCase

CHOSEN = """
llama       tp=2,sequence_parallel=true
llama       pp=2,vpp=2                                 objective=dpo microbatches=3
llama       cp=2                                       objective=dapo microbatches=8
llama       dp=2,overlap=true                          labels=one
llama       dp=2,distributed_optimizer=true            microbatches=5 tie_embeddings=true
llama       tp=2,recompute=full                        objective=dapo
qwen2_5     tp=2                                       objective=dpo
qwen2_5     pp=2                                       microbatches=8 labels=one
qwen2_5     cp=2                                       labels=one microbatches=1
qwen2_5     cp=2,recompute=selective                   tie_embeddings=false
qwen2_5     dp=2,distributed_optimizer=true,overlap=true objective=dapo microbatches=3
qwen2_5     pp=2,vpp=2,recompute=full                  objective=dapo microbatches=4
qwen3       dp=2                                       microbatches=8
qwen3       tp=2                                       labels=one
qwen3       tp=2,sequence_parallel=true,recompute=selective objective=dapo
qwen3       pp=2,vpp=2                                 microbatches=1
qwen3       pp=2                                       objective=dpo tie_embeddings=false
qwen3       cp=2                                       objective=dpo
qwen3       dp=2,distributed_optimizer=true,overlap=true objective=dpo microbatches=4
qwen3       dp=2,precision=fp64                        objective=dapo
qwen3       cp=2,precision=fp64                        microbatches=3
qwen3_moe   dp=2                                       microbatches=3
qwen3_moe   dp=2,ep=2                                  objective=dapo
qwen3_moe   dp=2,ep=2,moe_dispatcher=allgather         microbatches=5
qwen3_moe   dp=2,ep=2,distributed_optimizer=true,overlap=true objective=dpo
qwen3_moe   cp=2                                       labels=one
qwen3_moe   cp=2,ep=2                                  objective=dapo
qwen3_moe   tp=2,ep=2                                  objective=dpo
qwen3_moe   tp=2,etp=2                                 tie_embeddings=true
qwen3_moe   tp=2,ep=2,moe_dispatcher=allgather         labels=one
qwen3_moe   pp=2,vpp=2                                 microbatches=3
qwen3_moe   pp=2,recompute=full                        objective=dapo
qwen3_moe   dp=2                                       aux_loss=0.1 z_loss=0.1
qwen3_moe   tp=2,ep=2                                  aux_loss=0.1 z_loss=0.1 microbatches=3
qwen3_moe   cp=2,ep=2                                  aux_loss=0.1 microbatches=3
qwen3_moe   pp=2,vpp=2                                 aux_loss=0.1 microbatches=4
qwen3_moe   dp=2,ep=2                                  z_loss=0.1 microbatches=5
llama       tp=2                                       objective=dapo_all microbatches=3
qwen3       cp=2                                       objective=dpo_all
llama       tp=2,pp=2,vpp=2,sequence_parallel=true     microbatches=4
llama       pp=2,cp=2                                  objective=dapo
llama       tp=2,dp=2,distributed_optimizer=true,overlap=true objective=dpo
qwen2_5     tp=2,cp=2,sequence_parallel=true           objective=dpo
qwen2_5     pp=2,vpp=2,dp=2,distributed_optimizer=true,overlap=true microbatches=4
qwen2_5     tp=4                                       objective=dapo
qwen3       pp=4                                       microbatches=6
qwen3       cp=4                                       objective=dapo
qwen3       tp=2,pp=2,recompute=full                   objective=dpo
qwen3       cp=2,dp=2,distributed_optimizer=true       microbatches=3
qwen3_moe   dp=4,ep=4                                  microbatches=3
qwen3_moe   dp=4,ep=2,distributed_optimizer=true       objective=dapo
qwen3_moe   tp=2,dp=2,ep=4                             objective=dpo
qwen3_moe   tp=2,pp=2,ep=2                             microbatches=3
qwen3_moe   tp=2,cp=2,ep=2                             objective=dapo
qwen3_moe   tp=2,dp=2,etp=2,ep=2,moe_dispatcher=allgather microbatches=4
qwen3_moe   pp=2,dp=2,ep=2,moe_dispatcher=allgather    microbatches=3
qwen3_moe   pp=2,cp=2,ep=2                             aux_loss=0.1 z_loss=0.1
llama       cp=2,dp=2,overlap=true                     microbatches=3
llama       tp=2,cp=2                                  labels=one
qwen2_5     tp=2,dp=2,recompute=selective              microbatches=8
qwen2_5     pp=2,dp=2,distributed_optimizer=true       objective=dpo
qwen3       tp=2,pp=2,vpp=2                            objective=dapo microbatches=2
qwen3       dp=4                                       labels=one
qwen3_moe   dp=4,ep=2                                  labels=one
qwen3_moe   cp=2,dp=2,ep=4                             microbatches=3
"""
"""Proven by every run of the tests: at least one line for each axis, family, objective and option."""

CHOSEN_RESUMES = """
qwen3       tp=2                                     tp=2
qwen3       pp=2,vpp=2                               pp=2,vpp=2
qwen3       dp=2,distributed_optimizer=true,overlap=true dp=2,distributed_optimizer=true,overlap=true
qwen3_moe   dp=2,ep=2                                dp=2,ep=2
llama       cp=2                                     cp=2
llama       dp=2,precision=bf16                      dp=2,precision=bf16
llama       tp=2                                     pp=2
qwen2_5     pp=2                                     cp=2
qwen2_5     cp=2                                     dp=2
qwen2_5     dp=2,distributed_optimizer=true          tp=2
qwen3       pp=2,vpp=2                               dp=2,distributed_optimizer=true
qwen3       tp=2,sequence_parallel=true              dp=1
qwen3       dp=1                                     dp=2,distributed_optimizer=true
qwen3_moe   dp=2,ep=2                                dp=1
qwen3_moe   dp=2,ep=2                                tp=2,etp=2
qwen3_moe   dp=2,ep=2,distributed_optimizer=true     pp=2
qwen3_moe   pp=2                                     cp=2,ep=2
qwen3       tp=2,precision=bf16                      dp=2,distributed_optimizer=true,precision=bf16
"""
"""FAMILY SAVED LOADED: layouts of a checkpoint and of its continuation, for every run of the tests."""

LAYOUTS_OF_ALL = {
    "dense": (
        "tp=2", "tp=2,sequence_parallel=true", "tp=4", "pp=2", "pp=4", "pp=2,vpp=2", "cp=2", "cp=4", "dp=2", "dp=4",
        "dp=2,overlap=true", "dp=2,distributed_optimizer=true", "dp=2,distributed_optimizer=true,overlap=true",
        "tp=2,pp=2", "tp=2,cp=2", "pp=2,cp=2", "cp=2,dp=2,distributed_optimizer=true", "tp=2,dp=2,recompute=selective",
        "pp=2,dp=2,recompute=full", "tp=2,pp=2,vpp=2,sequence_parallel=true", "tp=2,pp=2,cp=2",
    ),
    "experts": (
        "dp=2,ep=2", "dp=4,ep=4", "dp=4,ep=2", "dp=2,ep=2,moe_dispatcher=allgather", "tp=2,ep=2", "tp=2,etp=2",
        "tp=2,ep=2,moe_dispatcher=allgather", "tp=2,dp=2,ep=4", "tp=2,dp=2,etp=2,ep=2,moe_dispatcher=allgather",
        "pp=2,dp=2,ep=2", "pp=2,vpp=2,dp=2,ep=2", "cp=2,ep=2", "cp=2,dp=2,ep=4", "tp=2,cp=2,ep=2", "tp=2,pp=2,ep=2",
        "dp=2,ep=2,distributed_optimizer=true,overlap=true", "dp=2,ep=2,recompute=full", "tp=2,pp=2,dp=2,ep=2",
    ),
}  # fmt: skip
OPTIONS_OF_ALL = (
    "objective=next_token microbatches=3",
    "objective=dapo microbatches=8",
    "objective=dpo microbatches=4",
    "objective=dapo_all microbatches=4",
    "objective=dpo_all microbatches=3",
    "labels=one",
)


def chosen_cases() -> list[LayoutCase]:
    """The set of every test run."""
    return [parse_case(line) for line in CHOSEN.strip().splitlines()]


def chosen_resumes() -> list[ResumeCase]:
    """The resumes of every test run."""
    return [parse_resume(line) for line in CHOSEN_RESUMES.strip().splitlines()]


def all_cases() -> list[LayoutCase]:
    """Every layout with every family and option: minutes to an hour."""
    found = []
    for kind, families in (("dense", ("llama", "qwen2_5", "qwen3")), ("experts", ("qwen3_moe",))):
        for family in families:
            for layout in LAYOUTS_OF_ALL[kind]:
                found += [parse_case(f"{family} {layout} {options}") for options in OPTIONS_OF_ALL]
    return found


def parse_case(line: str) -> LayoutCase:
    """A case from its line.

    Raises:
        InputError: not of the form above. ConfigError: an unknown key or a value out of its range.
    """
    words = line.split()
    if len(words) < 2 or not all("=" in word for word in [*words[1].split(","), *words[2:]]):
        raise InputError(f"{line!r}: a case is written FAMILY LAYOUT [OPTION=VALUE ...], as in `qwen3 tp=2,pp=2`")
    family, layout, *options = words
    data: dict[str, Any] = apply_overrides(
        {"family": family, "layout": {}}, [*_sizes(layout, "layout", "dp"), *options]
    )
    case = validate(LayoutCase, data, line)
    problems = case.problems()
    if problems:
        raise ConfigError(problems)
    return case


def parse_resume(line: str) -> ResumeCase:
    """A resume from its line, `FAMILY SAVED LOADED [OPTION=VALUE ...]`.

    Raises:
        InputError: not of that form. ConfigError: an unknown key, or a layout that cannot be.
    """
    words = line.split()
    if len(words) < 3 or not all("=" in word for text in words[1:] for word in text.split(",")):
        raise InputError(f"{line!r}: a resume is written FAMILY SAVED LOADED, as in `qwen3 tp=2 pp=2`")
    family, save, load, *options = words
    sizes = [*_sizes(save, "save", "save_dp"), *_sizes(load, "load", "load_dp")]
    case = validate(ResumeCase, apply_overrides({"family": family, "save": {}, "load": {}}, [*sizes, *options]), line)
    problems = [*case.layout_case("save").problems(), *case.layout_case("load").problems()]
    if problems:
        raise ConfigError(problems)
    return case


def _sizes(layout: str, section: str, dp: str) -> list[str]:
    return [f"{dp}{word[2:]}" if word.startswith("dp=") else f"{section}.{word}" for word in layout.split(",")]
