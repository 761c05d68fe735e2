# `make` alone says what there is.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
# Neither command below asks the Redis: the address only says that there would be one.
DJANGO := DJANGO_DEBUG=1 REDIS_URL=redis://127.0.0.1:6379/0 $(BIN)/python manage.py

.DEFAULT_GOAL := help
.PHONY: help run install test check format bench coverage tools lock clean

help: ## say what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1|/' | column -t -s '|'

run: ## start the demo on 127.0.0.1 with a Valkey of its own (PORT=8000, REDIS_URL=..., MEMORY=1 for none)
	@$(PYTHON) tools/bootstrap.py run
	@exec $(BIN)/python -m project.run

install: ## put everything that the targets below need into .venv
	@$(PYTHON) tools/bootstrap.py dev

test: install ## run every test, against servers that the tests start themselves
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

check: install ## lint, format, types, migrations, Django's checks, and the tests of the documents
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(DJANGO) check --fail-level WARNING
	$(DJANGO) makemigrations --check --dry-run
	$(BIN)/python -m pytest -q tests/docs

format: install ## put the code in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install ## measure, side by side with others (docs/benchmarks.md)
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.events

coverage: install ## run every test and show what none of them reaches
	@$(BIN)/coverage erase
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --cov --cov-report=term --cov-report=html:data/coverage

tools: install ## install the conformance suite and the MCP clients that the tests drive into .cache
	@$(BIN)/python -m tests.support.programs

lock: ## write constraints.txt anew, with the newest versions that pyproject.toml allows
	@$(PYTHON) tools/lock.py

clean: ## delete everything that was installed or generated, and the demo's data
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .coverage* dist staticfiles
	find data -mindepth 1 ! -name .gitkeep -delete
