PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
READY := .venv/.ready
SEEDS ?= 1 2 3
INTO ?=
NDT_ARMS := baseline teacher hard soft feature correlation ensemble self multitask
ARMS ?= $(NDT_ARMS) $(foreach backbone,stndt lfads,$(addprefix $(backbone)_,baseline teacher hard))
COMPARE = PATH="$(CURDIR)/$(BIN):$$PATH" FAMILY=simulated SEEDS="$(SEEDS)" INTO="$(INTO)"
PLAIN = $(BIN)/python -m blend_pl baseline experiments/simulated_baseline.yaml --seeds "[$$(echo $(SEEDS) | tr ' ' ,)]"
CALCIUM_ARMS ?= with_behavior baseline teacher feature alpha1
CALCIUM_SEEDS ?= 1 2 3 4 5
LFP_ARMS ?= ss_lfp ms_lfp teacher distilled ms_distilled
RUNS ?= runs/demo/simulated_hard
OUTPUT ?= submission.h5
ARGS ?= --score $(if $(filter runs/demo/%,$(RUNS)),--name mc_maze)

.DEFAULT_GOAL := help
.PHONY: help env demo demo-calcium demo-lfp recipes nlb-submit test test-all lint format bench bench-gpu bench-full clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(READY) ## create the environment in .venv

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "blend_pl needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv "$(TORCH)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(READY) ## teacher, student and controls on a simulated session; table and figures in runs/demo/report
	@$(PLAIN) --output runs/demo
	@$(COMPARE) ARMS="baseline teacher hard self" OUTPUT=runs/demo bash experiments/compare.sh

demo-calcium: $(READY) ## five arms on simulated calcium recordings; identity of held-out cells in runs/demo_calcium/report
	@$(COMPARE) FAMILY=bugeon_simulated SEEDS="$(CALCIUM_SEEDS)" ARMS="$(CALCIUM_ARMS)" OUTPUT=runs/demo_calcium \
		bash experiments/compare.sh

demo-lfp: $(READY) ## spike teacher, students of the LFP and baselines on simulated sessions; table of sessions in runs/demo_lfp/report
	@$(COMPARE) FAMILY=simulated_lfp ARMS="$(LFP_ARMS)" OUTPUT=runs/demo_lfp bash experiments/compare.sh

recipes: $(READY) ## every backbone, strategy and control on the simulated session, with costs; INTO=README.md#recipes keeps the table
	@$(PLAIN) --output runs/recipes
	@$(COMPARE) ARMS="$(ARMS)" OUTPUT=runs/recipes bash experiments/compare.sh

nlb-submit: $(READY) ## EvalAI file of NLB'21 from RUNS (the demo's students) to OUTPUT; more options in ARGS
	$(BIN)/python -m blend_pl submit $(RUNS) --output "$(OUTPUT)" $(ARGS)

test: $(READY) ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(READY) ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m ""

lint: $(READY) ## style, types, and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put the code into its form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY) ## speed and memory, as ratios against a reference in the same run
	$(BIN)/python -m pytest tests/benchmarks -m benchmark -s

bench-gpu: $(READY) ## the same for what a GPU is for: a training step, and many models at once
	$(BIN)/python -m pytest tests/benchmarks/test_step.py tests/benchmarks/test_many.py -m benchmark -s

bench-full: $(READY) ## teacher and student of MC_Maze's size, from NWB to scored rates; on a GPU it gives up after 10 minutes
	$(BIN)/python -m pytest tests/benchmarks/test_full.py -m benchmark -s

clean: ## remove the environment, caches and build files; keeps data and runs
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
