"""Statistics of data."""

from __future__ import annotations

from pathlib import Path

from megatron_redone.common.files import atomic_write_json
from megatron_redone.curation.sft.mixing import SNS
from megatron_redone.curation.sft.pool import SourceFile, source_files
from megatron_redone.curation.stats.collect import Lengths, collect
from megatron_redone.curation.stats.labellers import CategoryLabeller, KeywordLabeller, ModelLabeller
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.text_files import CORPUS
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.generation.complete import Completer
from megatron_redone.recipes import data_stages as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.reporting.filter_page import RESULT as FILTER_RESULT
from megatron_redone.reporting.stats_page import write_stats_page


def run_stats(execution: Execution) -> None:
    """Counts in stats.json and the page stats.html. With a labelling model every rank reads, rank 0 writes."""
    config = execution.config(kinds.DataStatsStage)
    labeller = _labeller(execution, config)
    if config.labeller == "model":
        _collect(execution, config, labeller)
    else:
        execution.context.on_main(lambda: _collect(execution, config, labeller))


def _collect(execution: Execution, config: kinds.DataStatsStage, labeller: CategoryLabeller | None) -> None:
    template = ChatTemplate(load_tokenizer(execution.model_folder("tokenizer"))) if config.tokenizer else None
    files = [file for place in range(len(config.data)) for file in _files_of(execution.input_path(f"data.{place}"))]
    result, refused = collect(config, files, Lengths(template), labeller, execution.max_refused_share, execution.seed)
    execution.refused += refused
    execution.counts.update(
        rows=result.rows,
        refused=result.refused,
        median=result.lengths.summary.median,
        p95=result.lengths.summary.p95,
        longest=result.lengths.summary.longest,
        labelled=result.labelled,
    )
    if execution.context.is_main:
        atomic_write_json(execution.work / "stats.json", result.model_dump(mode="json"))
        write_stats_page(result, execution.work / "stats.html")


def _files_of(path: Path) -> list[SourceFile]:
    """The files of an input; of the folder of a filter the corpus alone, not what it tells of the dropped documents."""
    found = source_files(path, SNS)
    if not (path / FILTER_RESULT).is_file():
        return found
    return [file for file in found if file.path.parent == path and file.path.name.startswith(CORPUS)]


def _labeller(execution: Execution, config: kinds.DataStatsStage) -> CategoryLabeller | None:
    if config.labeller == "keywords":
        return KeywordLabeller()
    if config.labeller == "none":
        return None
    engine, _, template = execution.load_model()
    generator = execution.generator(engine, config.generation)
    name = Path(execution.run.inputs["model"]).name
    return ModelLabeller(Completer(generator, template, config.generation, execution.seed), name)
