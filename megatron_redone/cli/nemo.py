"""`redone nemo export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_redone.common.errors import ConfigError
from megatron_redone.common.files import atomic_directory, atomic_write_text
from megatron_redone.common.logging import CONSOLE
from megatron_redone.models.families import read_shape
from megatron_redone.nemo_aligner.config import ContainerConfig
from megatron_redone.recipes.config import DPOStage
from megatron_redone.recipes.graph import StageRun
from megatron_redone.recipes.single_stage import load_stage
from megatron_redone.recipes.stage_config import model_folder

if TYPE_CHECKING:
    from megatron_redone.data.chat_template import ChatTemplate
    from megatron_redone.training.preference_pairs import PairSet


def export(settings: Sequence[str], out: Path, container: ContainerConfig, check: bool) -> None:
    """Writes the folder `out`, and checks it if asked to; arguments as those of the command."""
    from megatron_redone.conversion.output import check_output
    from megatron_redone.data.chat_template import ChatTemplate
    from megatron_redone.data.tokenizer import load_tokenizer
    from megatron_redone.training.preference_pairs import PairSet

    check_output(out)
    given = list(settings)
    file = Path(given.pop(0)) if given and "=" not in given[0] else None
    recipe = load_stage("dpo", file, [*given, "backend=nemo-aligner"], out)
    (run,) = recipe.runs
    assert isinstance(run.config, DPOStage)
    stage, model = run.config, model_folder(Path(run.inputs["model"]))
    _refuse_what_it_cannot(stage, model, container)
    template = ChatTemplate(load_tokenizer(model))
    with PairSet(stage, template) as pairs, PairSet(stage, template) as held_out:
        refused = _read(run, recipe.config.max_refused_share, pairs, held_out)
        with atomic_directory(out.resolve()) as folder:
            counts = _write(run, model, template, pairs, held_out, container, folder, out.resolve())
        for name, count in {**counts, "pairs_refused": refused}.items():
            _say(f"  {name}: {count:,}")
        _say(f"written: {out}; there: sbatch submit.sbatch, or train.sh inside the container")
        if check:
            _check(stage, model, out, container, pairs)


def _refuse_what_it_cannot(stage: DPOStage, model: Path, container: ContainerConfig) -> None:
    from megatron_redone.nemo_aligner.export_settings import layout_problems, unmapped
    from megatron_redone.nemo_aligner.model_config import model_problems

    found = unmapped(stage.model_dump())
    found += layout_problems(stage, stage.nemo_aligner, stage.parallel, stage.checkpoint, container.world_size)
    found += model_problems(read_shape(model), stage.parallel)
    if found:
        raise ConfigError(found)


def _read(run: StageRun, max_refused_share: float, pairs: PairSet, held_out: PairSet) -> int:
    """Fills both sets as the stage does; how many pairs were refused."""
    from megatron_redone.recipes.executors.dpo import TRAIN, read_pairs, validation_file

    assert isinstance(run.config, DPOStage)
    folder = Path(run.inputs["pairs"])
    refused, _ = read_pairs(folder / TRAIN if folder.is_dir() else folder, run.run_seed, max_refused_share, pairs)
    if run.config.validation is not None:
        more, _ = read_pairs(validation_file(folder), run.run_seed, max_refused_share, held_out)
        refused += more
    return len(refused)


def _write(
    run: StageRun,
    model: Path,
    template: ChatTemplate,
    pairs: PairSet,
    held_out: PairSet,
    container: ContainerConfig,
    folder: Path,
    final: Path,
) -> dict[str, int]:
    from megatron_redone.nemo_aligner import export as files
    from megatron_redone.nemo_aligner.export_settings import CHECKPOINT, CONFIG, TRAIN, VALIDATION, configuration
    from megatron_redone.nemo_aligner.launch_files import SUBMIT_SCRIPT, TRAIN_SCRIPT, submit_script, train_script
    from megatron_redone.nemo_aligner.model_config import TOKENIZER

    stage, shape = run.config, read_shape(model)
    assert isinstance(stage, DPOStage)
    files.write_tokenizer(template.tokenizer, template, folder / TOKENIZER)
    left_out = files.write_pairs(pairs, folder / TRAIN)
    held_out_left_out = files.write_pairs(held_out, folder / VALIDATION) if len(held_out) else []
    counts = {
        "pairs": len(pairs) - len(left_out),
        "validation_pairs": len(held_out) - len(held_out_left_out),
        "pairs_left_out_merged_tokens": len(left_out) + len(held_out_left_out),
        **pairs.counts,
    }
    tree = configuration(
        stage,
        stage.nemo_aligner,
        stage.parallel,
        stage.checkpoint,
        container,
        run.run_seed,
        counts["pairs"],
        counts["validation_pairs"],
    )
    files.write_yaml(folder / CONFIG, tree)
    files.write_checkpoint(
        model, shape, stage.parallel, folder / CHECKPOINT, container.mount, stage.max_length, run.run_seed
    )
    for name, text in ((TRAIN_SCRIPT, train_script(container)), (SUBMIT_SCRIPT, submit_script(container, final))):
        atomic_write_text(folder / name, text)
        (folder / name).chmod(0o755)
    files.write_record(folder, {**stage.model_dump(mode="json"), "seed": run.run_seed}, counts)
    return counts


def _check(stage: DPOStage, model: Path, out: Path, container: ContainerConfig, pairs: PairSet) -> None:
    from megatron_redone.nemo_aligner.export_check import check_export, engine_of_export
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import build_context, shutdown

    try:
        engine = engine_of_export(model, stage.parallel.precision, build_context(ParallelConfig()))
        log = out.with_name(f"{out.name}.check.log")
        checked = check_export(out, container.mount, stage.nemo_aligner.python, log, pairs, engine)
    finally:
        shutdown()
    _say(
        f"checked by NeMo-Aligner's and NeMo's classes: {checked.pairs:,} pairs read as the same tokens, "
        f"{checked.parameters:,} parameters loaded, log-probabilities of {checked.answers} answers within "
        f"{checked.largest_gap:.1e} of ours"
    )


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
