# The image of GPU nodes: the locked CUDA environment and the code.
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0

RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make openssh-client rsync \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/batchseg
COPY requirements/cuda.txt requirements/cuda.txt
RUN pip install --no-deps -r requirements/cuda.txt
COPY . .
RUN pip install --no-deps --no-build-isolation .

ENTRYPOINT ["batchseg"]
CMD ["--help"]
