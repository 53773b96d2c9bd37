# The two commands of the README are `make demo` and `make test`; `make base` trains the shipped model from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.PHONY: demo smoke test lint pytest docs reference base scenes benchmarks clean

demo: $(STAMP)  ## Set up, then make a clip with sound from a prompt, on a CPU
	mkdir -p out
	$(BIN)/mova generate "drum pads are hit: red, blue, red" --seed 7 -o out/demo.mp4 --sheet out/demo.png

test: $(STAMP)  ## Lint, types, layers, and all tests beside them
	$(MAKE) --jobs=2 --no-print-directory lint pytest

smoke:  ## Install with the lowest and with the newest versions allowed, and generate, sync, check and replay with each
	.ci/smoke $(PYTHON) lowest
	.ci/smoke $(PYTHON) newest

# bytecode is kept even where the environment says not to: to compile the tests again takes longer than many of them
pytest: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## Build the site of the docs into out/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

reference: $(STAMP)  ## Write docs/reference from the docstrings
	$(BIN)/python docs/make_reference.py

base: $(STAMP)  ## Train mova-base from nothing; resumes where it stopped
	$(BIN)/mova train recipes/base/*.yaml

scenes: $(STAMP)
	mkdir -p out
	$(BIN)/mova scenes sheet -o out/scenes.png

benchmarks: $(STAMP)
	$(BIN)/python benchmarks/base_model.py --bridge-off
	$(BIN)/python benchmarks/clapper.py
	$(BIN)/python benchmarks/codecs.py
	$(BIN)/python benchmarks/directions.py --long-clips 8
	$(BIN)/python benchmarks/directions_ceiling.py
	$(BIN)/python benchmarks/health.py
	$(BIN)/python benchmarks/outside.py
	$(BIN)/python benchmarks/robust.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/structure.py
	$(BIN)/python benchmarks/sync_any.py --num 10 --seed 15000 --save benchmarks/results/sync_any.json

# torch comes first and alone: asked for together with the rest, the newest build with its CUDA packages would be taken
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) out
