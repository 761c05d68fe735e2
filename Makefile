# `make` without a target lists the targets.
PYTHON ?= python3
WORKERS ?= 3
BIN := .venv/bin
# Neither command below connects to Redis: the address only makes the settings name one.
MANAGE := DJANGO_DEBUG=1 REDIS_URL=redis://127.0.0.1:6379/0 $(BIN)/python manage.py

.DEFAULT_GOAL := help
.PHONY: help run cluster install test check format site bench paths coverage mutation tools lock wheel clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1|/' | column -t -s '|'

run: ## start the demo on 127.0.0.1 with its own Valkey (PORT=8000, REDIS_URL=..., or MEMORY=1 for no Redis)
	@$(PYTHON) tools/bootstrap.py run
	@exec $(BIN)/python -m project.run

cluster: ## start three processes on a Cluster behind nginx, to be killed at will (docs/cluster.md; PORT=8000)
	@$(PYTHON) tools/bootstrap.py run
	@exec $(BIN)/python -m project.cluster

install: ## install what the targets below need into .venv (DJANGO=6.1 for another release of Django)
	@$(PYTHON) tools/bootstrap.py dev

test: install ## run all tests, against servers that the tests start themselves
	@$(BIN)/python -m pytest -n $(WORKERS)

check: install ## lint, formatting, types, layers, migrations, Django's checks, and the tests of the documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import-linter --no-logo
	$(MANAGE) check --fail-level WARNING
	$(MANAGE) makemigrations --check --dry-run
	$(BIN)/python -m pytest -q tests/docs

format: install ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

site: install ## build the documentation site into data/site; a warning is an error
	@$(BIN)/python -m sphinx -q -W --keep-going docs data/site
	@echo "data/site/index.html"

bench: install ## run the benchmarks, side by side with other servers (docs/benchmarks.md)
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.events
	@$(BIN)/python -m benchmarks.modern

paths: install ## count the functions and files that one request crosses (docs/benchmarks.md)
	@$(BIN)/python -m benchmarks.paths

coverage: install ## run all tests and show what they do not reach
	@$(BIN)/coverage erase
	@$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term --cov-report=html:data/coverage

mutation: install ## change code at random and count what no test notices (hours; PART=lua COUNT=40 for some)
	@$(BIN)/python -m pip install --quiet "cosmic-ray>=8.7,<9" "universalmutator>=1.14,<2"
	@$(BIN)/python tools/mutation.py $(if $(PART),--part $(PART)) $(if $(COUNT),--count $(COUNT))

tools: install ## install the conformance suite and the MCP clients that the tests drive into .cache
	@$(BIN)/python -m tests.support.programs

wheel: install ## build and check the distributions and their bill of materials in dist/, and look for known vulnerabilities
	@$(BIN)/python tools/release.py

lock: ## update constraints.txt to the newest versions that pyproject.toml allows
	@$(PYTHON) tools/lock.py

clean: ## delete everything installed or generated, and the demo's data
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .coverage* dist staticfiles
	find data -mindepth 1 ! -name .gitkeep -delete
