# Everything from a fresh clone: `make demo`, `make test`; `make env` only prepares .venv.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out/digits

.PHONY: demo test lint env lock clean

demo: env
	$(BIN)/seedlab sweep --config=seedlab:digits --runs=1000 --out=$(OUT)
	$(BIN)/seedlab report $(OUT)
	$(BIN)/seedlab replay $(OUT) --run=417

test: env lint
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

lint: env
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

env: .venv/ready

# The lock names versions and hashes, no index: it works with whatever index pip is set up for.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "seedlab needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# jax 0.11 needs Python 3.12; the lock serves 3.11 to 3.13 with one version.
lock:
	uv pip compile pyproject.toml build-requirements.in --extra=test --extra=cluster --universal --python-version=3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command='make lock' \
	  --constraint=constraints.txt -o requirements.lock

clean:
	rm -rf .venv out
