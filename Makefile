# make run: train and sample the default model.  make test: lint and every test.
# Both make .venv on the first call and install nothing on the second.

PYTHON ?= python3
BIN := .venv/bin
INPUTS := setup.cfg pyproject.toml constraints.txt
# Huge pages for large blocks (glibc 2.35 and newer; ignored elsewhere): a training step takes
# about a tenth less time on a CPU, most of it page faults.
FAST := GLIBC_TUNABLES=glibc.malloc.hugetlb=1

# The extra [tpu-compile], in a folder that no interpreter looks into: with libtpu on its path, jax
# on a machine without a TPU looks for one at every start, and warns unless JAX_PLATFORMS=cpu is set.
# The tests that compile for TPUs name the file in TPU_LIBRARY_PATH.
TPU := .venv/tpu

.PHONY: run test lint test-peers test-pods verify-pods bench clean

run: .venv/installed
	$(FAST) $(BIN)/python -m experiments.run --config configs/pretrain_nano.py

# Two processes, each with whole files: most of a test's time is one thread compiling.
test: lint .venv/installed-tpu-compile
	$(BIN)/python -m pytest --ignore=tests/peers -n 2 --dist loadfile

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p lilith -p experiments

# The comparisons with a real model skip, with the reason, where it can not be downloaded (93 MB).
test-peers: .venv/installed-dev .venv/installed-peers
	-$(BIN)/python -c "from lilith.interop.hub import find_model; find_model('smollm2-135m-instruct')"
	$(BIN)/python -m pytest tests/peers

test-pods: .venv/installed-dev .venv/installed-tpu-compile
	$(BIN)/python -m pytest tests/pods

# Whole models for whole pods: minutes of one core for each row of benchmarks/pod_rows.py.
verify-pods: .venv/installed-dev .venv/installed-tpu-compile
	$(BIN)/python -m pytest tests/pods/test_verify_pods.py -m pods --timeout 3600

bench: .venv/installed-peers
	$(FAST) $(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.checkpoint
	$(BIN)/python -m benchmarks.shamshel
	$(BIN)/python -m benchmarks.generation
	$(BIN)/python -m benchmarks.quant

clean:
	rm -rf .venv .cache build *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "LILITH needs Python 3.11 or newer; '$(PYTHON)' is older or absent." \
	       "Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python $(INPUTS)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv/installed-tpu-compile: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --prefix $(TPU) 'lilith[tpu-compile]'
	@ls $(TPU)/lib/python*/site-packages/libtpu/libtpu.so > /dev/null
	@touch $@

.venv/installed-peers: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[peers]'
	@touch $@
