"""`redone curate`: the stages that make data, each by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.table import Table

from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import from_environ
from megatron_redone.recipes.config import STAGE_KINDS
from megatron_redone.recipes.single_stage import load_stage


def curate(kind: str, config: Path | None, overrides: Sequence[str], out: Path | None, again: bool) -> None:
    """Runs the stage into `out`, or tells its settings where there is none.

    Nothing is done when `out` was made from the same settings and inputs; an interrupted run goes on.
    """
    if out is None:
        print_settings(kind)
        return
    recipe = load_stage(kind, config, overrides, out)
    from megatron_redone.recipes.runner import StageExecutor
    from megatron_redone.recipes.workspace import Workspace
    from megatron_redone.training.stop import install_stop_signals

    install_stop_signals(None)
    workspace = Workspace(recipe, recipe.config.output)
    executor = StageExecutor(workspace, from_environ(os.environ))
    (run,) = recipe.runs
    with workspace.locked(run.id):
        if not again and workspace.is_done(run):
            _say(f"{out}: done before, with the same settings and inputs; --again makes it anew")
            return
        counts = executor.execute(run)
    for name, count in counts.items():
        _say(f"  {name}: {count:,}" if isinstance(count, int) else f"  {name}: {count:.4g}")
    _say(f"written: {out}")


def print_settings(kind: str) -> None:
    """Every setting of a stage with its default and what it means."""
    table = Table("setting", "default", "meaning")
    for name, default, meaning in _settings(STAGE_KINDS[kind]):
        table.add_row(name, default, meaning)
    CONSOLE.print(table)
    _say("Give settings in a YAML file or as key=value, and the folder for the result with --out.")


def _settings(
    model: type[BaseModel], prefix: str = "", section: BaseModel | None = None
) -> Iterator[tuple[str, str, str]]:
    """(dotted name, default, meaning); the defaults of a section are those of the field that holds it."""
    for name, field in model.model_fields.items():
        if name == "kind":
            continue
        default: Any = "required" if field.is_required() else field.default
        if default is PydanticUndefined:
            default = field.get_default(call_default_factory=True)
        if section is not None:
            default = getattr(section, name)
        inner = field.annotation
        members = get_args(inner) if isinstance(inner, UnionType) else (inner,)  # a section that may be absent
        sections = [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]
        if not sections or (default is None and len(members) > 1):
            yield f"{prefix}{name}", str(default), " ".join((field.description or "").split())
        for inside in sections:
            yield from _settings(inside, f"{prefix}{name}.", default if isinstance(default, inside) else None)


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
