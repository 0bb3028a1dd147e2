"""diagnosis.html: which tasks a model fails, why each is in the bucket or not, and how it fails.

`diagnosis_view` and the macros of `templates/diagnosis_parts.jinja` give the same to other pages.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_text
from megatron_redone.reporting.capability_map import capability_map
from megatron_redone.reporting.plots import diagnosis_chart
from megatron_redone.reporting.schema import DiagnosisResult
from megatron_redone.reporting.templating import render

PAGE = "diagnosis.html"


def write_diagnosis_page(found: DiagnosisResult, folder: Path) -> Path:
    """Writes the page of a diagnosis into a folder."""
    atomic_write_text(folder / PAGE, render("diagnosis.html.jinja", view=diagnosis_view(found, "diagnosis")))
    return folder / PAGE


def diagnosis_view(found: DiagnosisResult, name: str) -> dict[str, Any]:
    """What the macros show of a diagnosis; `name` is a prefix of ids, unique in the page.

    `map` is None for results written before capabilities were.
    """
    tasks = sorted(found.tasks, key=lambda task: (not task.weak, task.score, task.task))
    kinds: Counter[str] = Counter()
    for task in tasks:
        kinds.update(task.failure_kinds)
    return {
        "name": name,
        "diagnosis": found,
        "tasks": tasks,
        "kinds": [(kind, count) for kind, count in kinds.most_common()],
        "map": Markup(capability_map(found, f"{name}-map")) if found.capabilities else None,
        "chart": Markup(diagnosis_chart(found, f"{name}-chart")),
        "with_examples": [task for task in tasks if task.examples],
    }
