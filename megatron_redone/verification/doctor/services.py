"""The sandbox for a model's programs, and the hub that models come from."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping

from megatron_redone.scoring.sandbox.backends import BACKENDS
from megatron_redone.scoring.sandbox.pool import problems_of_backend
from megatron_redone.verification.doctor.findings import Finding, error, ok, skipped, warning

HUB = "https://huggingface.co"
SECONDS = 5.0


def look_at_sandbox() -> Iterator[Finding]:
    """Which backends pass their self-test; one is enough."""
    passed = False
    for backend in BACKENDS:
        if backend == "unsafe":
            continue
        problems = problems_of_backend(backend)
        passed = passed or not problems
        if problems:
            yield warning("sandbox", f"{backend}: {'; '.join(problems)}", "see docs/sandbox.md")
        else:
            yield ok("sandbox", f"{backend} passes its self-test")
    if not passed:
        yield error("sandbox", "no backend is safe here: code rewards are refused", "install bubblewrap")


def look_at_hub(environ: Mapping[str, str], url: str = HUB) -> Iterator[Finding]:
    """Whether models can be loaded by name."""
    if environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        yield skipped("hub", "HF_HUB_OFFLINE is set: models are taken from folders")
        return
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS) as answer:
            yield ok("hub", f"{url} answers ({answer.status})")
    except (urllib.error.URLError, TimeoutError, OSError) as problem:
        reason = getattr(problem, "reason", problem)
        yield warning("hub", f"{url}: {reason}", "set HF_HUB_OFFLINE=1 and give model folders, or set https_proxy")
