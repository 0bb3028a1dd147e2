"""From a recipe to jobs of a cluster: a job a stage, chained as the stages read each other. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.files import atomic_write_text
from megatron_redone.config.loading import apply_overrides
from megatron_redone.config.yaml_document import write_document
from megatron_redone.launch.slurm.batch_file import Job, Place, Servers
from megatron_redone.launch.slurm.config import ClusterConfig, NodesConfig
from megatron_redone.models.config import ModelShape
from megatron_redone.recipes.config import DAPOStage
from megatron_redone.recipes.data_stages import RegMixProxiesStage
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.plan import input_problems, model_shape
from megatron_redone.recipes.stage_config import ModelStage, StageConfig, TrainingStage, artefacts_of, is_path
from megatron_redone.recipes.workspace import Workspace

CHECKPOINT_BYTES = {"fp32": 4 + 8, "bf16": 2 + 4 + 8, "fp64": 8 + 16}
"""Bytes of a parameter in a checkpoint: its weight, (an fp32 copy,) two moments of Adam."""

PARTS = "-parts"
"""The array that trains the parts of a stage `proxies` is the job `proxies-parts`."""


def jobs_of(
    recipe: Recipe,
    overrides: Sequence[str],
    cluster: ClusterConfig,
    place: Place,
    num_nodes: Mapping[str, int],
    array_tasks: int,
) -> list[Job]:
    """The jobs of all stages that are not done, in the order of the recipe.

    Args:
        overrides: of the recipe, as the user gave them.
        num_nodes: nodes by stage; under "" those of every other stage that runs a model.
        array_tasks: tasks of the array of proxy runs; 1 makes no array.

    Raises:
        ConfigError: every stage whose layout does not fit its processes, whose checkpoint does not fit the time, ...
    """
    waiting = [name for name in recipe.stages if not stage_stands(recipe, name)]
    problems = [*input_problems(recipe), *_unknown_stages(recipe, num_nodes)]
    jobs: list[Job] = []
    for name in waiting:
        stage = recipe.stages[name]
        nodes, count = _nodes(name, stage, cluster, num_nodes)
        problems += stage_problems(recipe, name, cluster, count * nodes.ranks_per_node)
        after = tuple(dict.fromkeys(ref for _, ref in artefacts_of(stage) if not is_path(ref) and ref in waiting))
        command = ("run", str(recipe.path.resolve()), *overrides, "--only", name)
        says = f"Stage {name} (kind {stage.kind}) of the recipe {recipe.config.name}."
        if isinstance(stage, RegMixProxiesStage) and array_tasks > 1:
            parts = _parts(recipe, name, place, nodes, array_tasks, after)
            jobs.append(parts)
            after, command = (parts.name,), (*command, f"{name}.finished={place.folder(parts.name) / 'parts'}")
        servers = _servers(recipe, name, stage, cluster, num_nodes)
        jobs.append(Job(name, says, nodes, count, command, after, servers=servers))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return jobs


def stage_stands(recipe: Recipe, name: str) -> bool:
    """Whether the stage is done, for all seeds, from its present settings and inputs."""
    workspace = Workspace(recipe, recipe.config.output)
    runs = [run for run in recipe.runs if run.name == name]
    try:
        return all(workspace.is_done(run) for run in runs)
    except InputError:
        return False  # an input is not there yet


def _unknown_stages(recipe: Recipe, num_nodes: Mapping[str, int]) -> list[str]:
    known = ", ".join(recipe.stages)
    return [f"--nodes {name}={count}: no such stage; stages: {known}" for name, count in num_nodes.items()
            if name and name.removesuffix(":servers") not in recipe.stages]  # fmt: skip


def _nodes(
    name: str, stage: StageConfig, cluster: ClusterConfig, num_nodes: Mapping[str, int]
) -> tuple[NodesConfig, int]:
    """Kind and number of the nodes of a stage; by default as many as one copy of its model needs."""
    if not isinstance(stage, ModelStage):
        return cluster.data.model_copy(update={"ranks_per_node": 1}), 1
    parallel = stage.parallel
    needed = -(-parallel.model_parallel_size() * parallel.cp // cluster.model.ranks_per_node)
    return cluster.model, num_nodes.get(name, num_nodes.get("", max(1, needed)))


def stage_problems(recipe: Recipe, name: str, cluster: ClusterConfig, world_size: int) -> list[str]:
    """What is wrong with a stage on so many processes of this cluster."""
    stage = recipe.stages[name]
    if not isinstance(stage, ModelStage):
        return []
    found = stage.parallel.problems(world_size)
    shape: ModelShape | None = None
    try:
        shape = model_shape(recipe, name)
    except InputError as error:
        found.append(str(error))
    if shape is not None and not found:
        found = shape.layout_problems(stage.parallel)
    if shape is not None and isinstance(stage, TrainingStage):
        size = shape.num_parameters() * CHECKPOINT_BYTES[stage.parallel.precision]
        seconds = size / (cluster.checkpoint_gb_per_second * 1e9)
        if seconds > cluster.signal_seconds:
            found.append(
                f"a checkpoint of {size / 1e9:,.0f} GB takes {seconds:,.0f} s at checkpoint_gb_per_second="
                f"{cluster.checkpoint_gb_per_second:g}, longer than signal_seconds={cluster.signal_seconds}; "
                f"set signal_seconds to {round(2 * seconds)} or more in the cluster profile"
            )
    return [f"stage {name}: {problem}" for problem in found]


def _parts(recipe: Recipe, name: str, place: Place, nodes: NodesConfig, tasks: int, after: tuple[str, ...]) -> Job:
    """An array that trains the stage's proxy runs in parts; the stage's own job then takes the finished runs over."""
    (run,) = (run for run in recipe.runs if run.name == name)
    job = f"{name}{PARTS}"
    folder = place.folder(job)
    settings = recipe.stages[name].model_dump(mode="json", exclude={"kind"}) | {"seed": run.run_seed}
    paths = [
        f"{field}={(recipe.path.parent / reference if is_path(reference) else place.run / reference).resolve()}"
        for field, reference in run.inputs.items()
    ]
    settings = apply_overrides(settings, paths)
    atomic_write_text(folder / "settings.yaml", write_document(settings))
    command = (
        "curate", "regmix-proxies", str(folder / "settings.yaml"), f"part={{task}}/{tasks}",
        "--out", f"{folder}/parts/{{task}}/proxies",
    )  # fmt: skip
    says = f"The proxy runs of stage {name} of the recipe {recipe.config.name}, in {tasks} parts."
    return Job(job, says, nodes, 1, command, after, array=tasks)


def _servers(
    recipe: Recipe, name: str, stage: StageConfig, cluster: ClusterConfig, num_nodes: Mapping[str, int]
) -> Servers | None:
    """Rollout servers for a stage of reinforcement learning that asks for them and names none."""
    wanted = num_nodes.get(f"{name}:servers")
    if wanted is None:
        return None
    if not isinstance(stage, DAPOStage):
        raise ConfigError([f"--nodes {name}:servers={wanted}: only a dapo stage has rollout servers; leave it out"])
    model = Path(stage.model) if is_path(stage.model) else Path(f"{stage.model}/model")
    base = recipe.path.parent if is_path(stage.model) else recipe.config.output
    generation = stage.generation
    settings = (
        f"max_prompt_tokens={generation.max_prompt_tokens}",
        f"max_new_tokens={generation.max_new_tokens}",
        f"vllm.dtype={generation.vllm.dtype}",
        f"vllm.tensor_parallel_size={generation.vllm.tensor_parallel_size}",
    )
    nodes = cluster.rollout or cluster.model
    nodes = nodes.model_copy(update={"ranks_per_node": 1})
    return Servers(nodes, wanted, str((base / model).resolve()), settings, name)
