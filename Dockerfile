# medrecipes in a container: the locked stack for CPUs, or for NVIDIA GPUs.
#   docker build -t medrecipes .
#   docker build -t medrecipes:cuda --build-arg FLAVOUR=cuda .
#   docker run --rm -v "$PWD:/work" medrecipes run demo
#   docker run --rm --gpus all -v "$PWD:/work" medrecipes:cuda run my.toml
# Runs, datasets and caches land in /work, which is the folder that was mounted.
FROM python:3.12-slim

ARG FLAVOUR=cpu
ENV MEDRECIPES_FLAVOUR=${FLAVOUR} PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1

# a compiler for Triton's kernels and for llama.cpp, git for the sources of llama.cpp;
# no versions of them, for Debian keeps no old ones
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends build-essential git && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/medrecipes
COPY . .
RUN bash -c 'source scripts/install && medrecipes_demo_base'

WORKDIR /work
ENV HF_HOME=/work/.cache/huggingface MEDRECIPES_CACHE=/work/.cache/medrecipes PATH=/opt/medrecipes/.venv/bin:$PATH
ENTRYPOINT ["medrecipes"]
CMD ["--help"]
