# The CPU environment of requirements/cpu.lock. Build from the checkout:
#   docker build -f slurm/images/cpu.Dockerfile -t redone-cpu .
FROM docker.io/library/python:3.11-slim-bookworm

# bubblewrap: the sandbox; g++: torch's compiler where it is switched on; procps: what operators look with
RUN apt-get update \
 && apt-get install -y --no-install-recommends bubblewrap g++ procps \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/redone
COPY requirements/cpu.lock requirements/
# TORCH_INDEX: an index of CPU builds makes the image several gigabytes smaller
ARG TORCH_INDEX=
RUN pip install --no-cache-dir --disable-pip-version-check ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} \
      -r requirements/cpu.lock
COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --editable . \
 && redone --help >/dev/null

ENV PYTHONUNBUFFERED=1
CMD ["redone", "doctor"]
