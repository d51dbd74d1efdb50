# make demo       the whole product on a synthetic scene, results in out/demo
# make test       lint, types, import contracts, and every test that needs nothing but Python
# make test-real  what needs real programs: Ray with killed processes, QGIS, GDAL, Chromium
# make venv       just the environment (CUDA=1: the locked environment of GPU nodes)
# make lock       renew the lock files from pyproject.toml
# make zoo        train the shipped bundles again
# make chaos      hurt a real cluster at random, for as long as you like
# make bench      the measurements behind every figure in docs/
# make bench-peers SIZE=4096   against MONAI, terratorch, Ray Data and a hand-written loop

SHELL := /bin/bash
PYTHON ?= python3.11
# Where pip finds a CPU build of torch, for machines whose pip does not know one:
#   make venv TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
LOCK := requirements/$(if $(CUDA),cuda,cpu).txt
BIN := .venv/bin
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: system-programs venv docs golden chaos test test-real demo lint format lock zoo zoo-aerial bench bench-peers clean

venv: .venv/ready-$(notdir $(LOCK))

# Every package is checked against the hashes in the lock file, except a CPU build of torch: its hash depends on the index
# that it comes from.
.venv/ready-$(notdir $(LOCK)): $(LOCK) requirements/torch.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(LOCK)
	$(if $(CUDA),,$(BIN)/python -m pip install --quiet --no-deps $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		-r requirements/torch.txt)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Labelled imagery, which is not part of this repository: docs/models.md says where it is from.
IMAGERY := ../shared/data/dubai

# Bundles are made beside those that are shipped: what is interrupted goes on, and what is finished takes their place.
define ship
	$(BIN)/batchseg model tune --device cpu out/zoo/$(1)
	mkdir -p batchseg/zoo/$(1)
	cp out/zoo/$(1)/{item.json,weights.safetensors,README.md} batchseg/zoo/$(1)
endef

zoo: venv
	$(BIN)/batchseg train configs/train/synthetic-heavy-base.yaml out/zoo/synthetic-heavy-base
	$(BIN)/batchseg train configs/train/synthetic-heavy-details.yaml out/zoo/synthetic-heavy-details
	$(BIN)/batchseg train configs/train/synthetic-heavy-agree.yaml out/zoo/synthetic-heavy-agree
	$(BIN)/batchseg train configs/train/synthetic-heavy.yaml out/zoo/synthetic-heavy
	$(call ship,synthetic-heavy)
	$(BIN)/batchseg distill configs/train/synthetic-bulk.yaml out/zoo/synthetic-bulk
	$(call ship,synthetic-bulk)
	@if test -d $(IMAGERY); then $(MAKE) zoo-aerial; else \
		echo "zoo:aerial-* are not trained again: there is no $(IMAGERY); docs/models.md says where to get it"; fi

zoo-aerial: venv
	$(BIN)/batchseg train configs/train/aerial-heavy.yaml out/zoo/aerial-heavy
	$(call ship,aerial-heavy)
	$(BIN)/batchseg train configs/train/synthetic-bulk-wide.yaml out/zoo/synthetic-bulk-wide
	$(BIN)/batchseg distill configs/train/aerial-bulk.yaml out/zoo/aerial-bulk
	$(call ship,aerial-bulk)
	rm -rf batchseg/zoo/aerial-bulk-int8
	$(BIN)/batchseg quantize batchseg/zoo/aerial-bulk batchseg/zoo/aerial-bulk-int8 \
		--calibrate $(IMAGERY)/scene_4.tif --labels $(IMAGERY)/scene_4_labels.tif --tiles 64

# After a change that is meant to change output bytes; raise ENGINE_REVISION with it.
golden: venv
	BATCHSEG_RENEW_GOLDEN=1 $(BIN)/python -m pytest -m real tests/jobs/test_shipped.py -k golden

bench: venv
	$(BIN)/python -m bench.encode
	$(BIN)/python -m bench.engine
	$(BIN)/python -m bench.scale
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.dispatch
	$(BIN)/python -m bench.tiers
	$(BIN)/python -m bench.s3
	$(BIN)/python -m bench.models

bench-peers: venv
	$(BIN)/python -m bench.peers --size $(or $(SIZE),4096) $(ARGS)

docs: venv
	$(BIN)/python -m batchseg.recipe.document docs/recipe.md
	$(BIN)/python -m batchseg.training.document docs/training.md
	$(BIN)/python -m jobs.python_page docs/python.md

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest -m "not real" --numprocesses auto --maxprocesses 4

# QGIS and GDAL as analysts have them, the browser that looks at reports, and Ceph's S3 server; on Debian they install
# themselves.
SYSTEM_PROGRAMS := python3-qgis gdal-bin chromium fonts-dejavu-core ceph-mon ceph-osd radosgw

system-programs:
	@if command -v apt-get > /dev/null && ! dpkg -s $(SYSTEM_PROGRAMS) > /dev/null 2>&1; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			$(SYSTEM_PROGRAMS) > /dev/null; \
	fi

test-real: venv system-programs
	$(BIN)/python -m pytest -m real --timeout 900

# A cluster that is hurt at random; prints its seed. make chaos SEED=7 ROUNDS=20
chaos: venv
	$(BIN)/python -m tests.jobs.chaos $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS))

# uv resolves. CPU environments leave CUDA's packages out, since torch's CPU build does not need them.
UV_COMPILE = $(BIN)/uv pip compile --no-header --no-annotate --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 --quiet
lock: venv
	$(BIN)/python -m pip install --quiet uv
	$(UV_COMPILE) pyproject.toml --upgrade --generate-hashes --output-file requirements/cuda.txt
	$(UV_COMPILE) pyproject.toml --extra dev --constraint requirements/cuda.txt \
	| grep -v -E '^(nvidia-|triton|cuda-)' > requirements/cpu.in
	grep '^torch==' requirements/cpu.in > requirements/torch.txt
	grep -v '^torch==' requirements/cpu.in | $(UV_COMPILE) - --no-deps --generate-hashes \
		--output-file requirements/cpu.txt
	rm requirements/cpu.in

demo: venv
	rm -rf out/demo
	$(BIN)/python -m jobs.demo

clean:
	rm -rf out .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
