# make demo      segmentation demo: teacher, student alone, student distilled; a table and a picture
# make demo-det  the same for a detector
# make digits    every method on three pairs of DigitScenes, resumable; the tables of docs/digits.md
# make test      the tests
# make test-road the README's recipes and a config of each family at full size, under mmdet's and mmseg's scripts
# make test-numbers  thousands of drawn cases a loss; docs/reliability.md has what came of it
# make test-mutants  small faults, one at a time: does a test see each? docs/reliability.md
# make coverage  which branches the tests run
# make test-cpus the tests once under each kind of CPU kernels; docs/machines.md keeps the result
# make bundle    what an offline machine with a GPU needs to run its tests and benchmarks, in bundle/
# make docs      the documentation, build/docs/index.html; a warning is an error
# make lint      ruff, mypy, codespell
# make setup     only what all of them do first: everything they need, in .venv
# make X-onedl   any of these with the onedl forks of the OpenMMLab packages, in .venv-onedl

PYTHON ?= python3.11
# Extra options for every pip call, for example PIP_OPTIONS='--index-url …' for another torch build.
PIP_OPTIONS ?=
TORCH ?= torch==2.13.0
# Only these tests, for example TESTS=tests/losses.
TESTS ?=
# pytest's processes in make test-cpus, by default one a core.
WORKERS ?=
# For make bundle: the other machine's Python, and the packages that it has besides torch.
BUNDLE_PYTHON ?= 3.12
HAS ?= numpy scipy matplotlib pillow scikit-learn opencv-python-headless
# Which OpenMMLab packages: requirements/$(STACK).txt. Each stack has an environment of its own.
STACK ?= official

VENV := .venv$(if $(filter-out official,$(STACK)),-$(STACK))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_OPTIONS)
DONE := $(VENV)/.done
FAIL = { echo "make: $(1)" >&2; exit 1; }

TARGETS := setup demo demo-det digits test test-road test-numbers test-mutants coverage test-cpus docs lint bundle
.PHONY: $(TARGETS) $(TARGETS:=-onedl) clean
setup: $(DONE)-project

$(TARGETS:=-onedl): %-onedl:
	@$(MAKE) --no-print-directory STACK=onedl $*

$(DONE)-venv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	  $(call FAIL,$(PYTHON) is not Python 3.10 to 3.12; write make PYTHON=/path/to/python3.11)
	@echo 'Creating $(VENV)'
	@$(PYTHON) -m venv $(VENV) || $(call FAIL,no virtual environment; install the venv module of $(PYTHON))
	@$(PIP) 'setuptools>=77,<81' wheel ninja || $(call FAIL,pip found no package index; see PIP_OPTIONS in the Makefile)
	@touch $@

$(DONE)-torch: $(DONE)-venv
	@echo 'Installing $(TORCH)'
	@$(PIP) '$(TORCH)' -r requirements/runtime.txt || \
	  $(call FAIL,torch or a requirement was not found; pass another index with PIP_OPTIONS)
	@touch $@

# The build of mmcv imports torch and pkg_resources, so they come first.
$(DONE)-openmmlab: $(DONE)-torch requirements/$(STACK).txt
	@echo 'Installing the $(STACK) OpenMMLab packages (builds mmcv: 4 to 7 minutes on 2 cores, once)'
	@MAX_JOBS=$${MAX_JOBS:-$$(nproc)} CFLAGS=-g0 \
	  $(PIP) --no-build-isolation --no-deps -r requirements/$(STACK).txt || \
	  $(call FAIL,a package was not found or mmcv did not build; it needs gcc$(comma) g++ and the Python headers)
	@touch $@

$(DONE)-project: $(DONE)-openmmlab requirements/dev.txt pyproject.toml
	@$(PIP) -r requirements/dev.txt
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

comma := ,

test: setup
	$(BIN)/python -m pytest -n auto -m 'not road' $(TESTS)

test-road: setup
	$(BIN)/python -m pytest -n auto -m road tests/tools/test_prove_configs.py

test-numbers: setup
	KD_PLUGIN_NUMBERS=docs/results/reliability/numbers.json $(BIN)/python -m pytest tests/test_numbers.py

test-mutants: setup
	$(BIN)/python -W ignore tests/mutants.py --out docs/results/reliability/mutants.json

coverage: setup
	$(BIN)/python -m pytest -n auto --cov=kd_plugin --cov-branch --cov-report=term:skip-covered -m "not road" $(TESTS)

test-cpus: setup
	PYTHONPATH=tools $(BIN)/python -W ignore tests/cpus.py $(if $(WORKERS),--workers $(WORKERS)) $(TESTS)

bundle: setup
	PIP_OPTIONS='$(PIP_OPTIONS)' $(BIN)/python benchmarks/bundle.py --python $(BUNDLE_PYTHON) --has $(HAS)

$(DONE)-docs: $(DONE)-project requirements/docs.txt
	@$(PIP) -r requirements/docs.txt
	@touch $@

docs: $(DONE)-docs
	$(BIN)/python -W ignore -m sphinx -W --keep-going -q -d build/docs-cache docs build/docs
	@echo 'build/docs/index.html'

lint: setup
	$(BIN)/ruff check kd_plugin tools tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/codespell kd_plugin tools tests benchmarks docs README.md CONTRIBUTING.md

demo: setup
	$(BIN)/python -W ignore tools/demo.py seg

demo-det: setup
	$(BIN)/python -W ignore tools/demo.py det

digits: setup
	@for pair in deeplabv3 retinanet faster-rcnn; do \
	  $(BIN)/python -W ignore tools/run_experiments.py @configs/plans/demo_$$pair.txt && \
	  $(BIN)/python -W ignore tools/step_costs.py @configs/plans/demo_$$pair.txt --threads 1 || exit 1; \
	done
	$(BIN)/python tools/make_table.py --refresh docs/digits.md

clean:
	rm -rf .venv .venv-* work_dirs data bundle build
