# Two commands do everything: `make quickstart` and `make test`. Each makes .venv when it is not there yet.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FAISS ?= cpu

.PHONY: quickstart test test-slow lint benchmarks clean

quickstart: $(VENV)/.ready-$(FAISS)
	$(BIN)/vocabalign run pipelines/quickstart.yaml

test: $(VENV)/.ready-$(FAISS)
	$(BIN)/python -m pytest

test-slow: $(VENV)/.ready-$(FAISS)
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(VENV)/.ready-$(FAISS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy vocabalign

benchmarks: $(VENV)/.ready-$(FAISS)
	$(BIN)/python benchmarks/run_all.py

# torch is installed first and by itself: its CPU build satisfies every later requirement, so nothing
# fetches the CUDA libraries. With a GPU, install torch as pytorch.org says and run `make FAISS=gpu`.
$(VENV)/.ready-$(FAISS): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f'vocabalign needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: say make PYTHON=python3.12')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 $(TORCH_INDEX)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(FAISS),lora,trackers,report,dev]"
	touch $@

clean:
	rm -rf $(VENV) build runs *.egg-info
