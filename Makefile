# make demo | test | test-slow | lint | bench | gpu | gpu-rehearsal | gpu-data | docs | site  -- each sets up what it needs in .venv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
# Hundreds of processes start: compiled modules are kept, whatever the environment says of them.
TEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q --cases 2

.PHONY: demo test test-slow lint bench gpu gpu-rehearsal gpu-data docs site setup clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "arcsm needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[all,dev]"
	mkdir -p $(VENV)/share/man && ln -sfn $(CURDIR)/man $(VENV)/share/man/man1 # left out of editable installations
	touch $@

DEMO_MODEL := arcsm:mnist

# Draw digits from a model that comes with arcsm, with their likelihoods; then train one in a minute.
demo: $(READY)
	mkdir -p demo
	$(BIN)/arcsm sample $(DEMO_MODEL) -n 25 --seed 1 --no-clip --force -o demo/first.h5 --png demo/first.png
	$(BIN)/arcsm eval $(DEMO_MODEL) demo/first.h5 --no-perturb --metric nll,bpd
	@echo "demo/first.png: what $(DEMO_MODEL) drew, and above their exact likelihood. Now one of your own:"
	$(BIN)/arcsm train --config docs/recipes/digits-demo.toml --force -o demo/digits.safetensors
	$(BIN)/arcsm sample demo/digits.safetensors -n 64 --seed 1 --denoise --force \
	  -o demo/samples.h5 --png demo/samples.png
	$(BIN)/arcsm plot demo/digits.safetensors --force -o demo/training.png
	$(BIN)/arcsm eval demo/digits.safetensors digits --metric nll,bpd
	@echo "Look at demo/first.png, demo/samples.png (what the new model drew) and demo/training.png."

test: $(READY)
	$(TEST) -n $(WORKERS)

# Faults by the hundred, memory at length, clusters, statistics of many draws, and of each test the
# cases beyond the two that `make test` runs.
test-slow: $(READY)
	$(TEST) -n $(WORKERS) -m slow

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --package arcsm_cli
	$(BIN)/mypy commands
	$(BIN)/python -m arcsm_cli.cli.reference --check

bench: $(READY)
	$(BIN)/python bench/bench.py

# On a machine with a GPU: tests, speeds and short trainings in GPU_MINUTES (12), into gpu-results/.
gpu:
	@bench/gpu/start

# The same stages at toy size on the CPU.
gpu-rehearsal: $(READY)
	OMP_NUM_THREADS=1 PYTHONSAFEPATH=1 $(BIN)/python bench/gpu/run.py --rehearsal --minutes 40 --out gpu-rehearsal

# Data that travel: MNIST=FOLDER CIFAR10=FOLDER PATCHES=FOLDER, those there are.
gpu-data: $(READY)
	$(BIN)/python bench/gpu/pack.py gpu-data $(if $(MNIST),--mnist $(MNIST)) \
	  $(if $(CIFAR10),--cifar10 $(CIFAR10)) $(if $(PATCHES),--patches $(PATCHES))

docs: $(READY)
	$(BIN)/python -m arcsm_cli.cli.reference

# The documentation as a site, in site/; broken links are errors.
site: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "Read it with its search: $(BIN)/python -m http.server -d site"

clean:
	rm -rf $(VENV) demo site gpu-results gpu-rehearsal build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
