# The image of GPU nodes: the locked CUDA environment and the code, run by a user without rights.
#
# Pin the base image of your builds: --build-arg BASE_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0

RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make openssh-client rsync \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/batchseg
COPY requirements/cuda.txt requirements/cuda.txt
RUN pip install --no-deps --require-hashes -r requirements/cuda.txt
COPY . .
RUN pip install --no-deps --no-build-isolation . \
 && useradd --uid 1000 --create-home batchseg

# Ray's launcher copies files into the home folder of this user; the first user of the host has the same number.
USER batchseg

ENTRYPOINT ["batchseg"]
CMD ["--help"]
