PYTHON ?= python3
RESOLUTION ?= locked
TORCH_locked := torch==2.13.0
TORCH_highest := torch
TORCH_lowest-direct := torch==2.6.0
TORCH ?= $(TORCH_$(RESOLUTION))
BIN := .venv/bin
READY := .venv/.ready
SEEDS ?= 1 2 3
UPDATE_DOC ?=
FUZZ_FILES ?= 500
SESSIONS ?= 201 202 203 204 205
NDT_ARMS := baseline teacher hard soft feature correlation ensemble self multitask generative generative_posterior \
	generative_self oracle ceiling
ARMS ?= $(NDT_ARMS) $(foreach backbone,stndt_small lfads_small,$(addprefix $(backbone)+,baseline teacher hard generative))
COMPARE = $(BIN)/python experiments/compare.py --seeds $(SEEDS) $(if $(UPDATE_DOC),--update_doc "$(UPDATE_DOC)")
CALCIUM_ARMS ?= with_behavior baseline teacher feature reconstruction_only
CALCIUM_SEEDS ?= 1 2 3 4 5
LFP_ARMS ?= lfp_single_session lfp_multi_session spike_teacher distilled_single_session distilled_multi_session
LFP_SETS ?= 101 102 103 104 105
LFP_SET_ARMS ?=
RUNS ?= runs/demo/simulated_hard
OUTPUT ?= submission.h5
ARGS ?= --score $(if $(filter runs/demo/%,$(RUNS)),--name mc_maze)

.DEFAULT_GOAL := help
.PHONY: help env demo demo-calcium demo-lfp lfp-sets recipes nlb-submit test test-all fuzz lint format docs bench bench-gpu bench-full clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(READY) ## create the environment in .venv; RESOLUTION=highest or lowest-direct installs the newest or oldest allowed versions

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "blend_pl needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv "$(TORCH)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[all]" --group dev \
		$(if $(filter locked,$(RESOLUTION)),--constraint constraints.txt,--resolution $(RESOLUTION))
	@touch $@

demo: $(READY) ## teacher, student and controls on a simulated session; table and figures in runs/demo/report
	@$(COMPARE) --fit_baselines --arms baseline teacher hard self --output runs/demo simulated

demo-calcium: $(READY) ## five arms on simulated calcium recordings; cell types of held-out cells in runs/demo_calcium/report
	@$(COMPARE) --seeds $(CALCIUM_SEEDS) --arms $(CALCIUM_ARMS) --output runs/demo_calcium bugeon_simulated

demo-lfp: $(READY) ## spike teacher, LFP students and baselines on simulated sessions; tables in runs/demo_lfp/report
	@$(COMPARE) --arms $(LFP_ARMS) --output runs/demo_lfp simulated_lfp

lfp-sets: $(READY) ## linear decoders, and LFP_SET_ARMS, on the simulated sessions of the seeds LFP_SETS; prints a table
	@OMP_NUM_THREADS=1 $(BIN)/python experiments/lfp_sets.py --seeds $(LFP_SETS) --arms $(LFP_SET_ARMS)

recipes: $(READY) ## every backbone, strategy and control on SESSIONS simulated sessions, with costs; UPDATE_DOC=experiments/README.md#recipes writes the tables there
	@$(COMPARE) --fit_baselines --sessions $(SESSIONS) --arms $(ARMS) --output runs/recipes simulated

nlb-submit: $(READY) ## EvalAI file of NLB'21 from RUNS (by default the demo's students) in OUTPUT; more options in ARGS
	$(BIN)/python -m blend_pl submit $(RUNS) --output "$(OUTPUT)" $(ARGS)

test: $(READY) ## all tests except slow tests and benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(READY) ## all tests and benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m ""

fuzz: $(READY) ## read FUZZ_FILES mutated NWB files: right tensors or an error of one line
	OMP_NUM_THREADS=1 BLEND_PL_FUZZ_FILES=$(FUZZ_FILES) $(BIN)/python -m pytest -s tests/data/io/test_nwb_fuzz.py

lint: $(READY) ## style, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY) ## API reference in docs/, from the docstrings
	$(BIN)/python .ci/build_api_reference.py docs

bench: $(READY) ## speed and memory, as ratios against a reference in the same run
	$(BIN)/python -m pytest tests/benchmarks -m benchmark -s

bench-gpu: $(READY) ## the same on a GPU: a training step, and several models at once
	$(BIN)/python -m pytest tests/benchmarks/test_step.py tests/benchmarks/test_multirun.py -m benchmark -s

bench-full: $(READY) ## teacher and student of MC_Maze's size, from NWB to scored rates; stops after 10 minutes on a GPU
	$(BIN)/python -m pytest tests/benchmarks/test_full.py -m benchmark -s

clean: ## remove the environment, caches and build files; keeps data and runs
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
