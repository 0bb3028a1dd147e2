"""The scripts of an export: one that runs inside NeMo's container, and one for `sbatch` around it."""

from __future__ import annotations

import shlex
from pathlib import Path

from megatron_redone.nemo_aligner.config import ContainerConfig
from megatron_redone.nemo_aligner.export_settings import CONFIG

TRAIN_SCRIPT, SUBMIT_SCRIPT = "train.sh", "submit.sbatch"


def train_script(container: ContainerConfig) -> str:
    """Starts NeMo-Aligner's own program; under Slurm one task is one rank, else torchrun starts the ranks."""
    return f"""#!/bin/bash
# Runs inside NeMo's container, with this folder mounted at {container.mount}.
# Settings behind the name are handed on: train.sh trainer.dpo.max_steps=10
set -euo pipefail
export HYDRA_FULL_ERROR=1
export PYTHONPATH={container.aligner_folder}:"${{PYTHONPATH:-}}"
if [ -n "${{SLURM_PROCID:-}}" ]; then
  start=(python -u)
else
  start=(torchrun --nproc-per-node={container.gpus_per_node})
fi
exec "${{start[@]}}" {container.aligner_folder}/examples/nlp/gpt/train_gpt_dpo.py \\
  --config-path={container.mount} --config-name={Path(CONFIG).stem} "$@"
"""


def submit_script(container: ContainerConfig, folder: Path) -> str:
    """A batch file for Slurm with containers by Pyxis (`srun --container-image`)."""
    options = {
        "job-name": "redone-dpo",
        "nodes": container.nodes,
        "ntasks-per-node": container.gpus_per_node,
        "gpus-per-node": container.gpus_per_node,
        "time": container.time_limit,
        "account": container.account,
        "partition": container.partition,
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "#SBATCH --exclusive",
            "set -euo pipefail",
            "# Where this folder stands now; it may be moved.",
            f"folder=${{EXPORT_FOLDER:-{shlex.quote(str(folder))}}}",
            'mkdir -p "$folder/results"',
            'srun --output="$folder/results/%j_%t.log" --no-container-mount-home \\',
            f'  --container-image={shlex.quote(container.image)} --container-mounts="$folder:{container.mount}" \\',
            f"  bash {container.mount}/{TRAIN_SCRIPT}",
            "",
        ]
    )
